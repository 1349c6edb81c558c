// C's face: the engine's bits, and an error for every wrong argument.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "calls.h"
#include "fastlstm/fastlstm.h"
#include "safetensors_file.h"

namespace {

fastlstm_layer* layer_of(const std::string& file) {
  fastlstm_layer* layer = nullptr;
  REQUIRE(fastlstm_layer_read(file.data(), file.size(), nullptr, &layer) == FASTLSTM_OK);
  return layer;
}

template <class Real>
fastlstm_layer* layer_of(const Call<Real>& call) {
  const Sizes& s = call.sizes;
  return layer_of(safetensors_file(layer_tensors<Real>({s.I, s.H, s.P, s.layers, s.D, s.cell}, s.bias, call.weights)));
}

template <class Real>
fastlstm_in in(const std::vector<Real>& array) {
  return {array.empty() ? nullptr : array.data(), array.size() * sizeof(Real)};
}
template <class Real>
fastlstm_out out(std::vector<Real>& array) {
  return {array.empty() ? nullptr : array.data(), array.size() * sizeof(Real)};
}

template <class Real>
fastlstm_call call_of(Call<Real>& c) {
  fastlstm_call call{};
  call.length = c.sizes.T;
  call.batch = c.sizes.N;
  call.threads = 1;
  call.x = in(c.x);
  call.h_0 = in(c.h_0);
  call.c_0 = in(c.c_0);
  call.output = out(c.output);
  call.h_n = out(c.h_n);
  call.c_n = out(c.c_n);
  return call;
}

std::string last_error() { return fastlstm_error(); }

}  // namespace

TEST_CASE_TEMPLATE("a run has the engine's bits", Real, float, double) {
  std::mt19937 random(7);
  for (unsigned k = 0; k < 60; ++k) {
    Sizes s = draw(random, kCells[k % 2]);
    s.batch_sizes.clear();
    s.masks = false;
    Call<Real> expected(s, k);
    expected.forward(1, false);
    Call<Real> found(s, k);
    fastlstm_layer* const layer = layer_of(found);
    fastlstm_call call = call_of(found);
    call.threads = 1 + static_cast<int>(k % 2);
    REQUIRE(fastlstm_run(layer, &call) == FASTLSTM_OK);
    CHECK(found.results() == expected.results());
    found.output.assign(found.output.size(), Real(9));
    call.h_n = call.c_n = {nullptr, 0};
    REQUIRE(fastlstm_run(layer, &call) == FASTLSTM_OK);
    CHECK(found.output == expected.output);
    fastlstm_layer_free(layer);
  }
}

TEST_CASE("lengths and resets: each stretch is a run of its own") {
  for (const fastlstm::CellKind cell : kCells) {
    Sizes s{9, 3, 4, 7, 0, 2, 1, true, true, false, {}, cell};
    Call<float> whole(s, 2);
    fastlstm_layer* const layer = layer_of(whole);
    const std::vector<std::int64_t> lengths = {9, 0, 5};
    std::vector<unsigned char> reset(9 * 3, 0);
    reset[4 * 3 + 0] = 1;
    fastlstm_call call = call_of(whole);
    call.lengths = in(lengths);
    call.reset = in(reset);
    REQUIRE(fastlstm_run(layer, &call) == FASTLSTM_OK);
    s.N = 1;
    const auto stretch = [&](std::int64_t n, std::int64_t from, std::int64_t to) {
      s.T = to - from;
      s.hx = from == 0;
      Call<float> one(s, 2);
      one.weights = whole.weights;
      for (std::int64_t t = from; t < to; ++t) std::copy_n(whole.x.begin() + (t * 3 + n) * 4, 4, one.x.begin() + (t - from) * 4);
      const auto row = [&](const std::vector<float>& all, std::vector<float>& own) {
        for (std::int64_t k = 0; s.hx && k < 2 && !all.empty(); ++k)
          std::copy_n(all.begin() + (k * 3 + n) * 7, 7, own.begin() + k * 7);
      };
      row(whole.h_0, one.h_0);
      row(whole.c_0, one.c_0);
      fastlstm_call alone = call_of(one);
      REQUIRE(fastlstm_run(layer, &alone) == FASTLSTM_OK);
      for (std::int64_t t = from; t < to; ++t)
        for (std::int64_t j = 0; j < 7; ++j) CHECK(whole.output[(t * 3 + n) * 7 + j] == one.output[(t - from) * 7 + j]);
    };
    stretch(0, 0, 4);
    stretch(0, 4, 9);
    stretch(2, 0, 5);
    for (std::int64_t t = 5; t < 9; ++t) CHECK(whole.output[(t * 3 + 2) * 7] == 0);
    for (std::int64_t j = 0; j < 7; ++j) CHECK(whole.h_n[7 + j] == whole.h_0[7 + j]);  // of the row without a step
    fastlstm_layer_free(layer);
  }
}

TEST_CASE_TEMPLATE("a stream in pieces has the bits of a run, and outlives its layer", Real, float, double) {
  for (const fastlstm::CellKind cell : kCells) {
    const Sizes s{7, 2, 5, 9, cell == fastlstm::CellKind::lstm ? 3 : 0, 2, 1, true, true, false, {}, cell};
    Call<Real> c(s, 5);
    fastlstm_layer* const layer = layer_of(c);
    fastlstm_call call = call_of(c);
    REQUIRE(fastlstm_run(layer, &call) == FASTLSTM_OK);
    fastlstm_stream* stream = nullptr;
    REQUIRE(fastlstm_stream_new(layer, 2, &stream) == FASTLSTM_OK);
    fastlstm_layer_free(layer);
    const fastlstm_in c_0 = in(c.c_0);
    REQUIRE(fastlstm_set_state(stream, c.h_0.data(), in(c.h_0).bytes, c_0.data, c_0.bytes) == FASTLSTM_OK);
    std::vector<Real> y(c.output.size());
    const std::size_t frame = 2 * 5;
    const std::size_t result = c.output.size() / 7;
    const std::size_t one = sizeof(Real);
    REQUIRE(fastlstm_step(stream, c.x.data(), frame * one, y.data(), result * one) == FASTLSTM_OK);
    fastlstm_stream* copy = nullptr;
    REQUIRE(fastlstm_stream_copy(stream, &copy) == FASTLSTM_OK);
    fastlstm_stream_free(stream);
    REQUIRE(fastlstm_block(copy, c.x.data() + frame, 6 * frame * one, y.data() + result, 6 * result * one) == FASTLSTM_OK);
    CHECK(y == c.output);
    std::vector<Real> h(c.h_n.size());
    std::vector<Real> cells(c.c_n.size());
    const fastlstm_out of_c = out(cells);
    REQUIRE(fastlstm_get_state(copy, h.data(), out(h).bytes, of_c.data, of_c.bytes) == FASTLSTM_OK);
    CHECK(h == c.h_n);
    CHECK(cells == c.c_n);
    REQUIRE(fastlstm_reset(copy, 1) == FASTLSTM_OK);
    REQUIRE(fastlstm_reset(copy, -1) == FASTLSTM_OK);
    REQUIRE(fastlstm_block(copy, c.x.data(), 0, y.data(), 0) == FASTLSTM_OK);
    fastlstm_stream_free(copy);
  }
}

TEST_CASE("sizes are told") {
  const Call<double> c({1, 1, 3, 5, 2, 2, 2, true, false, false, {}}, 1);
  fastlstm_layer* const layer = layer_of(c);
  fastlstm_sizes s;
  REQUIRE(fastlstm_layer_sizes(layer, &s) == FASTLSTM_OK);
  CHECK(s.cell == FASTLSTM_LSTM);
  CHECK(s.input_size == 3);
  CHECK(s.hidden_size == 5);
  CHECK(s.proj_size == 2);
  CHECK(s.out == 2);
  CHECK(s.num_layers == 2);
  CHECK(s.directions == 2);
  CHECK(s.number == sizeof(double));
  fastlstm_layer_free(layer);
  CHECK(std::string(fastlstm_version()).find('.') != std::string::npos);
}

TEST_CASE("every wrong argument is refused, and nothing is done") {
  for (const fastlstm::CellKind cell : kCells) {
    Call<float> c({3, 2, 4, 5, 0, 1, 1, true, true, false, {}, cell}, 1);
    fastlstm_layer* const layer = layer_of(c);
    const bool is_gru = cell == fastlstm::CellKind::gru;
    const std::vector<float> before = c.output;
    const auto refused = [&](auto change, const char* text) {
      fastlstm_call call = call_of(c);
      change(call);
      CHECK(fastlstm_run(layer, &call) == FASTLSTM_ARGUMENT);
      CAPTURE(last_error());
      CHECK(last_error().find(text) != std::string::npos);
      CHECK(c.output == before);
    };
    refused([](auto& k) { k.length = 0; }, "at least 1");
    refused([](auto& k) { k.batch = -1; }, "at least 1");
    refused([](auto& k) { k.threads = 0; }, "at least 1");
    refused([](auto& k) { k.length = INT64_MAX; }, "x: expected (L, N, I)");
    refused([](auto& k) { k.x.data = nullptr; }, "x: expected a pointer");
    refused([](auto& k) { k.x.bytes -= 1; }, "x: expected (L, N, I) = (3, 2, 4) numbers of 4 bytes, got 95 bytes");
    refused([](auto& k) { k.x.data = static_cast<const char*>(k.x.data) + 1; }, "x: expected an array aligned");
    refused([](auto& k) { k.h_0.bytes = 0; }, "h_0: expected (num_layers*D, N, out)");
    refused([](auto& k) { k.c_0.bytes += 4; }, is_gru ? "c_0: " : "c_0: expected (num_layers*D, N, H)");
    refused([](auto& k) { k.c_n = k.output; }, is_gru ? "c_n: a GRU has none" : "c_n: expected");
    refused([](auto& k) { k.output = {nullptr, 0}; }, "output: expected a pointer");
    refused([](auto& k) { k.h_n.bytes = 4; }, "h_n: expected");
    std::vector<std::int64_t> lengths = {3, 4};
    refused([&](auto& k) { k.lengths = in(lengths); }, "lengths: expected numbers from 0 to L = 3");
    refused([&](auto& k) { k.lengths = {lengths.data(), 8}; }, "lengths: expected (N) = (2)");
    refused([&](auto& k) { k.reset = {lengths.data(), 5}; }, "reset: expected (L, N) = (3, 2)");
    CHECK(fastlstm_run(nullptr, nullptr) == FASTLSTM_ARGUMENT);
    CHECK(fastlstm_run(layer, nullptr) == FASTLSTM_ARGUMENT);
    fastlstm_layer_free(layer);
  }
}

TEST_CASE("every wrong argument of a stream, too") {
  Call<float> c({3, 2, 4, 5, 0, 1, 1, true, true, false, {}}, 1);
  fastlstm_layer* const layer = layer_of(c);
  fastlstm_stream* stream = nullptr;
  CHECK(fastlstm_stream_new(nullptr, 2, &stream) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_stream_new(layer, 0, &stream) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_stream_new(layer, 2, nullptr) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_stream_new(layer, INT64_MAX, &stream) != FASTLSTM_OK);
  CHECK(fastlstm_stream_new(layer, INT64_MAX / 64, &stream) != FASTLSTM_OK);
  CHECK(stream == nullptr);
  REQUIRE(fastlstm_stream_new(layer, 2, &stream) == FASTLSTM_OK);
  float x[8] = {};
  float y[10] = {7};
  CHECK(fastlstm_step(nullptr, x, sizeof x, y, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_step(stream, nullptr, sizeof x, y, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_step(stream, x, sizeof x, nullptr, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_step(stream, x, sizeof x - 4, y, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_step(stream, x, sizeof x, y, sizeof y + 4) == FASTLSTM_ARGUMENT);
  CHECK(last_error() == "y: expected (L, N, out) = (1, 2, 5) numbers of 4 bytes, got 44 bytes");
  CHECK(fastlstm_step(stream, x, 0, y, 0) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_block(stream, x, sizeof x + 4, y, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_reset(stream, 2) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_reset(stream, -2) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_reset(nullptr, 0) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_get_state(stream, y, sizeof y, nullptr, 0) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_set_state(stream, y, sizeof y, y, sizeof y - 4) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_set_state(nullptr, y, sizeof y, y, sizeof y) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_stream_copy(stream, nullptr) == FASTLSTM_ARGUMENT);
  CHECK(y[0] == 7);
  Call<float> both({3, 2, 4, 5, 0, 1, 2, true, true, false, {}}, 1);
  fastlstm_layer* const bidirectional = layer_of(both);
  fastlstm_stream* none = nullptr;
  CHECK(fastlstm_stream_new(bidirectional, 1, &none) == FASTLSTM_ARGUMENT);
  CHECK(last_error().find("one direction") != std::string::npos);
  fastlstm_layer* other = nullptr;
  CHECK(fastlstm_layer_load("/nothing/there", nullptr, &other) == FASTLSTM_FILE);
  CHECK(fastlstm_layer_load(nullptr, nullptr, &other) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_layer_read("", 0, "", &other) == FASTLSTM_FILE);
  CHECK(fastlstm_layer_read(nullptr, 0, "", &other) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_layer_read("", 0, "", nullptr) == FASTLSTM_ARGUMENT);
  CHECK(fastlstm_layer_sizes(layer, nullptr) == FASTLSTM_ARGUMENT);
  fastlstm_stream_free(nullptr);
  fastlstm_layer_free(nullptr);
  fastlstm_stream_free(stream);
  fastlstm_layer_free(layer);
  fastlstm_layer_free(bidirectional);
}

TEST_CASE("random calls, right and wrong: a status each, and nothing outside of an array") {
  std::mt19937 random(1);
  int right = 0;
  for (unsigned k = 0; k < 2000; ++k) {
    Sizes s = draw(random, kCells[k % 2]);
    s.batch_sizes.clear();
    s.masks = false;
    Call<float> c(s, k);
    fastlstm_layer* const layer = layer_of(c);
    fastlstm_call call = call_of(c);
    fastlstm_in* const ins[] = {&call.x, &call.h_0, &call.c_0, &call.lengths, &call.reset};
    fastlstm_out* const outs[] = {&call.output, &call.h_n, &call.c_n};
    const std::int64_t odd[] = {0, -1, 1, 2, 3, INT64_MAX, INT64_MIN, std::int64_t{1} << 62};
    const int changes = static_cast<int>(random() % 3);
    for (int m = 0; m < changes; ++m) {
      const std::int64_t number = odd[random() % 8];
      switch (random() % 6) {
        case 0:
          call.length = number;
          break;
        case 1:
          call.batch = number;
          break;
        case 2:
          ins[random() % 5]->bytes = static_cast<std::size_t>(number);
          break;
        case 3:
          outs[random() % 3]->bytes = static_cast<std::size_t>(number);
          break;
        case 4:
          ins[random() % 5]->data = nullptr;
          break;
        default:
          outs[random() % 3]->data = nullptr;
      }
    }
    const fastlstm_status status = fastlstm_run(layer, &call);
    CHECK((status == FASTLSTM_OK || (status == FASTLSTM_ARGUMENT && last_error() != "")));
    if (changes == 0) CHECK(status == FASTLSTM_OK);
    right += status == FASTLSTM_OK;
    fastlstm_layer_free(layer);
  }
  CHECK(right > 600);
  CHECK(right < 1900);
}
