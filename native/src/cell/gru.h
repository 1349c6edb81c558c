// The GRU, as torch has it: two biases, and r times all of R_n h_{t-1} + b_hn. What each part is: lstm.h.
#pragma once
#include "cell/gate_buffer.h"
#include "fastlstm/engine.h"
#include "math/sigmoid.h"
#include "math/tanh.h"

namespace fastlstm::FASTLSTM_ISA {

template <class T>
struct Gru {
  using Term = T;
  using Real = RealOf<T>;
  using V = Vec<Real>;

  static constexpr CellKind kKind = CellKind::gru;
  static constexpr Index kStates = 1;

  // The gates are r, z, n. What x gives to n and what h does stay apart, at the two ends, so that the sums of each are
  // neighbours.
  using Input = GateOrder<2, 0, 1, -1>;
  using Hidden = GateOrder<-1, 0, 1, 2>;
  static constexpr Index kSums = Input::kSums;

  // n: its sum over x, then n itself; n_h = R_n h_{t-1} + b_hn.
  struct Gates {
    V n, r, z, n_h;
  };
  template <class Any, class Use>
  static inline __attribute__((always_inline)) void each(Any& gates, const Use& use) {
    use(Index{0}, gates.n);
    use(Index{1}, gates.r);
    use(Index{2}, gates.z);
    use(Index{3}, gates.n_h);
  }
  static constexpr Index kSteps[] = {1, 2, 0};

  // r, z = sigmoid(.), n = tanh(. + r n_h)
  static inline __attribute__((always_inline)) Gates activate(const Gates& pre) {
    const V r = sigmoid(pre.r);
    return {tanh(fma(r, pre.n_h, pre.n)), r, sigmoid(pre.z), pre.n_h};
  }
  // h_t = n + z (h_{t-1} - n)
  static inline __attribute__((always_inline)) V next_state(const Gates& gates, V h_prev) {
    return fma(gates.z, h_prev - gates.n, gates.n);
  }
  // h_t depends on nothing beside the state: it is the state.
  static inline __attribute__((always_inline)) V shown(const Gates& gates) { return gates.n; }
  struct Output {
    V h;
  };
  static inline __attribute__((always_inline)) Output output(V /*shown*/, V h) { return {h}; }

  // direct: what reaches h_t past the products of step t + 1, z times the gradient of h_{t+1}.
  static inline Gates backward(const Gates& gates, V h_prev, const Output& /*out*/, V dh, V& direct) {
    const V one = broadcast(Real(1));
    const auto& [n, r, z, n_h] = gates;
    const V dh_t = dh + direct;
    direct = dh_t * z;
    const V dn = dh_t * (one - z) * fnma(n, n, one);
    return {dn, dn * n_h * (r * (one - r)), dh_t * (h_prev - n) * (z * (one - z)), dn * r};
  }
  static inline void add_gradients(const Gates& gates, const Gates& of_gates, Gates& d) {
    const V one = broadcast(Real(1));
    const auto& [n, r, z, n_h] = gates;
    const V dn = of_gates.n * fnma(n, n, one);
    d.n = d.n + dn;
    d.r = fma(fma(dn, n_h, of_gates.r), r * (one - r), d.r);
    d.z = fma(of_gates.z, z * (one - z), d.z);
    d.n_h = fma(dn, r, d.n_h);
  }
};

}  // namespace fastlstm::FASTLSTM_ISA
