// ULP rows: the largest error of every approximation, on every instruction set the host has. The bounds are those that
// math/sigmoid.h and math/tanh.h state.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels_of_isa.h"

namespace {

template <class Real>
using Precise = std::conditional_t<sizeof(Real) == 4, double, long double>;

// How many representable numbers of Real lie between y and the exact value.
template <class Real>
double ulps(Real y, Precise<Real> exact) {
  const Real rounded = static_cast<Real>(exact);
  const Real magnitude =
      std::abs(rounded) < std::numeric_limits<Real>::min() ? std::numeric_limits<Real>::min() : std::abs(rounded);
  const Precise<Real> ulp =
      static_cast<Precise<Real>>(std::nextafter(magnitude, std::numeric_limits<Real>::infinity())) - magnitude;
  return static_cast<double>(std::abs((static_cast<Precise<Real>>(y) - exact) / ulp));
}

// Every magnitude from the smallest normal number up, both signs, and densely where the functions bend.
template <class Real>
std::vector<Real> arguments(Real limit) {
  std::mt19937_64 random(1);
  std::vector<Real> x;
  const double lowest = std::log(static_cast<double>(std::numeric_limits<Real>::min()));
  std::uniform_real_distribution<double> exponent(lowest, std::log(static_cast<double>(limit)));
  std::uniform_real_distribution<double> bend(-12, 12);
  for (int k = 0; k < 400000; ++k) {
    const auto magnitude = static_cast<Real>(std::exp(exponent(random)));
    x.push_back(k % 2 == 0 ? magnitude : -magnitude);
    x.push_back(static_cast<Real>(bend(random)));
  }
  return x;
}

template <class Real>
std::vector<Real> evaluate(void (*f)(const Real*, Real*, std::int64_t), const std::vector<Real>& x) {
  std::vector<Real> y(x.size());
  f(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("sigmoid: at most 3 ULP wherever the result is normal", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    const auto x = arguments<Real>(sizeof(Real) == 4 ? Real(87) : Real(708));
    const auto y = evaluate(kernels_of<Real>(isa).sigmoid, x);
    double worst = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const Precise<Real> exact = 1 / (1 + std::exp(-static_cast<Precise<Real>>(x[k])));
      worst = std::max(worst, ulps(y[k], exact));
    }
    MESSAGE(isa.name, " sigmoid ", sizeof(Real) * 8, " bits: ", worst, " ULP");
    CHECK(worst <= 3.0);
  }
}

TEST_CASE_TEMPLATE("tanh: at most 3 ULP, odd", Real, float, double) {
  for (const Isa& isa : isas_here()) {
    const auto x = arguments<Real>(Real(50));
    auto minus_x = x;
    for (Real& v : minus_x) v = -v;
    const auto y = evaluate(kernels_of<Real>(isa).tanh, x);
    const auto minus_y = evaluate(kernels_of<Real>(isa).tanh, minus_x);
    double worst = 0;
    double odd = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const Precise<Real> exact = std::tanh(static_cast<Precise<Real>>(x[k]));
      worst = std::max(worst, ulps(y[k], exact));
      odd = std::max(odd, ulps(y[k], -static_cast<Precise<Real>>(minus_y[k])));
    }
    MESSAGE(isa.name, " tanh ", sizeof(Real) * 8, " bits: ", worst, " ULP, odd to ", odd);
    CHECK(worst <= 3.0);
    CHECK(odd <= 4.0);
  }
}

TEST_CASE_TEMPLATE("limits, infinities and NaN", Real, float, double) {
  const Real inf = std::numeric_limits<Real>::infinity();
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  const Real flat = sizeof(Real) == 4 ? Real(10) : Real(20);
  const std::vector<Real> x{inf, -inf, nan, Real(0), flat, -flat, Real(1e30), Real(-1e30)};
  for (const Isa& isa : isas_here()) {
    CAPTURE(isa.name);
    const auto s = evaluate(kernels_of<Real>(isa).sigmoid, x);
    CHECK(s[0] == 1);
    CHECK(s[1] == 0);
    CHECK(std::isnan(s[2]));
    CHECK(s[3] == Real(0.5));
    CHECK(s[6] == 1);
    CHECK(s[7] == 0);
    const auto t = evaluate(kernels_of<Real>(isa).tanh, x);
    CHECK(t[0] == 1);
    CHECK(t[1] == -1);
    CHECK(std::isnan(t[2]));
    CHECK(t[3] == 0);
    CHECK(t[4] == 1);
    CHECK(t[5] == -1);
    CHECK(t[6] == 1);
    CHECK(t[7] == -1);
  }
}
