// Blocks of a matrix transposed, element by element.
#pragma once
#include <cstdint>

namespace fastlstm::FASTLSTM_ISA {

// to[c][r] = from[r][c] for 4 x 4
template <class Real>
inline constexpr int kTransposed = 4;
template <class Real>
inline void transpose_block(const Real* from, std::int64_t ld_from, Real* to, std::int64_t ld_to) {
  for (int c = 0; c < 4; ++c)
    for (int r = 0; r < 4; ++r) to[c * ld_to + r] = from[r * ld_from + c];
}

}  // namespace fastlstm::FASTLSTM_ISA
