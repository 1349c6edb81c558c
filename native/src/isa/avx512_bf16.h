// Products of pairs of bfloat16, for processors with AVX512_BF16, beside AVX-512's Vec. Included inside an ISA's namespace, after
// its Vec and kernels/terms.h.
//
// One instruction adds two neighbouring products to a float32 sum: twice the multiply-adds of a fused one on float32 (Zen 4: 111
// and 221 GFLOP/s a core). It rounds each of the two additions to the nearest, and takes denormal numbers for zeros, as the
// engine does.

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
