// Blocks of a matrix transposed in registers: shared by the instruction sets that have AVX2.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fastlstm::FASTLSTM_ISA {

template <class Real>
inline constexpr int kTransposed = 32 / sizeof(Real);  // rows and columns of a block: 8 floats, 4 doubles

// to[c][r] = from[r][c] for 8 x 8: 2 x 2 pairs, then quads, then halves.
inline void transpose_block(const float* from, std::int64_t ld_from, float* to, std::int64_t ld_to) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_ps(from + r * ld_from);
#pragma GCC unroll 4
  for (int r = 0; r < 8; r += 2) {
    b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
    b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 8; r += 4) {
    a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44);
    a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xEE);
    a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44);
    a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(to + c * ld_to, _mm256_permute2f128_ps(a[c], a[c + 4], 0x20));
    _mm256_storeu_ps(to + (c + 4) * ld_to, _mm256_permute2f128_ps(a[c], a[c + 4], 0x31));
  }
}

// The same for 4 x 4.
inline void transpose_block(const double* from, std::int64_t ld_from, double* to, std::int64_t ld_to) {
  __m256d a[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) a[r] = _mm256_loadu_pd(from + r * ld_from);
  const __m256d low0 = _mm256_unpacklo_pd(a[0], a[1]);
  const __m256d high0 = _mm256_unpackhi_pd(a[0], a[1]);
  const __m256d low1 = _mm256_unpacklo_pd(a[2], a[3]);
  const __m256d high1 = _mm256_unpackhi_pd(a[2], a[3]);
  _mm256_storeu_pd(to, _mm256_permute2f128_pd(low0, low1, 0x20));
  _mm256_storeu_pd(to + ld_to, _mm256_permute2f128_pd(high0, high1, 0x20));
  _mm256_storeu_pd(to + 2 * ld_to, _mm256_permute2f128_pd(low0, low1, 0x31));
  _mm256_storeu_pd(to + 3 * ld_to, _mm256_permute2f128_pd(high0, high1, 0x31));
}

}  // namespace fastlstm::FASTLSTM_ISA
