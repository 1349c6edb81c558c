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

  // Of h_t to each sum, and to h_{t-1} past the products.
  static constexpr Index kSlopes = kSums + 1;
  struct Slopes {
    Gates sums;
    V direct;
  };
  template <class Any, class Use>
  static inline __attribute__((always_inline)) void each_slope(Any& slopes, const Use& use) {
    each(slopes.sums, use);
    use(kSums, slopes.direct);
  }
  static inline __attribute__((always_inline)) Slopes slopes(const Gates& gates, V h_prev, V /*h*/) {
    const V one = broadcast(Real(1));
    const auto& [n, r, z, n_h] = gates;
    const V of_n = (one - z) * fnma(n, n, one);
    return {{of_n, of_n * n_h * own(r), (h_prev - n) * own(z), of_n * r}, z};
  }
  static inline __attribute__((always_inline)) V own(V sigmoid) { return fnma(sigmoid, sigmoid, sigmoid); }
  static inline __attribute__((always_inline)) Gates tangent_of_gates(const Gates& gates, const Gates& s) {
    const auto& [n, r, z, n_h] = gates;
    const V r_t = own(r) * s.r;
    return {fnma(n, n, broadcast(Real(1))) * fma(r_t, n_h, fma(r, s.n_h, s.n)), r_t, own(z) * s.z, s.n_h};
  }
  static inline __attribute__((always_inline)) Gates gradient_of_sums(const Gates& gates, const Gates& d) {
    const auto& [n, r, z, n_h] = gates;
    const V of_n = d.n * fnma(n, n, broadcast(Real(1)));
    return {of_n, fma(of_n, n_h, d.r) * own(r), d.z * own(z), fma(of_n, r, d.n_h)};
  }
  struct States {
    V h;
  };
  static inline __attribute__((always_inline)) States tangent(const Slopes& slopes, const Gates& s, V h_prev, V e_h, V /*e_c*/) {
    const auto& [n, r, z, n_h] = slopes.sums;
    return {fma(slopes.direct, h_prev, fma(n, s.n, fma(r, s.r, fma(z, s.z, fma(n_h, s.n_h, e_h)))))};
  }
  struct Adjoint {
    Gates sums;
    States all;
    V direct;
  };
  // direct: what reaches h_t past the products of step t + 1.
  static inline __attribute__((always_inline)) Adjoint adjoint(const Slopes& slopes, V dh, V direct) {
    const auto& [n, r, z, n_h] = slopes.sums;
    const V all = dh + direct;
    return {{n * all, r * all, z * all, n_h * all}, {all}, slopes.direct * all};
  }
  // Of d.h h_t'; the tangent of h_{t-1} is given.
  struct Second {
    Gates gates;
    V c_prev, c;  // of the state: h
  };
  static inline __attribute__((always_inline)) Second second(const Gates& gates, V h_prev, V /*h*/, const States& d,
                                                             const Gates& s, V h_prev_t, V /*h_t*/) {
    const V one = broadcast(Real(1));
    const V two = broadcast(Real(2));
    const auto& [n, r, z, n_h] = gates;
    const V slope = fnma(n, n, one);
    const V of_n = (one - z) * slope;
    const V all = fma(n_h * own(r), s.r, fma(r, s.n_h, s.n));  // the tangent of n's own sum
    const V z_t = own(z) * s.z;
    return {{broadcast(Real(0)) - d.h * fma(two * n * (one - z), all, z_t), d.h * of_n * fma(n_h * fnma(two, r, one), s.r, s.n_h),
             d.h * fma((h_prev - n) * fnma(two, z, one), s.z, fnma(slope, all, h_prev_t)), d.h * of_n * own(r) * s.r},
            d.h * z_t,
            broadcast(Real(0))};
  }
};

}  // namespace fastlstm::FASTLSTM_ISA
