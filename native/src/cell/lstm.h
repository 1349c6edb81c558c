// The equations of one step for kLanes units of one row.
#pragma once
#include "cell/gate_buffer.h"
#include "math/sigmoid.h"
#include "math/tanh.h"

namespace fastlstm::FASTLSTM_ISA {

// i, f, o = sigmoid(.), g = tanh(.)
template <class Real>
inline __attribute__((always_inline)) Gates<Real> activate(const Gates<Real>& pre) {
  return {sigmoid(pre.i), sigmoid(pre.f), tanh(pre.g), sigmoid(pre.o)};
}

// c_t = f c_{t-1} + i g
template <class Real>
inline Vec<Real> cell(const Gates<Real>& gates, Vec<Real> c_prev) {
  return fma(gates.f, c_prev, gates.i * gates.g);
}

// From dh (the gradient of h_t = o tanh(c_t)) and dc (of c_t, from step t + 1): the gradients of the gates before their
// activations; dc becomes the gradient of c_{t-1}.
template <class Real>
inline Gates<Real> cell_backward(const Gates<Real>& gates, Vec<Real> c_prev, Vec<Real> tanh_c, Vec<Real> dh, Vec<Real>& dc) {
  const Vec<Real> one = broadcast(Real(1));
  const auto& [i, f, g, o] = gates;
  const Vec<Real> dc_t = fma(dh * o, fnma(tanh_c, tanh_c, one), dc);
  dc = dc_t * f;
  return {
      dc_t * g * (i * (one - i)),
      dc_t * c_prev * (f * (one - f)),
      dc_t * i * fnma(g, g, one),
      dh * tanh_c * (o * (one - o)),
  };
}

template <class Real>
inline Vec<Real> step_gradient(const Real* array, Index at, Index columns) {
  return array == nullptr ? broadcast(Real(0)) : load_columns(array + at, columns);
}
// To the gradients of the gates before their activations, those that come from the gates themselves.
template <class Real>
inline void add_step_gradients(const Steps<const Real*>& dsteps, const Gates<Real>& gates, Index at, Index columns,
                               Gates<Real>& d) {
  const Vec<Real> one = broadcast(Real(1));
  const auto& [i, f, g, o] = gates;
  d.i = fma(step_gradient(dsteps.i, at, columns), i * (one - i), d.i);
  d.f = fma(step_gradient(dsteps.f, at, columns), f * (one - f), d.f);
  d.g = fma(step_gradient(dsteps.g, at, columns), fnma(g, g, one), d.g);
  d.o = fma(step_gradient(dsteps.o, at, columns), o * (one - o), d.o);
}

}  // namespace fastlstm::FASTLSTM_ISA
