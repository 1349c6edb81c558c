// Rows that stand elsewhere: the same bits as where they stand one after the other, nothing beside them read or written.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "calls.h"
#include "team/delay_watch.h"

using fastlstm::Element;
using Index = std::int64_t;
using Rows = std::vector<Index>;

namespace {

// Places for `count` rows, in any order, one in three left out.
Rows places(Index count, std::mt19937& random) {
  Rows all(static_cast<std::size_t>(count + count / 2 + 1));
  std::iota(all.begin(), all.end(), Index{0});
  std::shuffle(all.begin(), all.end(), random);
  all.resize(static_cast<std::size_t>(count));
  return all;
}

// An array whose row k is row rows[k] of a larger one; NaN in all others.
template <class Real>
struct Elsewhere {
  const Rows& rows;
  std::vector<Real> data;
  std::size_t width;

  Elsewhere(const std::vector<Real>& from, const Rows& rows) : rows(rows), width(rows.empty() ? 0 : from.size() / rows.size()) {
    data.assign((rows.size() + rows.size() / 2 + 1) * width, std::numeric_limits<Real>::quiet_NaN());
    for (std::size_t k = 0; k < rows.size(); ++k)
      if (rows[k] >= 0) std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(k * width), width, row(k));
  }
  typename std::vector<Real>::iterator row(std::size_t k) {
    return data.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rows[k]) * width);
  }
  fastlstm::Source<Real> source() const {
    return width == 0 ? fastlstm::Source<Real>{} : fastlstm::Source<Real>{data.data(), Element::real, rows.data()};
  }
  fastlstm::Target<Real> target() {
    return width == 0 ? fastlstm::Target<Real>{} : fastlstm::Target<Real>{data.data(), Element::real, rows.data()};
  }

  void check(const std::vector<Real>& expected) {
    if (width == 0) return;
    std::vector<bool> written(data.size(), false);
    for (std::size_t k = 0; k < rows.size(); ++k) {
      if (rows[k] < 0) continue;
      REQUIRE(std::memcmp(&*row(k), expected.data() + k * width, width * sizeof(Real)) == 0);
      for (std::size_t j = 0; j < width; ++j) written[static_cast<std::size_t>(rows[k]) * width + j] = true;
    }
    for (std::size_t k = 0; k < data.size(); ++k) REQUIRE((written[k] || data[k] != data[k]));
  }
};

template <class Real>
void compare(const Sizes& sizes, unsigned seed, int threads) {
  Call<Real> call(sizes, seed);
  std::mt19937 random(seed);
  const fastlstm::Problem& problem = call.problem;
  const Rows steps = places(problem.rows(), random);
  Rows initial = places(sizes.layers * sizes.D * sizes.N, random);
  Rows final = places(sizes.layers * sizes.D * sizes.N, random);
  for (std::size_t k = 0; k < initial.size(); ++k) {  // from zeros, and to nowhere
    const auto clear = [&](std::vector<Real>& array) {
      const std::size_t width = array.size() / initial.size();
      std::fill_n(array.begin() + static_cast<std::ptrdiff_t>(k * width), width, Real(0));
    };
    if (random() % 3 == 0) {
      initial[k] = -1;
      clear(call.h_0);
      clear(call.c_0);
    }
    if (random() % 3 == 0) {
      final[k] = -1;
      clear(call.dh_n);
      clear(call.dc_n);
    }
  }
  const Elsewhere<Real> x(call.x, steps), h_0(call.h_0, initial), c_0(call.c_0, initial), doutput(call.doutput, steps),
      dh_n(call.dh_n, final), dc_n(call.dc_n, final);
  Elsewhere<Real> output(call.output, steps), h_n(call.h_n, final), c_n(call.c_n, final), dx(call.dx, steps),
      dh_0(call.dh_0, initial), dc_0(call.dc_0, initial);
  std::vector<fastlstm::Weights<Real>> weights;
  std::vector<fastlstm::WeightGradients<Real>> dweights;
  auto gradients = call.dweights;
  const auto at = [](auto& array) { return array.empty() ? nullptr : array.data(); };
  for (std::size_t k = 0; k < call.weights.size(); k += 5) {
    const auto& w = call.weights;
    weights.push_back({at(w[k]), at(w[k + 1]), at(w[k + 2]), at(w[k + 3]), at(w[k + 4])});
    auto& d = gradients;
    dweights.push_back({at(d[k]), at(d[k + 1]), at(d[k + 2]), at(d[k + 3]), at(d[k + 4])});
  }
  std::vector<fastlstm::Source<Real>> masks;
  for (const auto& mask : call.masks) masks.push_back(mask.data());
  const fastlstm::Inputs<Real> inputs{x.source(), h_0.source(), c_0.source(), weights.data(), at(masks)};
  const fastlstm::Outputs<Real> outputs{output.target(), h_n.target(), c_n.target()};
  std::vector<Real> saved(static_cast<std::size_t>(fastlstm::saved_size<Real>(problem)));
  call.forward(threads);
  for (Real* const where : {static_cast<Real*>(nullptr), saved.data()}) {  // at inference, and in training
    fastlstm::delay_watch().forget();
    fastlstm::forward<Real>(problem, inputs, outputs, where, threads);
    output.check(call.output);
    h_n.check(call.h_n);
    c_n.check(call.c_n);
  }
  call.backward(threads);
  fastlstm::delay_watch().forget();
  fastlstm::backward<Real>(
      problem, inputs, fastlstm::Element::real, saved.data(),
      {doutput.source(), dh_n.source(), dc_n.source(), dx.target(), dh_0.target(), dc_0.target(), dweights.data()}, threads);
  dx.check(call.dx);
  dh_0.check(call.dh_0);
  dc_0.check(call.dc_0);
  CHECK(gradients == call.dweights);
}

}  // namespace

TEST_CASE("rows may stand anywhere, on every instruction set, for any number of threads") {
  const std::string before = fastlstm::isa();
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    std::mt19937 random(3);
    for (unsigned k = 0; k < 80; ++k) {
      const Sizes sizes = draw(random, kCells[k / 40]);
      CAPTURE(isa);
      CAPTURE(k);
      compare<float>(sizes, k, 1 + static_cast<int>(k % 3));
      compare<double>(sizes, k, 1 + static_cast<int>(k % 4));
    }
    compare<float>({90, 8, 20, 40, 0, 1, 1, true, true, false, {}}, 7, 2);  // blocks of steps, by rows
    compare<float>({90, 5, 20, 128, 0, 2, 1, true, true, true, {}}, 8, 2);  // and by units
    compare<float>({90, 8, 20, 40, 0, 1, 1, true, true, false, {}, kCells[1]}, 7, 2);
    compare<float>({90, 5, 20, 128, 0, 2, 1, true, true, true, {}, kCells[1]}, 8, 2);
  }
  fastlstm::use_isa(before);
}

TEST_CASE("rows may stand anywhere where the products go to tiles") {
  const auto isas = fastlstm::isas();
  if (std::find(isas.begin(), isas.end(), "amx") == isas.end()) return;
  const std::string before = fastlstm::isa();
  fastlstm::use_isa("amx");
  for (const Index N : {3, 33})
    for (const fastlstm::CellKind cell : kCells) compare<float>({20, N, 256, 256, 0, 2, 1, true, true, false, {}, cell}, 9, 2);
  fastlstm::use_isa(before);
}
