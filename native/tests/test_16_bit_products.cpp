// Products of pairs of bfloat16 and products on matrix tiles, against loops, on every instruction set of the host that has them;
// the tiles on emulated registers, too.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "kernels_of_isa.h"
#include "random_matrix.h"

namespace {

constexpr Index kProducts = 6;  // on matrix tiles, of the parts of two numbers

std::size_t at(Index k) { return static_cast<std::size_t>(k); }

// The sum of row r of a, (., K), with gate `gate` of a unit: w is (4H, K).
double expected(const std::vector<float>& a, Index r, const std::vector<float>& w, Index H, Index gate, Index unit, Index K) {
  double sum = 0;
  for (Index k = 0; k < K; ++k) sum += double(a[at(r * K + k)]) * w[at((gate * H + unit) * K + k)];
  return sum;
}

double worst_of(const std::vector<float>& c, const std::vector<float>& a, Index rows, const std::vector<float>& w, Index H,
                Index K, Index lanes, const std::vector<float>& bias = {}) {
  const Index width = (H + lanes - 1) / lanes * 4 * lanes;
  double worst = 0;
  for (Index r = 0; r < rows; ++r)
    for (Index unit = 0; unit < H; ++unit)
      for (Index gate = 0; gate < 4; ++gate) {
        const std::size_t column = gate_column(gate, unit, lanes);
        const double begin = bias.empty() ? 0 : bias[column];
        worst = std::max(worst, std::abs(c[at(r * width) + column] - expected(a, r, w, H, gate, unit, K) - begin));
      }
  return worst;
}

}  // namespace

TEST_CASE("pairs of bfloat16: the numbers as they are, sums of float32's precision") {
  for (const Isa& isa : isas_here()) {
    if (isa.pairs == nullptr) continue;
    CAPTURE(isa.name);
    std::mt19937 random(5);
    for (const Index K : {2, 4, 30, 254, 258, 700})
      for (const Index rows : {1, 2, 3, 6, 7, 13})
        for (const Index H : {1, 15, 16, 33}) {
          CAPTURE(K);
          CAPTURE(rows);
          CAPTURE(H);
          auto a = random_matrix<float>(rows * K, random);
          auto w = random_matrix<float>(4 * H * K, random);
          const auto a_16 = as_bfloat16(a);
          const auto w_16 = as_bfloat16(w);
          const Index lanes = isa.float32->lanes;
          std::vector<float> c(at(rows * ((H + lanes - 1) / lanes * 4 * lanes)));
          isa.pairs->multiply(a_16.data(), rows, K, {w_16.data(), fastlstm::Element::bfloat16}, H, c.data());
          CHECK(worst_of(c, a, rows, w, H, K, lanes) <= allowed<float>(K));
        }
  }
}

TEST_CASE("matrix tiles: as exact as float32, for any number of rows, terms and columns") {
  for (const Isa& isa : isas_here()) {
    if (isa.tiles == nullptr) continue;
    CAPTURE(isa.name);
    const Index lanes = isa.float32->lanes;
    std::mt19937 random(6);
    for (const Index K : {1, 31, 32, 33, 100, 520})
      for (const Index rows : {1, 15, 16, 17, 33, 50})
        for (const Index H : {1, 16, 17}) {
          CAPTURE(K);
          CAPTURE(rows);
          CAPTURE(H);
          const auto a = random_matrix<float>(rows * K, random);
          const auto w = random_matrix<float>(4 * H * K, random);
          const Index width = (H + lanes - 1) / lanes * 4 * lanes;
          const auto bias = random_matrix<float>(width, random);
          std::vector<float> c(at(rows * width));
          CHECK_FALSE(isa.tiles->multiply(a.data(), rows, K, fastlstm::Source<float>(w.data()), H, c.data(), bias.data()));
          CHECK(worst_of(c, a, rows, w, H, K, lanes, bias) <= allowed<float>(kProducts * K));
        }
  }
}

TEST_CASE("matrix tiles: sums over gates") {
  for (const Isa& isa : isas_here()) {
    if (isa.tiles == nullptr) continue;
    CAPTURE(isa.name);
    const Index lanes = isa.float32->lanes;
    std::mt19937 random(7);
    for (const Index columns : {1, 16, 40, 64, 70})
      for (const Index rows : {1, 16, 33})
        for (const Index H : {3, 16, 40}) {
          const Index width = (H + lanes - 1) / lanes * 4 * lanes;
          auto a = random_matrix<float>(rows * width, random);
          const auto w = random_matrix<float>(4 * H * columns, random);
          std::vector<float> c(at(rows * columns));
          CHECK_FALSE(isa.tiles->multiply_gates(a.data(), rows, fastlstm::Source<float>(w.data()), H, columns, c.data()));
          double worst = 0;
          for (Index r = 0; r < rows; ++r)
            for (Index j = 0; j < columns; ++j) {
              double sum = 0;
              for (Index gate = 0; gate < 4; ++gate)
                for (Index unit = 0; unit < H; ++unit)
                  sum += double(a[at(r * width) + gate_column(gate, unit, lanes)]) * w[at((gate * H + unit) * columns + j)];
              worst = std::max(worst, std::abs(c[at(r * columns + j)] - sum));
            }
          CHECK(worst <= allowed<float>(kProducts * 4 * H));
        }
  }
}

TEST_CASE("matrix tiles: infinities, what is not a number and numbers beyond 2^60 are seen") {
  for (const Isa& isa : isas_here()) {
    if (isa.tiles == nullptr) continue;
    CAPTURE(isa.name);
    for (const float large : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), -1.2e18F}) {
      std::vector<float> c(at(isa.float32->panel) * 3);
      std::vector<float> a(3 * 40, 1.0F);
      std::vector<float> w(4 * 40, 1.0F);
      const auto seen = [&] {
        return isa.tiles->multiply(a.data(), 3, 40, fastlstm::Source<float>(w.data()), 1, c.data(), nullptr);
      };
      CHECK_FALSE(seen());
      a[77] = large;
      CHECK(seen());
      a[77] = 1;
      w[131] = large;
      CHECK(seen());
    }
  }
}
