// The GRU against its equations (naive.h), on every instruction set the host has. What holds for every cell, its bits first of
// all, is tested beside the LSTM's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "calls.h"
#include "equations.h"

namespace {

constexpr auto kGru = fastlstm::CellKind::gru;

// Few rows and many, of units and inputs that fill vectors and panels, and that don't.
const Sizes kShapes[] = {
    {5, 1, 16, 32, 0, 1, 1, true, true, false, {}, kGru},   {5, 1, 40, 100, 0, 1, 1, true, false, false, {}, kGru},
    {4, 2, 17, 48, 0, 1, 1, true, true, false, {}, kGru},   {3, 5, 33, 65, 0, 1, 2, true, true, false, {}, kGru},
    {3, 8, 8, 64, 0, 2, 1, true, true, true, {}, kGru},     {20, 30, 7, 31, 0, 1, 1, true, true, false, {}, kGru},
    {40, 16, 12, 40, 0, 1, 2, true, true, false, {}, kGru}, {3, 30, 200, 140, 0, 1, 1, true, true, false, {}, kGru}};

}  // namespace

TEST_CASE_TEMPLATE("a GRU, forward and backward, is the equations, over odd sizes", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    std::mt19937 random(9);
    for (int k = 0; k < 60; ++k) {
      const Sizes s = draw(random, kGru);
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

TEST_CASE_TEMPLATE("a GRU of few rows and of many is the equations", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (std::size_t k = 0; k < std::size(kShapes); ++k) {
      CAPTURE(k);
      Call<Real> call(kShapes[k], 3);
      call.forward(1 + static_cast<int>(k % 3));
      call.backward(1 + static_cast<int>(k % 2));
      compare(call, sizeof(Real) == 4 ? 1e-5 : 1e-13);
    }
  }
}

TEST_CASE("a GRU of sums deeper than one cut; and one that goes to matrix tiles, where there are some") {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    std::vector<Sizes> shapes{{3, 30, 1100, 20, 0, 1, 1, true, true, false, {}, kGru},
                              {3, 2, 1100, 20, 0, 1, 1, true, true, false, {}, kGru}};
    if (isa == "amx") {
      shapes.push_back({5, 33, 290, 263, 0, 1, 2, true, true, false, {}, kGru});
      shapes.push_back({70, 1, 256, 272, 0, 1, 1, true, true, false, {}, kGru});
    }
    for (const Sizes& s : shapes) {
      CAPTURE(s.N);
      CAPTURE(s.I);
      Call<float> call(s, 3);
      for (auto& w : call.weights)
        for (float& v : w) v *= 0.2F;  // else the sums saturate every gate
      call.forward(2);
      call.backward(2);
      compare(call, 5e-6);
    }
  }
}

TEST_CASE("a GRU has no projection") { CHECK_THROWS_AS(fastlstm::Problem(2, 1, 3, 5, 2, 1, 1, {}, kGru), std::invalid_argument); }
