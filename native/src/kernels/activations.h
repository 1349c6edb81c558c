// sigmoid and tanh over a Vec, both from one expm1 core. Included inside an ISA's namespace (see kernels.inl).
//
// Max error, float32 and float64, over the whole real line (held by native/tests/test_activations.cpp):
//   sigmoid  3 ULP where the result is normal; exactly 0 at -inf and 1 at +inf
//   tanh     3 ULP; odd; exactly +-1 from |x| >= 10 (float32), 20 (float64)
// NaN gives NaN.

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
