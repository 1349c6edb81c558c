// The LSTM: its gates, its state and the maths of a step, for kLanes units of one row. What a cell must have, every other one has
// under the same names.
#pragma once
#include "cell/gate_buffer.h"
#include "fastlstm/engine.h"
#include "math/sigmoid.h"
#include "math/tanh.h"

namespace fastlstm::FASTLSTM_ISA {

// T: what its products add up (isa/terms.h).
template <class T>
struct Lstm {
  using Term = T;
  using Real = RealOf<T>;
  using V = Vec<Real>;

  static constexpr CellKind kKind = CellKind::lstm;
  static constexpr Index kStates = 2;  // that go from step to step: one is h alone, which is then the state below

  // Which gates of w_ih, and of w_hh, the sums of a unit add up: i, f, g, o. One of x alone, or of h alone, has -1 in the other.
  using Input = GateOrder<0, 1, 2, 3>;
  using Hidden = Input;
  static constexpr Index kSums = Input::kSums;

  // The sums of a unit; and what becomes of them, as backward reads it.
  struct Gates {
    V i, f, g, o;
  };
  // use(sum, gate) for each
  template <class Any, class Use>
  static inline __attribute__((always_inline)) void each(Any& gates, const Use& use) {
    use(Index{0}, gates.i);
    use(Index{1}, gates.f);
    use(Index{2}, gates.g);
    use(Index{3}, gates.o);
  }
  // What the caller can read of a step, in this order: which sums, after their activations.
  static constexpr Index kSteps[] = {kStateStep, 0, 1, 2, 3};

  // i, f, o = sigmoid(.), g = tanh(.)
  static inline __attribute__((always_inline)) Gates activate(const Gates& pre) {
    return {sigmoid(pre.i), sigmoid(pre.f), tanh(pre.g), sigmoid(pre.o)};
  }
  // The state: c_t = f c_{t-1} + i g
  static inline __attribute__((always_inline)) V next_state(const Gates& gates, V c_prev) {
    return fma(gates.f, c_prev, gates.i * gates.g);
  }
  // What h_t depends on beside the state: h_t = o tanh(c_t)
  static inline __attribute__((always_inline)) V shown(const Gates& gates) { return gates.o; }
  struct Output {
    V h, tanh_c;
  };
  static inline __attribute__((always_inline)) Output output(V o, V c) {
    const V tanh_c = tanh(c);
    return {o * tanh_c, tanh_c};
  }

  // From dh (the gradient of h_t) and dc (of c_t, from step t + 1): the gradients of the sums; dc becomes the gradient of
  // c_{t-1}.
  static inline Gates backward(const Gates& gates, V c_prev, const Output& out, V dh, V& dc) {
    const V one = broadcast(Real(1));
    const auto& [i, f, g, o] = gates;
    const V tanh_c = out.tanh_c;
    const V dc_t = fma(dh * o, fnma(tanh_c, tanh_c, one), dc);
    dc = dc_t * f;
    return {
        dc_t * g * (i * (one - i)),
        dc_t * c_prev * (f * (one - f)),
        dc_t * i * fnma(g, g, one),
        dh * tanh_c * (o * (one - o)),
    };
  }
  // To them, what the gradients of the gates themselves add.
  static inline void add_gradients(const Gates& gates, const Gates& of_gates, Gates& d) {
    const V one = broadcast(Real(1));
    const auto& [i, f, g, o] = gates;
    d.i = fma(of_gates.i, i * (one - i), d.i);
    d.f = fma(of_gates.f, f * (one - f), d.f);
    d.g = fma(of_gates.g, fnma(g, g, one), d.g);
    d.o = fma(of_gates.o, o * (one - o), d.o);
  }

  // The derivatives of a step, and what they make of those of its sums (fastlstm/chain.h): of c_t to each sum but o's, of h_t to
  // o's; of c_t to c_{t-1}; of h_t to c_t.
  static constexpr Index kSlopes = kSums + 2;
  struct Slopes {
    Gates sums;
    V direct, shown;
  };
  template <class Any, class Use>
  static inline __attribute__((always_inline)) void each_slope(Any& slopes, const Use& use) {
    each(slopes.sums, use);
    use(kSums, slopes.direct);
    use(kSums + 1, slopes.shown);
  }
  static inline __attribute__((always_inline)) Slopes slopes(const Gates& gates, V c_prev, V c) {
    const V one = broadcast(Real(1));
    const auto& [i, f, g, o] = gates;
    const V tanh_c = tanh(c);
    return {{g * own(i), c_prev * own(f), i * fnma(g, g, one), tanh_c * own(o)}, f, o * fnma(tanh_c, tanh_c, one)};
  }
  // A sigmoid's slope, from its value.
  static inline __attribute__((always_inline)) V own(V sigmoid) { return fnma(sigmoid, sigmoid, sigmoid); }
  // The tangent of the gates from that of the sums, and, transposed, the gradient of the sums from that of the gates.
  static inline __attribute__((always_inline)) Gates tangent_of_gates(const Gates& gates, const Gates& s) {
    const auto& [i, f, g, o] = gates;
    return {own(i) * s.i, own(f) * s.f, fnma(g, g, broadcast(Real(1))) * s.g, own(o) * s.o};
  }
  static inline __attribute__((always_inline)) Gates gradient_of_sums(const Gates& gates, const Gates& d) {
    return tangent_of_gates(gates, d);
  }
  struct States {
    V h, c;
  };
  static inline __attribute__((always_inline)) States tangent(const Slopes& slopes, const Gates& s, V c_prev, V e_h, V e_c) {
    const auto& [i, f, g, o] = slopes.sums;
    const V c = fma(slopes.direct, c_prev, fma(i, s.i, fma(f, s.f, fma(g, s.g, e_c))));
    return {fma(slopes.shown, c, fma(o, s.o, e_h)), c};
  }
  // all: what reaches h_t and c_t in all; direct: c_{t-1}.
  struct Adjoint {
    Gates sums;
    States all;
    V direct;
  };
  static inline __attribute__((always_inline)) Adjoint adjoint(const Slopes& slopes, V dh, V dc) {
    const auto& [i, f, g, o] = slopes.sums;
    const V all = fma(slopes.shown, dh, dc);
    return {{i * all, f * all, g * all, o * dh}, {dh, all}, slopes.direct * all};
  }
  // The gradients of gates, c_{t-1} and c_t of the scalar d.h h_t' + d.c c_t', whose tangents s, c_prev_t and c_t are given.
  struct Second {
    Gates gates;
    V c_prev, c;
  };
  static inline __attribute__((always_inline)) Second second(const Gates& gates, V c_prev, V c, const States& d, const Gates& s,
                                                             V c_prev_t, V c_t) {
    const V one = broadcast(Real(1));
    const V two = broadcast(Real(2));
    const auto& [i, f, g, o] = gates;
    const V tanh_c = tanh(c);
    const V slope = fnma(tanh_c, tanh_c, one);
    const Gates t = tangent_of_gates(gates, s);
    return {{d.c * fma(g * fnma(two, i, one), s.i, t.g), d.c * fma(c_prev * fnma(two, f, one), s.f, c_prev_t),
             d.c * fnma(two * g * i, s.g, t.i), d.h * fma(tanh_c * fnma(two, o, one), s.o, slope * c_t)},
            d.c * t.f,
            d.h * slope * fnma(two * o * tanh_c, c_t, t.o)};
  }
};

}  // namespace fastlstm::FASTLSTM_ISA
