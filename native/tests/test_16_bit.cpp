// 16-bit arrays: widening and rounding number by number, and whole calls, on every instruction set the host has.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "calls.h"
#include "team/delay_watch.h"

namespace {

using fastlstm::BFloat16;
using fastlstm::Element;
using fastlstm::Float16;
using fastlstm::Source;
using fastlstm::Target;

// The number that `bits` stand for, by its definition: sign, exponent, mantissa.
double value_of(std::uint16_t bits, Element element) {
  const int mantissa_bits = element == Element::bfloat16 ? 7 : 10;
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

// The nearest of all 16-bit numbers, ties to the even one, as the bits of the first that is not below x are found by bisection.
std::uint16_t nearest(float x, Element element) {
  if (std::isnan(x)) return element == Element::bfloat16 ? 0x7FC0 : 0x7E00;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const std::uint16_t infinity = element == Element::bfloat16 ? 0x7F80 : 0x7C00;
  const double size = std::abs(static_cast<double>(x));
  const auto value = [&](int bits) {  // infinity stands where the next power of two would be
    return bits == infinity
               ? 2 * value_of(static_cast<std::uint16_t>(bits - (element == Element::bfloat16 ? 128 : 1024)), element)
               : value_of(static_cast<std::uint16_t>(bits), element);
  };
  int low = 0;
  int high = infinity;
  if (size >= value(high)) return static_cast<std::uint16_t>(sign | infinity);
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (value(middle) <= size ? low : high) = middle;
  }
  const double below = size - value(low);
  const double above = value(high) - size;
  const int found = below < above || (below == above && low % 2 == 0) ? low : high;
  return static_cast<std::uint16_t>(sign | found);
}

// c_1 = 1 c_0 + 0 g of a single step whose gates are saturated: numbers that go through the engine unchanged.
void pass(const Source<float>& c_0, const Target<float>& c_n, std::int64_t count) {
  const fastlstm::Problem problem(1, 1, 1, count, 0, 1, 1);
  const auto H = static_cast<std::size_t>(count);
  const std::vector<float> w_ih(4 * H), w_hh(4 * H * H), x(1), h_0(H);
  std::vector<float> b(4 * H), h_n(H);
  for (std::size_t j = 0; j < H; ++j) b[j] = -200, b[H + j] = 200;
  const fastlstm::Weights<float> weights{w_ih.data(), w_hh.data(), b.data(), nullptr, nullptr};
  fastlstm::forward<float>(problem, {x.data(), h_0.data(), c_0, &weights, nullptr}, {h_n.data(), h_n.data(), c_n}, nullptr, 1);
}

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

constexpr std::int64_t kCount = 61;  // not a multiple of any vector's width

}  // namespace

TEST_CASE("every 16-bit number is widened exactly") {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    for (const Element element : {Element::bfloat16, Element::float16})
      for (std::uint32_t first = 0; first < 0x10000; first += kCount) {
        std::vector<std::uint16_t> from(kCount);
        std::vector<float> to(kCount);
        for (std::size_t k = 0; k < from.size(); ++k) from[k] = static_cast<std::uint16_t>(first + k);
        pass({from.data(), element}, to.data(), kCount);
        for (std::size_t k = 0; k < from.size(); ++k) {
          const double expected = value_of(from[k], element);
          if (std::abs(expected) < std::numeric_limits<float>::min()) continue;  // denormal float32 count as zeros
          CAPTURE(isa);
          CAPTURE(from[k]);
          if (std::isnan(expected) ? !std::isnan(to[k]) : to[k] != expected) FAIL_CHECK(to[k]);
        }
      }
  }
}

TEST_CASE("rounding is to the nearest, ties to even") {
  std::mt19937 random(11);
  std::vector<float> from;
  for (int k = 0; k < 20000; ++k) {
    const auto bits = static_cast<std::uint32_t>(random());
    float x;
    std::memcpy(&x, &bits, sizeof x);
    from.push_back(x);
  }
  for (int k = 0; k < 5000; ++k) from.push_back(std::ldexp(static_cast<float>(random() % 4096) - 2048.0F, -28 + k % 44));
  for (const Element element : {Element::bfloat16, Element::float16})  // and exactly between two numbers, and next to that
    for (std::uint32_t bits = 0; bits < 0x7F80; bits += 37) {
      const double here = value_of(static_cast<std::uint16_t>(bits), element);
      const double next = value_of(static_cast<std::uint16_t>(bits + 1), element);
      if (!std::isfinite(here) || !std::isfinite(next)) continue;
      const auto middle = static_cast<float>((here + next) / 2);
      for (const float x : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, INFINITY), -middle}) from.push_back(x);
    }
  for (const float x : {65504.0F, 65519.996F, 65520.0F, 3.3895314e38F, 3.4e38F, INFINITY, -INFINITY, NAN}) from.push_back(x);
  while (from.size() % kCount != 0) from.push_back(0);
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    for (const Element element : {Element::bfloat16, Element::float16})
      for (std::size_t first = 0; first < from.size(); first += kCount) {
        std::vector<std::uint16_t> to(kCount);
        pass(from.data() + first, {to.data(), element}, kCount);
        for (std::size_t k = 0; k < to.size(); ++k) {
          const float x = from[first + k];
          if (x != 0 && std::abs(x) < std::numeric_limits<float>::min()) continue;
          CAPTURE(isa);
          CAPTURE(bits_of(x));
          const std::uint16_t expected = x == 0 ? 0 : nearest(x, element);
          const bool same =
              std::isnan(x) ? std::isnan(value_of(to[k], element)) : (to[k] == expected || (x == 0 && to[k] == 0x8000));
          if (!same) FAIL_CHECK(to[k]);
        }
      }
  }
}

namespace {

using Bits = std::vector<std::uint16_t>;

// A call with its arrays in 16 bits, each of its exact size. The numbers of `call` take the values of their 16 bits.
struct NarrowCall {
  Call<float>& call;
  Element element;
  std::vector<Bits> held;
  Source<float> x, h_0, c_0, doutput, dh_n, dc_n;
  std::vector<fastlstm::Weights<float>> weights;
  std::vector<Source<float>> masks;
  std::size_t first_result;
  fastlstm::Outputs<float> outputs;
  Target<float> dx, dh_0, dc_0;
  std::vector<fastlstm::WeightGradients<float>> dweights;

  NarrowCall(Call<float>& like, Element kind) : call(like), element(kind) {
    held.reserve(200);
    x = source(call.x), h_0 = source(call.h_0), c_0 = source(call.c_0);
    for (std::size_t w = 0; w < call.weights.size(); w += 5)
      weights.push_back({source(call.weights[w]), source(call.weights[w + 1]), source(call.weights[w + 2]),
                         source(call.weights[w + 3]), source(call.weights[w + 4])});
    for (auto& mask : call.masks) masks.push_back(source(mask));
    doutput = source(call.doutput), dh_n = source(call.dh_n), dc_n = source(call.dc_n);
    first_result = held.size();
    outputs = {target(call.output), target(call.h_n), target(call.c_n)};
    dx = target(call.dx), dh_0 = target(call.dh_0), dc_0 = target(call.dc_0);
    for (std::size_t w = 0; w < call.dweights.size(); w += 5)
      dweights.push_back({target(call.dweights[w]), target(call.dweights[w + 1]), target(call.dweights[w + 2]),
                          target(call.dweights[w + 3]), target(call.dweights[w + 4])});
  }

  fastlstm::Inputs<float> inputs() const { return {x, h_0, c_0, weights.data(), masks.empty() ? nullptr : masks.data()}; }
  // What Call::results() has, in 16 bits. Without `weights`, their gradients are not asked for.
  std::vector<Bits> train(int forward_threads, int backward_threads, bool weights_too = true) {
    fastlstm::delay_watch().forget();
    const std::vector<fastlstm::WeightGradients<float>> none(dweights.size());
    std::vector<float> saved(static_cast<std::size_t>(fastlstm::saved_size<float>(call.problem)));
    fastlstm::forward<float>(call.problem, inputs(), outputs, saved.data(), forward_threads);
    fastlstm::backward<float>(call.problem, inputs(), element, saved.data(),
                              {doutput, dh_n, dc_n, dx, dh_0, dc_0, weights_too ? dweights.data() : none.data()},
                              backward_threads);
    return {held.begin() + static_cast<std::ptrdiff_t>(first_result), held.end()};
  }
  Bits infer(int threads) {
    fastlstm::forward<float>(call.problem, inputs(), outputs, nullptr, threads);
    return held[first_result];
  }

 private:
  Bits& hold(const std::vector<float>& numbers) {
    Bits bits(numbers.size());
    for (std::size_t k = 0; k < bits.size(); ++k) bits[k] = nearest(numbers[k], element);
    return held.emplace_back(std::move(bits));
  }
  Source<float> source(std::vector<float>& numbers) {
    Bits& bits = hold(numbers);
    for (std::size_t k = 0; k < bits.size(); ++k) numbers[k] = static_cast<float>(value_of(bits[k], element));
    return {bits.empty() ? nullptr : bits.data(), element};
  }
  Target<float> target(const std::vector<float>& like) {
    Bits& bits = hold(like);
    return {bits.empty() ? nullptr : bits.data(), element};
  }
};

bool has_pairs(const std::string& isa) { return isa == "avx512_bf16"; }

}  // namespace

TEST_CASE("a 16-bit call is the float32 call, its results rounded") {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    std::mt19937 random(5);
    for (int k = 0; k < 80; ++k) {
      const Sizes s = draw(random, kCells[k % 4 / 2]);
      CAPTURE(isa);
      CAPTURE(k);
      Call<float> call(s, static_cast<unsigned>(k));
      NarrowCall narrow(call, k % 2 == 0 ? Element::bfloat16 : Element::float16);
      if (narrow.element == Element::bfloat16 && fastlstm::multiplies_bfloat16(call.problem)) continue;
      const auto found = narrow.train(1 + k % 3, 1 + k % 4);
      call.forward(1);
      call.backward(1);
      const auto expected = call.results();
      REQUIRE(found.size() == expected.size());
      for (std::size_t r = 0; r < expected.size(); ++r) {
        CAPTURE(r);
        Bits rounded(expected[r].size());
        for (std::size_t j = 0; j < rounded.size(); ++j) rounded[j] = nearest(expected[r][j], narrow.element);
        CHECK(found[r] == rounded);
      }
      CHECK(narrow.infer(2) == found[0]);  // at inference, too: there the output has no copy to stay in
    }
  }
}

TEST_CASE("products of pairs: as near as bfloat16 is, and the same bits on any number of threads") {
  for (const std::string& isa : tested_isas()) {
    if (!has_pairs(isa)) continue;
    fastlstm::use_isa(isa);
    std::mt19937 random(7);
    for (int k = 0; k < 120; ++k) {
      Sizes s = draw(random, kCells[k % 2]);
      s.T = k % 6 == 0 ? 40 : s.T == 1 ? 5 : s.T;  // 40: several blocks of steps
      while (!s.batch_sizes.empty() && static_cast<std::int64_t>(s.batch_sizes.size()) < s.T) s.batch_sizes.push_back(1);
      s.H = std::int64_t{32} + 2 * static_cast<std::int64_t>(random() % 30);
      s.P = 0;
      s.I += 15;  // of few numbers that cancel, no bfloat16 sum is near
      CAPTURE(k);
      Call<float> call(s, static_cast<unsigned>(k));
      const auto usual = static_cast<float>(1 / (0.3 * std::sqrt(3.0 * static_cast<double>(s.H))));  // as nn.LSTM starts
      for (auto& weight : call.weights)
        for (float& w : weight) w *= usual;
      NarrowCall narrow(call, Element::bfloat16);
      REQUIRE(fastlstm::multiplies_bfloat16(call.problem));
      const auto found = narrow.train(1, 1);
      CHECK(narrow.train(2, 3) == found);
      CHECK(narrow.train(3, 2) == found);
      const auto fewer = narrow.train(2, 2, false);
      for (std::size_t r = 0; r < 6; ++r) CHECK(fewer[r] == found[r]);
      CHECK(narrow.infer(1) == found[0]);
      CHECK(narrow.infer(3) == found[0]);
      call.forward(1);
      call.backward(1);
      const auto expected = call.results();
      bool differs = false;  // or this was no product of pairs
      for (std::size_t r = 0; r < expected.size(); ++r) {
        CAPTURE(r);
        double error = 0, size = 0.0025 * static_cast<double>(expected[r].size());
        for (std::size_t j = 0; j < expected[r].size(); ++j) {
          const double e = value_of(found[r][j], Element::bfloat16) - static_cast<double>(expected[r][j]);
          error += e * e;
          size += static_cast<double>(expected[r][j]) * static_cast<double>(expected[r][j]);
          differs = differs || found[r][j] != nearest(expected[r][j], Element::bfloat16);
        }
        CHECK(std::sqrt(error / (size > 0 ? size : 1)) < 1.0 / 256);
      }
      CHECK(differs);
    }
  }
}

TEST_CASE("what a 16-bit call computes again, of products of pairs too, has the bits of what it would have kept") {
  const Sizes cases[] = {{200, 2, 20, 34, 0, 1, 1, true, true, false, {}},
                         {60, 7, 18, 34, 0, 2, 2, true, true, true, {}},
                         {14, 40, 9, 33, 5, 1, 2, true, true, false, {}},
                         {9, 90, 32, 41, 0, 2, 1, false, false, false, {90, 80, 80, 41, 41, 41, 7, 1, 1}}};
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    bool pairs = false;
    for (const Sizes& sizes : cases)
      for (const fastlstm::CellKind cell : kCells)
        for (const Element element : {Element::bfloat16, Element::float16}) {
          Sizes s = sizes;
          s.cell = cell;
          if (cell == fastlstm::CellKind::gru) s.P = 0;
          CAPTURE(s.T);
          CAPTURE(fastlstm::counts_of(cell).gates);
          CAPTURE(element == Element::bfloat16);
          Call<float> call(s, 3);
          NarrowCall narrow(call, element);
          pairs = pairs || (element == Element::bfloat16 && fastlstm::multiplies_bfloat16(call.problem));
          const auto expected = narrow.train(1, 1);
          const std::int64_t kept = fastlstm::saved_size<float>(call.problem);
          call.problem.checkpoint_every(1);
          CHECK(fastlstm::saved_size<float>(call.problem) < kept);
          CHECK(narrow.train(1, 1) == expected);
          CHECK(narrow.train(2, 3) == expected);
        }
    CHECK(pairs == has_pairs(isa));
  }
}
