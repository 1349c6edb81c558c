// The micro-kernel's products, packing and products of single rows, each against loops, on every instruction set the host has.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "kernels_of_isa.h"
#include "random_matrix.h"

namespace {

constexpr Index kDepths[] = {1, 2, 3, 7, 33, 127, 128, 129, 191, 192, 300, 767, 768, 1030};

std::size_t at(Index k) { return static_cast<std::size_t>(k); }

template <class Real>
Real expected(const std::vector<Real>& a, Index r, const std::vector<Real>& w, Index j, Index K, Index columns) {
  long double sum = 0;
  for (Index k = 0; k < K; ++k) sum += static_cast<long double>(a[at(r * K + k)]) * w[at(k * columns + j)];
  return static_cast<Real>(sum);
}

}  // namespace

TEST_CASE_TEMPLATE("a product of any size, on every instruction set", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    CAPTURE(isa.name);
    const auto& kernels = kernels_of<Real>(isa);
    std::mt19937 random(1);
    for (const Index K : kDepths)
      for (const Index rows : {1, 2, 3, 5, 6, 7, 11, 13}) {
        const Index columns = 1 + static_cast<Index>(random() % at(3 * kernels.panel));
        CAPTURE(K);
        CAPTURE(rows);
        CAPTURE(columns);
        const auto a = random_matrix<Real>(rows * K, random);
        const auto w = random_matrix<Real>(K * columns, random);
        const Index ldc = columns + 3;
        const auto before = random_matrix<Real>(rows * ldc, random);
        std::vector<Real> panels(at((columns + kernels.panel - 1) / kernels.panel * kernels.panel * K));
        kernels.pack_columns(fastlstm::Source<Real>(w.data()), K, columns, panels.data());
        for (const bool add : {false, true}) {
          auto c = before;
          kernels.multiply({a.data(), K, rows, K, c.data(), ldc, columns, add}, panels.data());
          double worst = 0;
          bool others = true;
          for (Index r = 0; r < rows; ++r)
            for (Index j = 0; j < ldc; ++j) {
              const Real is = c[at(r * ldc + j)];
              const Real was = before[at(r * ldc + j)];
              if (j >= columns) others = others && is == was;
              if (j < columns) worst = std::max(worst, std::abs(double(is) - expected(a, r, w, j, K, columns) - (add ? was : 0)));
            }
          CHECK(worst <= allowed<Real>(K));
          CHECK(others);
          if (add) continue;
          std::vector<Real> alone(at(ldc));
          for (Index r = 0; r < rows; ++r) {  // a row's bits are its own
            kernels.multiply({a.data() + r * K, K, 1, K, alone.data(), ldc, columns, false}, panels.data());
            CHECK(std::memcmp(alone.data(), c.data() + r * ldc, at(columns) * sizeof(Real)) == 0);
          }
        }
      }
  }
}

TEST_CASE_TEMPLATE("panels have every weight in its place, and zeros where there is none", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    CAPTURE(isa.name);
    const auto& kernels = kernels_of<Real>(isa);
    const Index panel = kernels.panel;
    const Index lanes = kernels.lanes;
    std::mt19937 random(2);
    for (const Index K : {1, 3, 8, 17, 40})
      for (const Index H : {1, 3, 8, 15, 16, 17, 33}) {
        CAPTURE(K);
        CAPTURE(H);
        const Index blocks = (H + lanes - 1) / lanes;
        const auto w = random_matrix<Real>(4 * H * K, random);
        const fastlstm::Source<Real> source(w.data());
        const auto weight = [&](Index gate, Index unit, Index k) {
          return unit < H ? w[at((gate * H + unit) * K + k)] : Real(0);
        };
        bool same = true;
        std::vector<Real> gates(at(blocks * 4 * lanes * K), Real(-1));
        kernels.pack_gates(source, H, K, gates.data());
        std::vector<Real> rows(at((K + panel - 1) / panel * panel * blocks * 4 * lanes), Real(-1));
        kernels.pack_gate_rows(source, H, K, rows.data());
        for (Index unit = 0; unit < blocks * lanes; ++unit)
          for (Index gate = 0; gate < 4; ++gate)
            for (Index k = 0; k < K; ++k) {
              const auto column = static_cast<Index>(gate_column(gate, unit, lanes));
              same = same && gates[at((column / panel * K + k) * panel + column % panel)] == weight(gate, unit, k);
              same = same && rows[at((k / panel * blocks * 4 * lanes + column) * panel + k % panel)] == weight(gate, unit, k);
            }
        CHECK(same);
        std::vector<Real> transposed(at((H + panel - 1) / panel * panel * K), Real(-1));
        kernels.pack_transposed(source, H, K, transposed.data());
        for (Index j = 0; j < (H + panel - 1) / panel * panel; ++j)
          for (Index k = 0; k < K; ++k)
            same = same && transposed[at((j / panel * K + k) * panel + j % panel)] == (j < H ? w[at(j * K + k)] : Real(0));
        CHECK(same);
        std::vector<Real> sums(at(K * blocks * 4 * lanes));
        for (Index gate = 0; gate < 4; ++gate)
          for (Index unit = 0; unit < H; ++unit)
            for (Index k = 0; k < K; ++k)
              sums[at(k * blocks * 4 * lanes) + gate_column(gate, unit, lanes)] = weight(gate, unit, k);
        std::vector<Real> back(w.size(), Real(-1));
        kernels.unpack_gates(sums.data(), H, K, fastlstm::Target<Real>(back.data()));
        CHECK(back == w);
      }
  }
}

TEST_CASE_TEMPLATE("a transposed matrix of any size", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    CAPTURE(isa.name);
    std::mt19937 random(3);
    for (const Index rows : {1, 4, 7, 8, 9, 20})
      for (const Index columns : {1, 3, 4, 8, 11, 17}) {
        const auto from = random_matrix<Real>(rows * (columns + 2), random);
        std::vector<Real> to(at(columns * (rows + 1)), Real(-1));
        kernels_of<Real>(isa).transpose(from.data(), columns + 2, rows, columns, to.data(), rows + 1);
        bool same = true;
        for (Index c = 0; c < columns; ++c) {
          for (Index r = 0; r < rows; ++r) same = same && to[at(c * (rows + 1) + r)] == from[at(r * (columns + 2) + c)];
          same = same && to[at(c * (rows + 1) + rows)] == Real(-1);
        }
        CHECK(same);
      }
  }
}

TEST_CASE_TEMPLATE("single rows, with weights that stand as they are", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    CAPTURE(isa.name);
    const auto& kernels = kernels_of<Real>(isa);
    std::mt19937 random(4);
    for (const Index K : kDepths) {
      CAPTURE(K);
      const auto x = random_matrix<Real>(K, random);
      const auto y = random_matrix<Real>(K, random);
      CHECK(std::abs(double(kernels.dot(x.data(), y.data(), K)) - expected(x, 0, y, 0, K, 1)) <= allowed<Real>(K));
      for (const Index rows : {1, 2, 3, 8})
        for (const Index columns : {1, 2, 7, 33, 2050}) {
          if (columns > 100 && K > 200) continue;
          CAPTURE(rows);
          CAPTURE(columns);
          const auto a = random_matrix<Real>(rows * K, random);
          const auto w = random_matrix<Real>(K * columns, random);
          std::vector<Real> c(at(rows * columns), Real(1));
          kernels.multiply_rows({a.data(), K, rows, K, c.data(), columns, columns, true}, fastlstm::Source<Real>(w.data()));
          double worst = 0;
          for (Index r = 0; r < rows; ++r)
            for (Index j = 0; j < columns; ++j)
              worst = std::max(worst, std::abs(double(c[at(r * columns + j)]) - 1 - expected(a, r, w, j, K, columns)));
          CHECK(worst <= allowed<Real>(K));
        }
    }
  }
}
