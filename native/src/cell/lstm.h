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
};

}  // namespace fastlstm::FASTLSTM_ISA
