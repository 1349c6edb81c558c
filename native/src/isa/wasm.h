// Vec for WebAssembly's 128-bit SIMD. It names no registers; processors that run it have 16 or 32. No fused multiply-add.
#pragma once
#include <wasm_simd128.h>

#include <cstdint>

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
  v128_t v;
};

template <>
struct Vec<double> {
  static constexpr int lanes = 2;
  v128_t v;
};

using F = Vec<float>;
using D = Vec<double>;

inline F load(const float* p) { return {wasm_v128_load(p)}; }
inline D load(const double* p) { return {wasm_v128_load(p)}; }
inline void store(float* p, F a) { wasm_v128_store(p, a.v); }
inline void store(double* p, D a) { wasm_v128_store(p, a.v); }
inline F broadcast(float a) { return {wasm_f32x4_splat(a)}; }
inline D broadcast(double a) { return {wasm_f64x2_splat(a)}; }

template <class Real>
inline Vec<Real> load_first(const Real* p, int count) {
  return load_through_stack<Vec<Real>::lanes>(p, count, [](const Real* all) { return load(all); });
}
template <class Real>
inline void store_first(Real* p, Vec<Real> a, int count) {
  store_through_stack<Vec<Real>::lanes>(p, count, [&](Real* all) { store(all, a); });
}

// 16-bit numbers: widened, and rounded to the nearest, ties to even; a NaN stays one. float16 has no instructions here.
inline F load(const BFloat16* p) { return {wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16)}; }
inline F load(const Float16* p) { return {wasm_f32x4_make(widened(p[0]), widened(p[1]), widened(p[2]), widened(p[3]))}; }
inline void store(BFloat16* p, F a) {
  const v128_t odd = wasm_v128_and(wasm_u32x4_shr(a.v, 16), wasm_i32x4_splat(1));
  const v128_t rounded = wasm_i32x4_add(wasm_i32x4_add(a.v, wasm_i32x4_splat(0x7FFF)), odd);
  const v128_t is_number = wasm_f32x4_eq(a.v, a.v);
  const v128_t upper = wasm_u32x4_shr(wasm_v128_bitselect(rounded, wasm_i32x4_splat(0x7FC00000), is_number), 16);
  wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(upper, upper), 0);
}
inline void store(Float16* p, F a) {
  float lanes[F::lanes];
  store(lanes, a);
  for (int k = 0; k < F::lanes; ++k) round_to(p[k], lanes[k]);
}
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

inline F operator+(F a, F b) { return {wasm_f32x4_add(a.v, b.v)}; }
inline D operator+(D a, D b) { return {wasm_f64x2_add(a.v, b.v)}; }
inline F operator-(F a, F b) { return {wasm_f32x4_sub(a.v, b.v)}; }
inline D operator-(D a, D b) { return {wasm_f64x2_sub(a.v, b.v)}; }
inline F operator*(F a, F b) { return {wasm_f32x4_mul(a.v, b.v)}; }
inline D operator*(D a, D b) { return {wasm_f64x2_mul(a.v, b.v)}; }
inline F operator/(F a, F b) { return {wasm_f32x4_div(a.v, b.v)}; }
inline D operator/(D a, D b) { return {wasm_f64x2_div(a.v, b.v)}; }

// a * b + c, and c - a * b, each rounded twice.
template <class Real>
inline Vec<Real> fma(Vec<Real> a, Vec<Real> b, Vec<Real> c) {
  return a * b + c;
}
template <class Real>
inline Vec<Real> fnma(Vec<Real> a, Vec<Real> b, Vec<Real> c) {
  return c - a * b;
}

// x limited to [low, high]; a NaN stays: pmax(a, b) is a < b ? b : a, pmin(a, b) is b < a ? b : a.
inline F clamp(F x, float low, float high) {
  return {wasm_f32x4_pmin(wasm_f32x4_pmax(x.v, broadcast(low).v), broadcast(high).v)};
}
inline D clamp(D x, double low, double high) {
  return {wasm_f64x2_pmin(wasm_f64x2_pmax(x.v, broadcast(low).v), broadcast(high).v)};
}

// 2^n of the integer n that sits in the low bits of `shifted` = n + 1.5 * 2^(mantissa bits).
inline F pow2_of_shifted(F shifted) { return {wasm_i32x4_shl(wasm_i32x4_add(shifted.v, wasm_i32x4_splat(127)), 23)}; }
inline D pow2_of_shifted(D shifted) { return {wasm_i64x2_shl(wasm_i64x2_add(shifted.v, wasm_i64x2_splat(1023)), 52)}; }

// No stores past the caches.
template <class Real>
inline void stream(Real* p, Vec<Real> a) {
  store(p, a);
}
inline void stream_end() {}
}  // namespace fastlstm::FASTLSTM_ISA
