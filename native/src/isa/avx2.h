// Vec for AVX2 with FMA: 16 registers of 32 bytes.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "fastlstm/engine.h"
#include "isa/avx2_transpose.h"
#include "isa/through_stack.h"

namespace fastlstm::FASTLSTM_ISA {

inline constexpr int kRegisters = 16;

template <class Real>
struct Vec;

template <>
struct Vec<float> {
  static constexpr int lanes = 8;
  __m256 v;
};

template <>
struct Vec<double> {
  static constexpr int lanes = 4;
  __m256d v;
};

using F = Vec<float>;
using D = Vec<double>;

inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline D load(const double* p) { return {_mm256_loadu_pd(p)}; }
inline void store(float* p, F a) { _mm256_storeu_ps(p, a.v); }
inline void store(double* p, D a) { _mm256_storeu_pd(p, a.v); }
// Past the caches, to memory that nobody reads soon: `p` is aligned to the Vec. After the last one, before another thread may
// read it, stream_end().
inline void stream(float* p, F a) { _mm256_stream_ps(p, a.v); }
inline void stream(double* p, D a) { _mm256_stream_pd(p, a.v); }
inline void stream_end() { _mm_sfence(); }
inline F broadcast(float a) { return {_mm256_set1_ps(a)}; }
inline D broadcast(double a) { return {_mm256_set1_pd(a)}; }

inline __m256i first(float, int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i first(double, int count) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3)); }
inline F load_first(const float* p, int count) { return {_mm256_maskload_ps(p, first(0.0F, count))}; }
inline D load_first(const double* p, int count) { return {_mm256_maskload_pd(p, first(0.0, count))}; }
inline void store_first(float* p, F a, int count) { _mm256_maskstore_ps(p, first(0.0F, count), a.v); }
inline void store_first(double* p, D a, int count) { _mm256_maskstore_pd(p, first(0.0, count), a.v); }

// 16-bit numbers: widened, and rounded to the nearest, ties to even; a NaN stays one.
inline F load(const BFloat16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline F load(const Float16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline void store(BFloat16* p, F a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i upper = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i rounded = _mm256_blendv_epi8(upper, _mm256_set1_epi32(0x7FC0), nan);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
}
inline void store(Float16* p, F a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
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

inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline D operator+(D a, D b) { return {_mm256_add_pd(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline D operator-(D a, D b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline D operator*(D a, D b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
inline D operator/(D a, D b) { return {_mm256_div_pd(a.v, b.v)}; }

// a * b + c, and c - a * b.
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline D fma(D a, D b, D c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline F fnma(F a, F b, F c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline D fnma(D a, D b, D c) { return {_mm256_fnmadd_pd(a.v, b.v, c.v)}; }

// x limited to [low, high]; a NaN stays (max and min return their second operand there).
inline F clamp(F x, float low, float high) {
  return {_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), x.v))};
}
inline D clamp(D x, double low, double high) {
  return {_mm256_min_pd(_mm256_set1_pd(high), _mm256_max_pd(_mm256_set1_pd(low), x.v))};
}

// 2^n of the integer n that sits in the low bits of `shifted` = n + 1.5 * 2^(mantissa bits).
inline F pow2_of_shifted(F shifted) {
  const __m256i n = _mm256_castps_si256(shifted.v);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23))};
}
inline D pow2_of_shifted(D shifted) {
  const __m256i n = _mm256_castpd_si256(shifted.v);
  return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_add_epi64(n, _mm256_set1_epi64x(1023)), 52))};
}

}  // namespace fastlstm::FASTLSTM_ISA
