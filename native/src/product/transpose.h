// A matrix transposed, between numbers and 16 bits, too.
#pragma once
#include "product/elements.h"

namespace fastlstm::FASTLSTM_ISA {

// to[c][r] = from[r][c]
template <class Real>
void transpose(const Real* from, Index ld_from, Index rows, Index columns, Real* to, Index ld_to) {
  constexpr Index block = kTransposed<Real>;
  Index c = 0;
  for (; c + block <= columns; c += block) {
    Index r = 0;
    for (; r + block <= rows; r += block) transpose_block(from + r * ld_from + c, ld_from, to + c * ld_to + r, ld_to);
    for (; r < rows; ++r)
      for (Index k = c; k < c + block; ++k) to[k * ld_to + r] = from[r * ld_from + k];
  }
  for (; c < columns; ++c)
    for (Index r = 0; r < rows; ++r) to[c * ld_to + r] = from[r * ld_from + c];
}

// The same for 16-bit numbers: pieces that stay in L1 are widened first.
template <class Bits16>
  requires(sizeof(Bits16) == 2)
void transpose(const Bits16* from, Index ld_from, Index rows, Index columns, float* to, Index ld_to) {
  constexpr Index height = 16;
  constexpr Index width = 128;
  float piece[height * width];
  for (Index c = 0; c < columns; c += width)
    for (Index r = 0; r < rows; r += height) {
      const Index wide = columns - c < width ? columns - c : width;
      const Index high = rows - r < height ? rows - r : height;
      for (Index k = 0; k < high; ++k) widen(from + (r + k) * ld_from + c, piece + k * width, wide);
      transpose(piece, width, high, wide, to + c * ld_to + r, ld_to);
    }
}
// And from numbers into 16 bits: for few columns, of any height.
template <class Bits16>
  requires(sizeof(Bits16) == 2)
void transpose(const float* from, Index ld_from, Index rows, Index columns, Bits16* to, Index ld_to) {
  constexpr Index height = 128;
  constexpr Index width = 16;
  float piece[width * height];
  for (Index r = 0; r < rows; r += height)
    for (Index c = 0; c < columns; c += width) {
      const Index high = rows - r < height ? rows - r : height;
      const Index wide = columns - c < width ? columns - c : width;
      transpose(from + r * ld_from + c, ld_from, high, wide, piece, height);
      for (Index k = 0; k < wide; ++k) round_to_16(piece + k * height, to + (c + k) * ld_to + r, high);
    }
}

}  // namespace fastlstm::FASTLSTM_ISA
