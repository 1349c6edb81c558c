// Matrix tiles of bfloat16 for processors with AMX, beside AVX-512's Vec.
//
// A float is the sum of three bfloat16 (8 bits of mantissa each), and a product of two floats is that of their parts: the six
// largest of the nine leave out less than 2^-24 of it. They are added up in float32, so a product of matrices is as exact as with
// fused multiply-adds, at up to twice their speed: a tile product does 8192 multiply-adds in 16 cycles, a sixth of that counts,
// and two units of 16 lanes do 512. (Henry, Tang, Heinecke: Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations, 2019.) The unit takes denormal numbers for zeros: parts below 1e-38 are lost. Infinities and
// numbers beyond kLargest must not come here: their parts would give NaN.
#pragma once
#include <immintrin.h>
#include <cstdint>

#include "batch/index.h"
#include "isa/amx_registers.h"
#include "isa/avx512_vec.h"

#define FASTLSTM_TILES

namespace fastlstm::FASTLSTM_ISA {

inline constexpr Index kTile = 16;       // rows of a tile, and its columns of 4 bytes
inline constexpr Index kTileDepth = 32;  // terms of a sum that one tile product adds
inline constexpr Index kParts = 3;
inline constexpr Index kTileSize = kTile * kTileDepth;    // numbers in a tile
inline constexpr float kLargest = 1.152921504606847e18F;  // 2^60: products of two stay far from overflow

using Bfloat16 = std::uint16_t;  // bits

// The parts of 32 consecutive terms, 16 in `a` and 16 in `b`, part k to `to` + k * stride: term j stands beside term 16 + j.
// Tiles add two neighbours at once, so any order will do, and this one needs no shuffles.
inline __attribute__((always_inline)) void store_parts(F a, F b, Bfloat16* to, Index stride) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  const auto rounded = [&](F x) {
    return F{_mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x.v), half), upper))};
  };
  const auto put = [](F first, F second, Bfloat16* p) {
    const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(first.v), 16);
    _mm512_storeu_si512(p, _mm512_or_si512(low, _mm512_castps_si512(second.v)));
  };
#pragma GCC unroll 2
  for (Index k = 0; k < 2; ++k) {
    const F a_k = rounded(a);
    const F b_k = rounded(b);
    put(a_k, b_k, to + k * stride);
    a = a - a_k;
    b = b - b_k;
  }
  put(a, b, to + 2 * stride);  // 8 bits of 24 are left: exact
}

// The first and the second terms of the 16 pairs in each of two rows, `low` and `high`, as pairs of (low, high).
inline __attribute__((always_inline)) void regroup_pairs(const Bfloat16* low, const Bfloat16* high, Bfloat16* first,
                                                         Bfloat16* second) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  const __m512i a = _mm512_loadu_si512(low);
  const __m512i b = _mm512_loadu_si512(high);
  _mm512_storeu_si512(first, _mm512_or_si512(_mm512_andnot_si512(upper, a), _mm512_slli_epi32(b, 16)));
  _mm512_storeu_si512(second, _mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_and_si512(b, upper)));
}

// Not a number, infinite, or beyond kLargest.
inline bool any_large(F a) { return _mm512_cmp_ps_mask(_mm512_abs_ps(a.v), _mm512_set1_ps(kLargest), _CMP_NLT_UQ) != 0; }

// For as long as it lives, this thread's eight tiles have 16 rows of 64 bytes; where not `on`, nothing.
class Tiles {
 public:
  explicit Tiles(bool on) : on_(on) {
    if (on) configure_tiles();
  }
  ~Tiles() {
    if (on_) release_tiles();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  bool on_;
};

}  // namespace fastlstm::FASTLSTM_ISA
