// Vec for AVX-512 (F, DQ, VL, BW): 32 registers of 64 bytes. Its namespace is FASTLSTM_ISA: avx512, or amx, which has the same
// Vec.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "fastlstm/engine.h"
#include "isa/avx2_transpose.h"

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
// Past the caches, to memory that nobody reads soon: `p` is aligned to the Vec. After the last one, before another thread may
// read it, stream_end().
inline void stream(float* p, F a) { _mm512_stream_ps(p, a.v); }
inline void stream(double* p, D a) { _mm512_stream_pd(p, a.v); }
inline void stream_end() { _mm_sfence(); }
inline F broadcast(float a) { return {_mm512_set1_ps(a)}; }
inline D broadcast(double a) { return {_mm512_set1_pd(a)}; }

inline __mmask16 first(float, int count) { return static_cast<__mmask16>((1U << count) - 1U); }
inline __mmask8 first(double, int count) { return static_cast<__mmask8>((1U << count) - 1U); }
inline F load_first(const float* p, int count) { return {_mm512_maskz_loadu_ps(first(0.0F, count), p)}; }
inline D load_first(const double* p, int count) { return {_mm512_maskz_loadu_pd(first(0.0, count), p)}; }
inline void store_first(float* p, F a, int count) { _mm512_mask_storeu_ps(p, first(0.0F, count), a.v); }
inline void store_first(double* p, D a, int count) { _mm512_mask_storeu_pd(p, first(0.0, count), a.v); }

// 16-bit numbers: widened, and rounded to the nearest, ties to even; a NaN stays one.
inline F widened(BFloat16, __m256i a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16))}; }
inline F widened(Float16, __m256i a) { return {_mm512_cvtph_ps(a)}; }
inline __m256i rounded(BFloat16, F a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i upper = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(upper, nan, _mm512_set1_epi32(0x7FC0)));
}
inline __m256i rounded(Float16, F a) { return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

template <class Bits16>
inline F load_16(const Bits16* p) {
  return widened(Bits16{}, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
template <class Bits16>
inline F load_first_16(const Bits16* p, int count) {
  return widened(Bits16{}, _mm256_maskz_loadu_epi16(first(0.0F, count), p));
}
inline F load(const BFloat16* p) { return load_16(p); }
inline F load(const Float16* p) { return load_16(p); }
inline F load_first(const BFloat16* p, int count) { return load_first_16(p, count); }
inline F load_first(const Float16* p, int count) { return load_first_16(p, count); }
inline void store(BFloat16* p, F a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(BFloat16{}, a)); }
inline void store(Float16* p, F a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded(Float16{}, a)); }
inline void store_first(BFloat16* p, F a, int count) { _mm256_mask_storeu_epi16(p, first(0.0F, count), rounded(BFloat16{}, a)); }
inline void store_first(Float16* p, F a, int count) { _mm256_mask_storeu_epi16(p, first(0.0F, count), rounded(Float16{}, a)); }

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

}  // namespace fastlstm::FASTLSTM_ISA
