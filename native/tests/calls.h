// Random calls of the engine for the native tests: every array in a std::vector of its exact size, so that the address sanitizer
// sees a step past an end.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "fastlstm/engine.h"
#include "fastlstm/packed_weights.h"
#include "normal.h"

struct Sizes {
  std::int64_t T, N, I, H, P, layers, D;
  bool bias, hx, masks;
  std::vector<std::int64_t> batch_sizes;
  fastlstm::CellKind cell = fastlstm::CellKind::lstm;
};

inline constexpr fastlstm::CellKind kCells[] = {fastlstm::CellKind::lstm, fastlstm::CellKind::gru};

// Every instruction set of the host. Under an emulator, which takes ten times as long, that which it alone can show
// (FASTLSTM_TESTED_ISA, from CMakeLists.txt): generic is the same source everywhere.
inline std::vector<std::string> tested_isas() {
  const char* const one = std::getenv("FASTLSTM_TESTED_ISA");
  return one == nullptr ? fastlstm::isas() : std::vector<std::string>{one};
}

template <class Real>
struct Call {
  using Array = std::vector<Real>;
  Sizes sizes;
  fastlstm::Problem problem;
  Array x, h_0, c_0, output, h_n, c_n, saved;
  std::vector<Array> weights, masks;  // five a layer and direction
  Array doutput, dh_n, dc_n, dx, dh_0, dc_0;
  std::vector<Array> dweights;
  std::vector<Array> steps, hidden, dsteps, dhidden;  // where it is traced
  // Reals past a multiple of 64 bytes, where what is saved begins; none: `saved` is of its exact size, too, wherever it is.
  std::optional<std::size_t> past_line;

  Call(const Sizes& s, unsigned seed)
      : sizes(s), problem(s.T, s.N, s.I, s.H, s.P, s.layers, s.D, s.batch_sizes, s.cell), random_(seed) {
    const std::int64_t out = problem.out();
    const std::int64_t cells = s.layers * s.D;
    const auto [gates, states, step_arrays] = fastlstm::counts_of(s.cell);
    x = fill(problem.rows() * s.I);
    if (s.hx) {
      h_0 = fill(cells * s.N * out);
      if (states > 1) c_0 = fill(cells * s.N * s.H);
    }
    for (std::int64_t l = 0; l < cells; ++l) {
      weights.push_back(fill(gates * s.H * problem.layer_input(l / s.D), 0.3));
      weights.push_back(fill(gates * s.H * out, 0.3));
      for (int k = 0; k < 2; ++k) weights.push_back(s.bias ? fill(gates * s.H, 0.3) : Array{});
      weights.push_back(s.P > 0 ? fill(s.P * s.H, 0.3) : Array{});
    }
    for (std::int64_t l = 0; s.masks && l + 1 < s.layers; ++l) {
      masks.push_back(Array(size(problem.rows() * s.D * out)));
      for (Real& m : masks.back()) m = random_() % 4 == 0 ? Real(0) : Real(4.0 / 3);
    }
    output.resize(size(problem.rows() * s.D * out));
    h_n.resize(size(cells * s.N * out));
    if (states > 1) c_n.resize(size(cells * s.N * s.H));
    doutput = fill(static_cast<std::int64_t>(output.size()));
    dh_n = fill(static_cast<std::int64_t>(h_n.size()));
    dc_n = fill(static_cast<std::int64_t>(c_n.size()));
    dx.resize(x.size());
    dh_0.resize(h_0.size());
    dc_0.resize(c_0.size());
    for (const Array& w : weights) dweights.emplace_back(w.size());
  }

  std::shared_ptr<const fastlstm::PackedWeights<Real>> packed_weights() const {
    return std::make_shared<const fastlstm::PackedWeights<Real>>(problem, weight_pointers().data());
  }
  // Which forward reads, if they are there.
  std::shared_ptr<const fastlstm::PackedWeights<Real>> packed;

  // From now on forward reads out what its steps computed, and backward has gradients of that.
  void traced() {
    const std::int64_t chains = sizes.layers * sizes.D;
    for (std::int64_t k = 0; k < chains * fastlstm::counts_of(sizes.cell).steps; ++k) {
      dsteps.push_back(fill(problem.rows() * sizes.H));
      steps.emplace_back(dsteps.back().size());
    }
    for (std::int64_t k = 0; k + 1 < sizes.layers; ++k) {
      dhidden.push_back(fill(problem.rows() * sizes.D * problem.out()));
      hidden.emplace_back(dhidden.back().size());
    }
  }

  void forward(int threads, bool training = true) {
    fastlstm::let_teams_run();
    const std::size_t needed = size(fastlstm::saved_size<Real>(problem));
    saved.assign(training ? needed + (past_line ? kLine + *past_line : 0) : 0, Real(0));
    const auto w = weight_pointers();
    const auto m = mask_pointers();
    fastlstm::forward<Real>(problem, inputs(w, m), outputs(), training ? begin_of_saved() : nullptr, threads);
    if (steps.empty() || !training) return;
    const auto to_steps = all_of<fastlstm::Target<Real>>(steps);
    const auto to_hidden = all_of<fastlstm::Target<Real>>(hidden);
    fastlstm::trace<Real>(problem, begin_of_saved(), to_steps.data(), to_hidden.data(), threads);
  }
  void backward(int threads) {
    fastlstm::let_teams_run();
    const auto w = weight_pointers();
    const auto m = mask_pointers();
    std::vector<fastlstm::WeightGradients<Real>> d;
    for (std::size_t k = 0; k < dweights.size(); k += 5)
      d.push_back({pointer(dweights[k]), pointer(dweights[k + 1]), pointer(dweights[k + 2]), pointer(dweights[k + 3]),
                   pointer(dweights[k + 4])});
    fastlstm::Gradients<Real> gradients{pointer(doutput), pointer(dh_n), pointer(dc_n), pointer(dx),
                                        pointer(dh_0),    pointer(dc_0), d.data()};
    const auto of_steps = all_of<fastlstm::Source<Real>>(dsteps);
    const auto of_hidden = all_of<fastlstm::Source<Real>>(dhidden);
    if (!dsteps.empty()) {
      gradients.dsteps = of_steps.data();
      gradients.dhidden = of_hidden.data();
    }
    fastlstm::backward<Real>(problem, inputs(w, m), fastlstm::Element::real, begin_of_saved(), gradients, threads);
  }

  // Everything a call writes, one array after the other.
  std::vector<Array> results() const {
    std::vector<Array> all{output, h_n, c_n, dx, dh_0, dc_0};
    all.insert(all.end(), dweights.begin(), dweights.end());
    all.insert(all.end(), steps.begin(), steps.end());
    all.insert(all.end(), hidden.begin(), hidden.end());
    return all;
  }

 private:
  static constexpr std::size_t kLine = 64 / sizeof(Real);
  Real* begin_of_saved() {
    if (!past_line) return saved.data();
    const std::size_t past = reinterpret_cast<std::uintptr_t>(saved.data()) / sizeof(Real) % kLine;
    return saved.data() + kLine - past + *past_line;
  }
  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
  static Real* pointer(Array& a) { return a.empty() ? nullptr : a.data(); }
  template <class To, class Arrays>
  static std::vector<To> all_of(Arrays& arrays) {
    std::vector<To> all;
    for (auto& array : arrays) all.push_back(To(array.data()));
    return all;
  }
  static const Real* pointer(const Array& a) { return a.empty() ? nullptr : a.data(); }
  Array fill(std::int64_t n, double scale = 1) {
    Normal normal;
    Array a(size(n));
    for (Real& v : a) v = static_cast<Real>(scale * normal(random_));
    return a;
  }
  std::vector<fastlstm::Weights<Real>> weight_pointers() const {
    std::vector<fastlstm::Weights<Real>> w;
    for (std::size_t k = 0; k < weights.size(); k += 5)
      w.push_back({pointer(weights[k]), pointer(weights[k + 1]), pointer(weights[k + 2]), pointer(weights[k + 3]),
                   pointer(weights[k + 4])});
    return w;
  }
  std::vector<fastlstm::Source<Real>> mask_pointers() const {
    std::vector<fastlstm::Source<Real>> m;
    for (const Array& mask : masks) m.push_back(mask.data());
    return m;
  }
  fastlstm::Inputs<Real> inputs(const std::vector<fastlstm::Weights<Real>>& w,
                                const std::vector<fastlstm::Source<Real>>& m) const {
    return {x.data(), pointer(h_0), pointer(c_0), w.data(), m.empty() ? nullptr : m.data(), packed.get()};
  }
  fastlstm::Outputs<Real> outputs() { return {output.data(), h_n.data(), pointer(c_n)}; }

  std::mt19937 random_;
};

// Odd sizes around a vector's width, packed or dense, with everything switched on and off.
inline Sizes draw(std::mt19937& random, fastlstm::CellKind cell = fastlstm::CellKind::lstm) {
  const auto pick = [&](std::initializer_list<std::int64_t> of) { return of.begin()[random() % of.size()]; };
  Sizes s{};
  s.T = pick({1, 1, 2, 3, 7, 20});
  s.N = pick({1, 2, 3, 7, 15});
  s.I = pick({1, 3, 7, 8, 17});
  s.H = pick({1, 3, 7, 8, 9, 15, 16, 17, 33});
  s.P = pick({0, 0, 1, 5});
  if (s.P >= s.H || cell == fastlstm::CellKind::gru) s.P = 0;
  s.cell = cell;
  s.layers = pick({1, 2, 3});
  s.D = pick({1, 2});
  s.bias = random() % 4 != 0;
  s.hx = random() % 2 == 0;
  s.masks = random() % 3 == 0;
  if (random() % 2 == 0) {
    std::int64_t n = s.N;
    for (std::int64_t t = 0; t < s.T; ++t) {
      s.batch_sizes.push_back(n);
      if (n > 1 && random() % 2 == 0) n -= 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(n - 1));
    }
  }
  return s;
}
