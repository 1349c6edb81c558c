// Vec in the compiler's own vector extension, 16 bytes: any processor, no fused multiply-add.
#pragma once
#include <cstdint>
#include <cstring>

#include "fastlstm/engine.h"
#include "isa/scalar_16_bit.h"
#include "isa/scalar_transpose.h"
#include "isa/through_stack.h"

namespace fastlstm::FASTLSTM_ISA {

inline constexpr int kRegisters = 16;

template <class Real>
struct Vec;

template <>
struct Vec<float> {
  static constexpr int lanes = 4;
  typedef float Lanes __attribute__((vector_size(16)));
  typedef std::uint32_t Bits __attribute__((vector_size(16)));
  Lanes v;
};

template <>
struct Vec<double> {
  static constexpr int lanes = 2;
  typedef double Lanes __attribute__((vector_size(16)));
  typedef std::uint64_t Bits __attribute__((vector_size(16)));
  Lanes v;
};

template <class Real>
inline Vec<Real> load(const Real* p) {
  Vec<Real> a;
  std::memcpy(&a.v, p, sizeof a.v);
  return a;
}
template <class Real>
inline void store(Real* p, Vec<Real> a) {
  std::memcpy(p, &a.v, sizeof a.v);
}
inline Vec<float> broadcast(float a) { return {Vec<float>::Lanes{a, a, a, a}}; }
inline Vec<double> broadcast(double a) { return {Vec<double>::Lanes{a, a}}; }

template <class Real>
inline Vec<Real> load_first(const Real* p, int count) {
  return load_through_stack<Vec<Real>::lanes>(p, count, [](const Real* all) { return load(all); });
}
template <class Real>
inline void store_first(Real* p, Vec<Real> a, int count) {
  store_through_stack<Vec<Real>::lanes>(p, count, [&](Real* all) { store(all, a); });
}

// 16-bit numbers: widened, and rounded to the nearest, ties to even; a NaN stays one.
template <class Bits16>
inline Vec<float> load_16(const Bits16* p) {
  return {Vec<float>::Lanes{widened(p[0]), widened(p[1]), widened(p[2]), widened(p[3])}};
}
template <class Bits16>
inline void store_narrow(Bits16* p, Vec<float> a) {
  for (int k = 0; k < Vec<float>::lanes; ++k) round_to(p[k], a.v[k]);
}
inline Vec<float> load(const BFloat16* p) { return load_16(p); }
inline Vec<float> load(const Float16* p) { return load_16(p); }
inline void store(BFloat16* p, Vec<float> a) { store_narrow(p, a); }
inline void store(Float16* p, Vec<float> a) { store_narrow(p, a); }
template <class Number>
inline Vec<float> load_first_16(const Number* p, int count) {
  return load_through_stack<Vec<float>::lanes>(p, count, [](const Number* all) { return load(all); });
}
template <class Number>
inline void store_first_16(Number* p, Vec<float> a, int count) {
  store_through_stack<Vec<float>::lanes>(p, count, [&](Number* all) { store(all, a); });
}
inline Vec<float> load_first(const BFloat16* p, int count) { return load_first_16(p, count); }
inline Vec<float> load_first(const Float16* p, int count) { return load_first_16(p, count); }
inline void store_first(BFloat16* p, Vec<float> a, int count) { store_first_16(p, a, count); }
inline void store_first(Float16* p, Vec<float> a, int count) { store_first_16(p, a, count); }

template <class Real>
inline Vec<Real> operator+(Vec<Real> a, Vec<Real> b) {
  return {a.v + b.v};
}
template <class Real>
inline Vec<Real> operator-(Vec<Real> a, Vec<Real> b) {
  return {a.v - b.v};
}
template <class Real>
inline Vec<Real> operator*(Vec<Real> a, Vec<Real> b) {
  return {a.v * b.v};
}
template <class Real>
inline Vec<Real> operator/(Vec<Real> a, Vec<Real> b) {
  return {a.v / b.v};
}

// a * b + c, and c - a * b, each rounded twice.
template <class Real>
inline Vec<Real> fma(Vec<Real> a, Vec<Real> b, Vec<Real> c) {
  return {a.v * b.v + c.v};
}
template <class Real>
inline Vec<Real> fnma(Vec<Real> a, Vec<Real> b, Vec<Real> c) {
  return {c.v - a.v * b.v};
}

// x limited to [low, high]; a NaN stays: both comparisons are false.
template <class Real>
inline Vec<Real> clamp(Vec<Real> x, Real low, Real high) {
  const auto bottom = broadcast(low).v;
  const auto top = broadcast(high).v;
  const auto raised = x.v < bottom ? bottom : x.v;
  return {raised > top ? top : raised};
}

// 2^n of the integer n that sits in the low bits of `shifted` = n + 1.5 * 2^(mantissa bits).
template <class Real>
inline Vec<Real> pow2_of_shifted(Vec<Real> shifted) {
  constexpr int bias = sizeof(Real) == 4 ? 127 : 1023;
  constexpr int mantissa = sizeof(Real) == 4 ? 23 : 52;
  typename Vec<Real>::Bits n;
  std::memcpy(&n, &shifted.v, sizeof n);
  n = (n + bias) << mantissa;
  Vec<Real> a;
  std::memcpy(&a.v, &n, sizeof n);
  return a;
}

// No stores past the caches.
template <class Real>
inline void stream(Real* p, Vec<Real> a) {
  store(p, a);
}
inline void stream_end() {}
}  // namespace fastlstm::FASTLSTM_ISA
