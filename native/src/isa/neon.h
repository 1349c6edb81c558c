// Vec for AArch64 Advanced SIMD: 32 registers of 16 bytes.
#pragma once
#include <arm_neon.h>

#include <cstdint>

#include "fastlstm/engine.h"
#include "isa/scalar_transpose.h"
#include "isa/through_stack.h"

namespace fastlstm::FASTLSTM_ISA {

inline constexpr int kRegisters = 32;

template <class Real>
struct Vec;

template <>
struct Vec<float> {
  static constexpr int lanes = 4;
  float32x4_t v;
};

template <>
struct Vec<double> {
  static constexpr int lanes = 2;
  float64x2_t v;
};

using F = Vec<float>;
using D = Vec<double>;

inline F load(const float* p) { return {vld1q_f32(p)}; }
inline D load(const double* p) { return {vld1q_f64(p)}; }
inline void store(float* p, F a) { vst1q_f32(p, a.v); }
inline void store(double* p, D a) { vst1q_f64(p, a.v); }
inline F broadcast(float a) { return {vdupq_n_f32(a)}; }
inline D broadcast(double a) { return {vdupq_n_f64(a)}; }

template <class Real>
inline Vec<Real> load_first(const Real* p, int count) {
  return load_through_stack<Vec<Real>::lanes>(p, count, [](const Real* all) { return load(all); });
}
template <class Real>
inline void store_first(Real* p, Vec<Real> a, int count) {
  store_through_stack<Vec<Real>::lanes>(p, count, [&](Real* all) { store(all, a); });
}

// 16-bit numbers: widened, and rounded to the nearest, ties to even; a NaN stays one.
inline F load(const BFloat16* p) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p)), 16))};
}
inline F load(const Float16* p) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))))};
}
inline void store(BFloat16* p, F a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
  const uint32x4_t is_number = vceqq_f32(a.v, a.v);
  vst1_u16(reinterpret_cast<std::uint16_t*>(p), vshrn_n_u32(vbslq_u32(is_number, rounded, vdupq_n_u32(0x7FC00000)), 16));
}
inline void store(Float16* p, F a) { vst1_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
template <class Number>
inline F load_first_16(const Number* p, int count) {
  return load_through_stack<F::lanes>(p, count, [](const Number* all) { return load(all); });
}
template <class Number>
inline void store_first_16(Number* p, F a, int count) {
  store_through_stack<F::lanes>(p, count, [&](Number* all) { store(all, a); });
}
inline F load_first(const BFloat16* p, int count) { return load_first_16(p, count); }
inline F load_first(const Float16* p, int count) { return load_first_16(p, count); }
inline void store_first(BFloat16* p, F a, int count) { store_first_16(p, a, count); }
inline void store_first(Float16* p, F a, int count) { store_first_16(p, a, count); }

inline F operator+(F a, F b) { return {vaddq_f32(a.v, b.v)}; }
inline D operator+(D a, D b) { return {vaddq_f64(a.v, b.v)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.v, b.v)}; }
inline D operator-(D a, D b) { return {vsubq_f64(a.v, b.v)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.v, b.v)}; }
inline D operator*(D a, D b) { return {vmulq_f64(a.v, b.v)}; }
inline F operator/(F a, F b) { return {vdivq_f32(a.v, b.v)}; }
inline D operator/(D a, D b) { return {vdivq_f64(a.v, b.v)}; }

// a * b + c, and c - a * b.
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline D fma(D a, D b, D c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
inline F fnma(F a, F b, F c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
inline D fnma(D a, D b, D c) { return {vfmsq_f64(c.v, a.v, b.v)}; }

// x limited to [low, high]; a NaN stays (FMAX and FMIN propagate it).
inline F clamp(F x, float low, float high) { return {vminq_f32(vdupq_n_f32(high), vmaxq_f32(vdupq_n_f32(low), x.v))}; }
inline D clamp(D x, double low, double high) { return {vminq_f64(vdupq_n_f64(high), vmaxq_f64(vdupq_n_f64(low), x.v))}; }

// 2^n of the integer n that sits in the low bits of `shifted` = n + 1.5 * 2^(mantissa bits).
inline F pow2_of_shifted(F shifted) {
  const int32x4_t n = vreinterpretq_s32_f32(shifted.v);
  return {vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23))};
}
inline D pow2_of_shifted(D shifted) {
  const int64x2_t n = vreinterpretq_s64_f64(shifted.v);
  return {vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(n, vdupq_n_s64(1023)), 52))};
}

// No stores past the caches.
template <class Real>
inline void stream(Real* p, Vec<Real> a) {
  store(p, a);
}
inline void stream_end() {}
}  // namespace fastlstm::FASTLSTM_ISA
