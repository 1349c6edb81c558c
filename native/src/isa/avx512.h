// Vec for AVX-512 (F, DQ, VL, BW): 32 registers of 64 bytes. Its namespace is FASTLSTM_ISA: avx512, or amx, which has the same
// Vec.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fastlstm::FASTLSTM_ISA {

inline constexpr int kRegisters = 32;

template <class Real>
struct Vec;

template <>
struct Vec<float> {
  static constexpr int lanes = 16;
  __m512 v;
};

template <>
struct Vec<double> {
  static constexpr int lanes = 8;
  __m512d v;
};

using F = Vec<float>;
using D = Vec<double>;

inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline D load(const double* p) { return {_mm512_loadu_pd(p)}; }
inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline void store(double* p, D a) { _mm512_storeu_pd(p, a.v); }
inline F broadcast(float a) { return {_mm512_set1_ps(a)}; }
inline D broadcast(double a) { return {_mm512_set1_pd(a)}; }

inline __mmask16 first(float, int count) { return static_cast<__mmask16>((1U << count) - 1U); }
inline __mmask8 first(double, int count) { return static_cast<__mmask8>((1U << count) - 1U); }
inline F load_first(const float* p, int count) { return {_mm512_maskz_loadu_ps(first(0.0F, count), p)}; }
inline D load_first(const double* p, int count) { return {_mm512_maskz_loadu_pd(first(0.0, count), p)}; }
inline void store_first(float* p, F a, int count) { _mm512_mask_storeu_ps(p, first(0.0F, count), a.v); }
inline void store_first(double* p, D a, int count) { _mm512_mask_storeu_pd(p, first(0.0, count), a.v); }

inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline D operator+(D a, D b) { return {_mm512_add_pd(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline D operator-(D a, D b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline D operator*(D a, D b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline D operator/(D a, D b) { return {_mm512_div_pd(a.v, b.v)}; }

// a * b + c, and c - a * b.
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline D fma(D a, D b, D c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
inline D fnma(D a, D b, D c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }

// x limited to [low, high]; a NaN stays (max and min return their second operand there).
inline F clamp(F x, float low, float high) {
  return {_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x.v))};
}
inline D clamp(D x, double low, double high) {
  return {_mm512_min_pd(_mm512_set1_pd(high), _mm512_max_pd(_mm512_set1_pd(low), x.v))};
}

// 2^n of the integer n that sits in the low bits of `shifted` = n + 1.5 * 2^(mantissa bits).
inline F pow2_of_shifted(F shifted) {
  const __m512i n = _mm512_castps_si512(shifted.v);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23))};
}
inline D pow2_of_shifted(D shifted) {
  const __m512i n = _mm512_castpd_si512(shifted.v);
  return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_add_epi64(n, _mm512_set1_epi64(1023)), 52))};
}

#include "transpose.h"

}  // namespace fastlstm::FASTLSTM_ISA
