// Segments against their definition, walked step by step.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "fastlstm/engine.h"

using fastlstm::Segments;
using Index = std::int64_t;

namespace {

struct Walked {
  Index n, start, length;
};

// The segments of a batch, longest first.
std::vector<Walked> walk(Index T, Index N, const std::vector<Index>& lengths, const bool* reset) {
  std::vector<Walked> segments;
  for (Index n = 0; n < N; ++n)
    for (Index t = 0; t < std::min(T, lengths[static_cast<std::size_t>(n)]); ++t) {
      if (t == 0 || reset[t * N + n]) segments.push_back({n, t, 0});
      ++segments.back().length;
    }
  std::stable_sort(segments.begin(), segments.end(), [](const Walked& a, const Walked& b) { return a.length > b.length; });
  return segments;
}

}  // namespace

TEST_CASE("segments, their places and their states are what a walk through the steps finds") {
  std::mt19937 random(5);
  const auto below = [&](Index n) { return static_cast<Index>(random() % static_cast<std::uint32_t>(n)); };
  for (int round = 0; round < 400; ++round) {
    const Index T = 1 + below(9);
    const Index N = below(6);
    const Index layers = 1 + below(3);
    const Index D = 1 + below(2);
    const Index percent = below(101);
    std::vector<Index> lengths(static_cast<std::size_t>(N));
    for (Index& length : lengths) length = below(T + 1);
    const auto reset = std::make_unique<bool[]>(static_cast<std::size_t>(T * N));
    const auto swapped = std::make_unique<bool[]>(static_cast<std::size_t>(T * N));
    const auto spread = std::make_unique<bool[]>(static_cast<std::size_t>(2 * T * N));
    for (Index t = 0; t < T; ++t)
      for (Index n = 0; n < N; ++n) reset[t * N + n] = swapped[n * T + t] = spread[2 * (t * N + n)] = below(100) < percent;
    const auto expected = walk(T, N, lengths, reset.get());
    for (const fastlstm::Resets& resets :
         {fastlstm::Resets{reset.get(), N, 1}, fastlstm::Resets{swapped.get(), 1, T}, fastlstm::Resets{spread.get(), 2 * N, 2}}) {
      const Segments segments(T, N, lengths.data(), resets);
      REQUIRE(segments.count() == static_cast<Index>(expected.size()));
      std::vector<Index> places;
      std::vector<Index> starts(static_cast<std::size_t>(N));
      for (Index& start : starts) start = 100 * (&start - starts.data());
      for (std::size_t t = 0; t < segments.batch_sizes().size(); ++t) {
        Index batch = 0;
        for (const Walked& segment : expected)
          if (segment.length > static_cast<Index>(t)) {
            ++batch;
            places.push_back(100 * segment.n + segment.start + static_cast<Index>(t));
          }
        CHECK(segments.batch_sizes()[t] == batch);
      }
      REQUIRE(segments.steps() == static_cast<Index>(places.size()));
      std::vector<Index> found(places.size());
      segments.places(1, 100, nullptr, found.data());
      CHECK(found == places);
      segments.places(1, 7, starts.data(), found.data());
      CHECK(found == places);

      for (const auto& [step, row] : {std::pair<Index, Index>{N, 1}, {1, T}}) {  // step by step, and row by row
        std::vector<char> cleared(static_cast<std::size_t>(3 * T * N), 1);
        segments.clear(step, row, 3, cleared.data());
        for (Index t = 0; t < T; ++t)
          for (Index n = 0; n < N; ++n)
            for (Index byte = 0; byte < 3; ++byte)
              CHECK(cleared[static_cast<std::size_t>((t * step + n * row) * 3 + byte)] ==
                    (t < lengths[static_cast<std::size_t>(n)]));
      }

      const Index count = segments.count();
      std::vector<Index> initial(static_cast<std::size_t>(layers * D * count));
      std::vector<Index> final(initial.size());
      segments.initial(layers, D, initial.data());
      segments.final(layers, D, final.data());
      for (Index l = 0; l < layers * D; ++l)
        for (Index s = 0; s < count; ++s) {
          const Walked& segment = expected[static_cast<std::size_t>(s)];
          const Index end = lengths[static_cast<std::size_t>(segment.n)];
          const bool first = segment.start == 0;
          const bool last = segment.start + segment.length == end;
          const bool reverse = D == 2 && l % 2 == 1;
          const bool begins = reverse ? last : first && !reset[segment.n];
          CHECK(initial[static_cast<std::size_t>(l * count + s)] == (begins ? l * N + segment.n : -1));
          CHECK(final[static_cast<std::size_t>(l * count + s)] == ((reverse ? first : last) ? l * N + segment.n : -1));
        }
    }
  }
}

TEST_CASE("whole: no row ends early, none is reset") {
  const Index lengths[] = {4, 4};
  const Index shorter[] = {4, 3};
  const bool never[8] = {};
  const bool once[8] = {true};
  CHECK(Segments(4, 2, nullptr, {}).whole());
  CHECK(Segments(4, 2, lengths, {never, 2, 1}).whole());
  CHECK_FALSE(Segments(4, 2, shorter, {}).whole());
  CHECK_FALSE(Segments(4, 2, nullptr, {once, 2, 1}).whole());
}

TEST_CASE("a length that is not from 0 to T is refused") {
  const Index too_long[] = {1, 5};
  const Index negative[] = {-1, 2};
  CHECK_THROWS_AS(Segments(4, 2, too_long, {}), std::invalid_argument);
  CHECK_THROWS_AS(Segments(4, 2, negative, {}), std::invalid_argument);
}

TEST_CASE("sizes whose products no 64 bits hold are refused before anything is counted by them") {
  const auto problem = [](std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t layers,
                          const std::vector<std::int64_t>& batch_sizes = {}) {
    return fastlstm::Problem(T, N, I, H, 0, layers, 1, batch_sizes);
  };
  constexpr std::int64_t large = std::int64_t{1} << 40;
  CHECK_THROWS_AS(problem(1000, (std::int64_t{1} << 62) / 10, 1, 4, 1), std::runtime_error);
  CHECK_THROWS_AS(problem(1 << 24, large, 1, 4, 1), std::runtime_error);
  CHECK_THROWS_AS(problem(1, 1, 1, large, 1), std::runtime_error);
  CHECK_THROWS_AS(problem(1, 1, large, large, 1), std::runtime_error);
  CHECK_THROWS_AS(problem(1, large, 1, 1 << 20, 1), std::runtime_error);
  CHECK_THROWS_AS(problem(1, 1, 1, 1 << 20, large), std::runtime_error);
  const std::int64_t half = std::int64_t{1} << 62;
  CHECK_THROWS_AS(problem(2, half, 1, 4, 1, {half, half}), std::runtime_error);
  CHECK_THROWS_AS(problem(4, half, 1, 4, 1, {half, half, half, half}), std::runtime_error);  // whose sum wraps to 0
  CHECK_NOTHROW(problem(1, 1 << 20, 8192, 8192, 1));
}
