// Products of pairs of bfloat16, for processors with AVX512_BF16, beside AVX-512's Vec.
//
// One instruction adds two neighbouring products to a float32 sum: twice the multiply-adds of a fused one on float32 (Zen 4: 111
// and 221 GFLOP/s a core). It rounds each of the two additions to the nearest, and takes denormal numbers for zeros, as the
// engine does.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

#include "isa/avx512_vec.h"
#include "isa/terms.h"

#define FASTLSTM_PAIRS

namespace fastlstm::FASTLSTM_ISA {

template <>
struct Vec<Pair> {
  static constexpr int lanes = 16;
  __m512i v;
};

inline Vec<Pair> load(const Pair* p) { return {_mm512_loadu_si512(p)}; }
inline void store(Pair* p, Vec<Pair> a) { _mm512_storeu_si512(p, a.v); }
inline void store_first(Pair* p, Vec<Pair> a, int count) { _mm512_mask_storeu_epi32(p, first(0.0F, count), a.v); }
inline Vec<Pair> broadcast(Pair a) {
  int bits;
  std::memcpy(&bits, &a, sizeof bits);
  return {_mm512_set1_epi32(bits)};
}
// a.first * b.first + a.second * b.second + c
inline F fma(Vec<Pair> a, Vec<Pair> b, F c) {
  return {_mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}

// Rounded to the nearest, ties to even.
inline __m256i rounded_bfloat16(F a) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a.v)); }
inline void store_elements(BFloat16* p, F a, Index columns) {
  if (columns >= F::lanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded_bfloat16(a));
  } else if (columns > 0) {
    _mm256_mask_storeu_epi16(p, first(0.0F, static_cast<int>(columns)), rounded_bfloat16(a));
  }
}

// Lane by lane, two numbers as a pair.
inline Vec<Pair> zip(__m256i first, __m256i second) {
  return {_mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16))};
}
inline Vec<Pair> zip(F first, F second) { return zip(rounded_bfloat16(first), rounded_bfloat16(second)); }
// The same from two rows, of which `columns` are there; a null row is zeros.
inline Vec<Pair> zip(const BFloat16* first_row, const BFloat16* second_row, Index columns) {
  const __mmask16 mask = columns >= F::lanes ? 0xFFFF : first(0.0F, columns > 0 ? static_cast<int>(columns) : 0);
  const auto row = [&](const BFloat16* p) { return p == nullptr ? _mm256_setzero_si256() : _mm256_maskz_loadu_epi16(mask, p); };
  return zip(row(first_row), row(second_row));
}
// The same of two Vecs' columns, all there, to `to`.
inline void zip_two(const BFloat16* first_row, const BFloat16* second_row, Pair* to) {
  alignas(64) static constexpr std::uint16_t order[2][32] = {
      {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  const __m512i a = _mm512_loadu_si512(first_row);
  const __m512i b = second_row == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(second_row);
  _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, _mm512_load_si512(order[0]), b));
  _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi16(a, _mm512_load_si512(order[1]), b));
}
// And of eight numbers of each row, rounded.
inline void zip_few(const float* first_row, const float* second_row, Pair* to) {
  const auto a = reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(_mm256_loadu_ps(first_row)));
  const auto b = reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(_mm256_loadu_ps(second_row)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi16(a, b));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4), _mm_unpackhi_epi16(a, b));
}

}  // namespace fastlstm::FASTLSTM_ISA
