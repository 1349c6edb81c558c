// The engine against the equations (naive.h), on every instruction set the host has; and the bits of every cell.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "calls.h"
#include "equations.h"

TEST_CASE_TEMPLATE("forward and backward are the equations, over odd sizes", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    std::mt19937 random(7);
    for (int k = 0; k < 60; ++k) {
      const Sizes s = draw(random);
      CAPTURE(isa);
      CAPTURE(k);
      Call<Real> call(s, static_cast<unsigned>(k));
      if (k % 3 == 0) call.traced();
      call.forward(1 + k % 3);
      call.backward(1 + k % 4);
      compare(call, sizeof(Real) == 4 ? 5e-6 : 1e-13);
    }
  }
}

// Where instruction sets with matrix tiles use them: 256 inputs and units and more, forward with any number of rows.
Sizes draw_for_tiles(std::mt19937& random) {
  const auto pick = [&](std::initializer_list<std::int64_t> of) { return of.begin()[random() % of.size()]; };
  Sizes s{};
  s.T = pick({2, 5});
  s.N = pick({1, 16, 33});
  s.I = pick({256, 257, 290});
  s.H = pick({256, 263, 272});
  s.P = pick({0, 0, 40});
  s.layers = 1;
  s.D = pick({1, 2});
  s.bias = random() % 4 != 0;
  s.hx = random() % 2 == 0;
  for (std::int64_t t = 0, n = s.N; t < s.T && s.T > 2; ++t, n -= n > 1 ? n / 3 : 0) s.batch_sizes.push_back(n);
  return s;
}

TEST_CASE("forward and backward are the equations, over sizes that go to matrix tiles") {
  for (const std::string& isa : tested_isas()) {
    if (isa != "amx") continue;  // the others have none
    fastlstm::use_isa(isa);
    std::mt19937 random(3);
    for (int k = 0; k < 5; ++k) {
      const Sizes s = draw_for_tiles(random);
      CAPTURE(isa);
      CAPTURE(k);
      Call<float> call(s, static_cast<unsigned>(k));
      for (auto& w : call.weights)
        for (float& v : w) v *= 0.2F;  // else the sums of 290 products saturate every gate
      call.forward(1 + k % 3);
      call.backward(1 + k % 4);
      compare(call, 5e-6);
    }
  }
}

template <class Condition>
std::size_t count_where(std::size_t size, const Condition& condition) {
  std::size_t count = 0;
  for (std::size_t k = 0; k < size; ++k) count += condition(k) ? 1 : 0;
  return count;
}

TEST_CASE("numbers that matrix tiles cannot take: they travel as elsewhere, and leave other rows alone") {
  const auto isas = fastlstm::isas();
  if (std::find(isas.begin(), isas.end(), "amx") == isas.end()) return;  // no tiles here
  const float infinity = std::numeric_limits<float>::infinity();
  const Sizes s{9, 9, 260, 258, 0, 1, 1, true, true, false, {}};
  for (const char* const place : {"x", "weights", "doutput"})
    for (const float value : {infinity, -infinity, std::nanf(""), 1e30F, -3e38F, 1e-39F}) {
      CAPTURE(place);
      CAPTURE(value);
      std::vector<std::vector<float>> expected;
      for (const std::string& isa : isas) {
        if (isa != "amx" && !expected.empty()) continue;
        fastlstm::use_isa(isa);
        CAPTURE(isa);
        Call<float> call(s, 2);
        const std::vector<float> untouched = (call.forward(1), call.output);
        const std::size_t odd_one = 260 + 3;  // row 1 of the first step
        if (place[0] == 'x') call.x[odd_one] = value;
        if (place[0] == 'w') call.weights[0][odd_one] = value;
        if (place[0] == 'd') call.doutput[odd_one] = value;
        call.forward(2);
        call.backward(2);
        const auto found = call.results();
        if (place[0] == 'x')
          CHECK(count_where(found[0].size(), [&](std::size_t k) { return k / 258 % 9 != 1 && found[0][k] != untouched[k]; }) ==
                0);
        if (expected.empty()) expected = found;  // the generic instruction set's
        for (std::size_t k = 0; k < found.size(); ++k) {
          CAPTURE(name_of(call, k));
          double largest = 1;
          for (const float v : expected[k])
            if (std::isfinite(v)) largest = std::max(largest, std::abs(static_cast<double>(v)));
          const auto differs = [&](std::size_t j) {
            const double mine = found[k][j];
            const double other = expected[k][j];
            if (std::isfinite(other)) return !(std::abs(mine - other) <= 1e-5 * largest);
            return std::isnan(other) ? !std::isnan(mine) : mine != other;
          };
          CHECK(count_where(found[k].size(), differs) == 0);
        }
      }
    }
}

TEST_CASE("a batch of none gives zero gradients") {
  Call<float> call(Sizes{3, 0, 2, 5, 0, 2, 2, true, false, false, {}}, 1);
  for (auto& d : call.dweights) std::fill(d.begin(), d.end(), 1.0F);
  call.forward(2);
  call.backward(2);
  for (const auto& d : call.dweights)
    for (const float v : d) CHECK(v == 0.0F);
}

TEST_CASE("depths beyond one cut of the sum") {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (const bool many : {false, true}) {
      Call<float> call(Sizes{3, many ? 30 : 2, 1100, 20, 0, 1, 1, true, true, false, {}}, 3);
      call.forward(2);
      call.backward(2);
      compare(call, 2e-5);  // sums of 1,100 products
    }
  }
}

// The plan projects the input of few rows ahead of the steps, and of many rows not: parts and cuts end in the same places.
TEST_CASE_TEMPLATE("depths of several parts and cuts: a row has the bits it has alone, for any number of threads", Real, float,
                   double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (const std::int64_t I : {1, 200, 1000}) {
      CAPTURE(I);
      for (const auto& each : {std::pair{kCells[0], 0}, {kCells[0], 150}, {kCells[1], 0}}) {
        const fastlstm::CellKind cell = each.first;
        const std::int64_t P = each.second;
        CAPTURE(fastlstm::counts_of(cell).gates);
        const std::int64_t H = P == 0 ? 140 : 270;
        Call<Real> many(Sizes{2, 14, I, H, P, 1, 1, true, true, false, {}, cell}, 3);
        Call<Real> one(Sizes{2, 1, I, H, P, 1, 1, true, true, false, {}, cell}, 4);
        one.weights = many.weights;
        const auto row = [&](const std::vector<Real>& from, std::int64_t t) {
          const auto width = static_cast<std::ptrdiff_t>(from.size()) / (&from == &many.x || &from == &many.output ? 28 : 14);
          return std::vector<Real>(from.begin() + t * 14 * width, from.begin() + (t * 14 + 1) * width);
        };
        one.x = row(many.x, 0);
        const auto second = row(many.x, 1);
        one.x.insert(one.x.end(), second.begin(), second.end());
        one.h_0 = row(many.h_0, 0);
        one.c_0 = row(many.c_0, 0);
        one.forward(1);
        const auto output = one.output;
        one.forward(2, false);
        CHECK(one.output == output);
        many.forward(1);
        many.backward(1);
        const auto alone = many.results();
        auto found = row(many.output, 0);
        const auto last = row(many.output, 1);
        found.insert(found.end(), last.begin(), last.end());
        CHECK(found == output);
        many.forward(3);
        many.backward(3);
        CHECK(many.results() == alone);
      }
    }
  }
}

TEST_CASE_TEMPLATE("training and inference give the same bits", Real, float, double) {
  std::mt19937 random(11);
  for (int k = 0; k < 60; ++k) {
    Call<Real> call(draw(random, kCells[k % 2]), static_cast<unsigned>(k));
    call.forward(2, true);
    const auto output = call.output;
    const auto h_n = call.h_n;
    const auto c_n = call.c_n;
    call.forward(1, false);
    CHECK(call.output == output);
    CHECK(call.h_n == h_n);
    CHECK(call.c_n == c_n);
  }
}

TEST_CASE_TEMPLATE("any number of threads gives the same bits, gradients too", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    // The last ones are wide enough for useful_threads to grant a team.
    const Sizes cases[] = {{20, 7, 17, 33, 0, 2, 2, true, true, false, {}},
                           {40, 1, 64, 128, 0, 1, 1, true, true, false, {}},
                           {40, 3, 30, 97, 5, 2, 2, true, false, true, {}},
                           {30, 40, 9, 65, 0, 1, 1, true, true, false, {}},
                           {6, 20, 9, 65, 0, 2, 1, true, true, false, {20, 20, 13, 7, 7, 1}},
                           {20, 7, 17, 33, 0, 2, 2, true, true, false, {}, kCells[1]},
                           {40, 1, 64, 128, 0, 1, 1, true, true, false, {}, kCells[1]},
                           {40, 3, 30, 97, 0, 2, 2, true, false, true, {}, kCells[1]},
                           {30, 40, 9, 65, 0, 1, 1, true, true, false, {}, kCells[1]},
                           {6, 20, 9, 65, 0, 2, 1, true, true, false, {20, 20, 13, 7, 7, 1}, kCells[1]}};
    for (const Sizes& s : cases) {
      Call<Real> call(s, 5);
      call.forward(1);
      call.backward(1);
      const auto alone = call.results();
      for (const int threads : {2, 3, 4, 7}) {
        CAPTURE(threads);
        call.forward(threads);
        call.backward(threads);
        CHECK(call.results() == alone);
      }
    }
  }
}

TEST_CASE("gates so many that they go past the caches, which they can only at a multiple of 64 bytes, are the same") {
  for (const std::string& isa : tested_isas()) {
    if (isa == "generic" || isa == "neon") continue;  // have no such stores
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (const fastlstm::CellKind cell : kCells) {
      Call<float> call(Sizes{256, 257, 1, 16, 0, 2, 1, true, true, false, {}, cell}, 5);
      call.past_line = 1;
      call.forward(2);
      call.backward(2);
      const auto stored = call.results();
      call.past_line = 0;
      call.forward(2);
      call.backward(2);
      CHECK(call.results() == stored);
    }
  }
}

TEST_CASE("any number of threads gives the same bits on matrix tiles") {
  for (const std::string& isa : tested_isas()) {
    if (isa != "amx") continue;  // the others have none
    fastlstm::use_isa(isa);
    const Sizes cases[] = {{11, 33, 260, 256, 0, 1, 2, true, true, false, {}},
                           {70, 16, 257, 258, 40, 1, 1, true, true, true, {}},
                           {6, 40, 256, 256, 0, 1, 1, true, true, false, {40, 40, 33, 17, 17, 1}},
                           {11, 33, 260, 256, 0, 1, 2, true, true, false, {}, kCells[1]}};
    for (const Sizes& s : cases) {
      Call<float> call(s, 5);
      call.forward(1);
      call.backward(1);
      const auto alone = call.results();
      for (const int threads : {2, 3, 7}) {
        CAPTURE(threads);
        call.forward(threads);
        call.backward(threads);
        CHECK(call.results() == alone);
        call.forward(threads, false);
        CHECK(call.output == alone[0]);
      }
    }
  }
}
