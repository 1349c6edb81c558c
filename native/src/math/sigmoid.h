// sigmoid over a Vec: at most 3 ULP where the result is normal, in float32 and float64; exactly 0 at -inf and 1 at +inf
// (native/tests/test_activations.cpp holds it). NaN gives NaN.
#pragma once
#include "math/exp.h"

namespace fastlstm::FASTLSTM_ISA {

// 1 / (1 + exp(-x)), with -x = n ln2 - r
template <class Real>
inline __attribute__((always_inline)) Vec<Real> sigmoid(Vec<Real> x) {
  using E = Exp<Real>;
  const Vec<Real> one = broadcast(Real(1));
  const Vec<Real> shift = broadcast(E::shift);
  x = clamp(x, -E::overflow, Real(40));  // exp(-40) vanishes beside 1 in either precision
  const Vec<Real> shifted = fma(x, broadcast(-E::log2e), shift);
  const Vec<Real> n = shifted - shift;
  Vec<Real> r = fma(n, broadcast(E::ln2_high), x);
  r = fma(n, broadcast(E::ln2_low), r);
  const Vec<Real> e = fma(r * r, q_of<-1>(r), one - r);
  return one / fma(pow2_of_shifted(shifted), e, one);
}

}  // namespace fastlstm::FASTLSTM_ISA
