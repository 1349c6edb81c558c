// Weights that are packed once: a call reads them, and has the bits of one that packs its own.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "calls.h"

namespace {

template <class Real>
void compare(const Sizes& sizes, unsigned seed, int threads, bool training) {
  Call<Real> expected(sizes, seed);
  expected.forward(threads, training);
  Call<Real> found(sizes, seed);
  found.packed = found.packed_weights();
  found.forward(threads, training);
  CAPTURE(sizes.T);
  CAPTURE(sizes.N);
  CAPTURE(sizes.H);
  CHECK(found.results() == expected.results());
  if (!training) return;
  expected.backward(threads);
  found.backward(threads);
  CHECK(found.results() == expected.results());
}

}  // namespace

TEST_CASE_TEMPLATE("a call has the bits of one that packs its own weights", Real, float, double) {
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    std::mt19937 random(11);
    for (unsigned k = 0; k < 60; ++k) compare<Real>(draw(random, kCells[k % 2]), k, 1 + static_cast<int>(k % 3), k % 4 == 0);
    // Where panels are packed late, the input is projected ahead, on matrix tiles where there are some.
    for (const fastlstm::CellKind cell : kCells)
      for (const int threads : {1, 2}) {
        compare<Real>({5, 1, 256, 256, 0, 1, 1, true, true, false, {}, cell}, 3, threads, false);
        compare<Real>({300, 2, 20, 24, 0, 2, 2, true, false, false, {}, cell}, 4, threads, true);
      }
  }
}

TEST_CASE("they belong to the instruction set of their making") {
  const std::vector<std::string> isas = fastlstm::isas();
  const Sizes sizes{4, 3, 9, 20, 0, 2, 1, true, false, false, {}};
  for (const std::string& isa : isas) {
    fastlstm::use_isa(isa);
    Call<float> call(sizes, 1);
    call.forward(1, false);
    const std::vector<float> expected = call.output;
    call.packed = call.packed_weights();
    fastlstm::use_isa(isas.front());
    call.forward(1, false);
    CHECK(call.output == expected);
  }
  fastlstm::use_isa(isas.back());
}
