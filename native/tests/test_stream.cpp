// Streams: in whatever pieces a sequence comes, its output has the bits of one call.
#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "calls.h"
#include "fastlstm/stream.h"

namespace {

template <class Real>
fastlstm::Stream<Real> stream_of(const Call<Real>& call) {
  return {call.packed_weights(), call.problem.N};
}

const Sizes kShapes[] = {
    {7, 1, 3, 5, 0, 1, 1, true, false, false, {}},    {7, 1, 40, 64, 0, 2, 1, true, true, false, {}},
    {6, 3, 17, 33, 0, 3, 1, false, true, false, {}},  {5, 8, 16, 48, 20, 2, 1, true, true, false, {}},
    {5, 2, 700, 40, 0, 1, 1, true, true, false, {}},  {9, 1, 1, 1, 0, 1, 1, true, true, false, {}},
    {4, 13, 20, 100, 1, 1, 1, true, true, false, {}},
};

}  // namespace

TEST_CASE_TEMPLATE("a stream has the bits of one call", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (const fastlstm::CellKind cell : kCells)
      for (Sizes s : kShapes) {
        if (cell == fastlstm::CellKind::gru && s.P > 0) continue;
        s.cell = cell;
        Call<Real> call(s, 5);
        call.forward(1, false);
        fastlstm::Stream<Real> stream = stream_of(call);
        if (s.hx) stream.set_state(call.h_0.data(), call.c_0.data());
        std::vector<Real> y(call.output.size());
        const std::int64_t in = s.N * s.I;
        const std::int64_t out = s.N * call.problem.out();
        for (std::int64_t t = 0, count = 1; t < s.T; t += count, count = 2) {
          count = std::min(count, s.T - t);
          stream.block(count, call.x.data() + t * in, y.data() + t * out);
        }
        CHECK(y == call.output);
        std::vector<Real> h(call.h_n.size());
        std::vector<Real> c(call.c_n.size());
        stream.get_state(h.data(), c.data());
        CHECK(h == call.h_n);
        CHECK(c == call.c_n);
      }
  }
}

TEST_CASE("a copy goes its own way, and a reset begins anew, for one row or for all") {
  const Sizes s{2, 3, 7, 20, 0, 2, 1, true, false, false, {}};
  Call<float> call(s, 1);
  call.forward(1, false);
  fastlstm::Stream<float> stream = stream_of(call);
  std::vector<float> first(3 * 20);
  std::vector<float> again(3 * 20);
  stream.step(call.x.data(), first.data());
  fastlstm::Stream<float> copy(stream);
  stream.step(call.x.data(), again.data());
  CHECK(again != first);
  std::vector<float> other(3 * 20);
  copy.step(call.x.data(), other.data());
  CHECK(other == again);
  stream.reset();
  stream.step(call.x.data(), again.data());
  CHECK(again == first);
  stream.step(call.x.data(), again.data());
  stream.reset(1);
  stream.step(call.x.data(), again.data());
  for (std::size_t j = 0; j < again.size(); ++j) CHECK((again[j] == first[j]) == (j / 20 == 1));
}

TEST_CASE("streams share weights that are gone, and many rows or none") {
  std::shared_ptr<const fastlstm::PackedWeights<float>> packed;
  std::vector<float> x;
  std::vector<float> expected;
  {
    const Sizes s{2, 1, 4, 6, 0, 1, 1, true, false, false, {}};
    Call<float> call(s, 1);
    call.forward(1, false);
    packed = call.packed_weights();
    x = call.x;
    expected = call.output;
  }
  fastlstm::Stream<float> one(packed, 1);
  fastlstm::Stream<float> none(packed, 0);
  none.step(nullptr, nullptr);
  std::vector<float> y(expected.size());
  one.block(2, x.data(), y.data());
  CHECK(y == expected);
}

TEST_CASE("two directions are refused") {
  const Sizes s{2, 1, 4, 6, 0, 1, 2, true, false, false, {}};
  Call<float> call(s, 1);
  CHECK_THROWS_AS(stream_of(call), std::invalid_argument);
}
