// exp(r) - 1 near zero, the core of sigmoid and tanh.
#pragma once
#include "isa/columns.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Real>
struct Exp;

// expm1(r) = r + r^2 q(r) for |r| <= ln(2)/2: q interpolates at Chebyshev nodes. ln2 is split so that n * ln2_high is exact.
template <>
struct Exp<float> {
  static constexpr float shift = 12582912.0F;  // 1.5 * 2^23: adding it rounds to the nearest integer
  static constexpr float log2e = 1.44269504088896341F;
  static constexpr float ln2_high = 0.693359375F;
  static constexpr float ln2_low = -2.12194440054690583e-4F;
  static constexpr float overflow = 89.0F;                                                               // 2^128: infinity
  static constexpr float q[] = {0.5F, 0.1666657703F, 0.04166655466F, 0.008363173075F, 0.001392617612F};  // 1.0e-8 of exp(r)
};
template <>
struct Exp<double> {
  static constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double log2e = 1.4426950408889634074;
  static constexpr double ln2_high = 6.93147180369123816490e-01;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr double overflow = 709.9;  // 2^1024: infinity
  static constexpr double q[] = {0.5,
                                 0.16666666666666671207,
                                 0.041666666666666669909,
                                 0.0083333333333258479847,
                                 0.0013888888888883543254,
                                 0.00019841269875819579062,
                                 0.000024801587326261103886,
                                 2.7557254139316890463e-6,
                                 2.7557272742699345706e-7,
                                 2.510573921958671297e-8,
                                 2.091505988491768587e-9};  // 5.8e-19 relative
};

// q(r), or q(-r) where SIGN is -1.
template <int SIGN, class Real>
inline __attribute__((always_inline)) Vec<Real> q_of(Vec<Real> r) {
  using E = Exp<Real>;
  constexpr int degree = static_cast<int>(sizeof E::q / sizeof E::q[0]) - 1;
  const auto coefficient = [](int k) { return broadcast(SIGN < 0 && k % 2 == 1 ? -E::q[k] : E::q[k]); };
  Vec<Real> q = coefficient(degree);
#pragma GCC unroll 16
  for (int k = degree - 1; k >= 0; --k) q = fma(q, r, coefficient(k));
  return q;
}

}  // namespace fastlstm::FASTLSTM_ISA
