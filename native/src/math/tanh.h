// tanh over a Vec: at most 3 ULP, in float32 and float64; odd; exactly +-1 from |x| >= 10 (float32), 20 (float64)
// (native/tests/test_activations.cpp holds it). NaN gives NaN.
#pragma once
#include "math/exp.h"

namespace fastlstm::FASTLSTM_ISA {

// expm1(2x) / (expm1(2x) + 2), with 2x = n ln2 + r
template <class Real>
inline __attribute__((always_inline)) Vec<Real> tanh(Vec<Real> x) {
  using E = Exp<Real>;
  constexpr Real limit = sizeof(Real) == 4 ? Real(20) : Real(40);
  const Vec<Real> one = broadcast(Real(1));
  const Vec<Real> shift = broadcast(E::shift);
  x = clamp(x + x, -limit, limit);
  const Vec<Real> shifted = fma(x, broadcast(E::log2e), shift);
  const Vec<Real> n = shifted - shift;
  Vec<Real> r = fnma(n, broadcast(E::ln2_high), x);
  r = fnma(n, broadcast(E::ln2_low), r);
  const Vec<Real> p = fma(r * r, q_of<1>(r), r);
  const Vec<Real> scale = pow2_of_shifted(shifted);
  const Vec<Real> em1 = fma(scale, p, scale - one);
  return em1 / (em1 + broadcast(Real(2)));
}

}  // namespace fastlstm::FASTLSTM_ISA
