// The left operand of products over rows: features, transposed into tiles of kTileRows, [term of rows][feature] each.
#pragma once
#include <cstring>

#include "product/micro_kernel.h"

namespace fastlstm::FASTLSTM_ISA {

// What a tile of kTileRows features of so many rows takes: a line more than they are, or 256 rows of several tiles would all
// stand in the same few sets of L1 (packing 128 features: 12 us, and 3.7 with it).
template <class Term>
inline Index feature_tile_size(Index rows) {
  return terms<Term>(rows) * kTileRows + 64 / static_cast<Index>(sizeof(Term));
}

// Tiles of kTileRows features, [term of rows][feature] each, `size` terms apart. A row of one moves as so many numbers, since
// registers have no six: what stands past it, the next row overwrites; the last row has none.
inline constexpr Index kMoved = 8;

template <class Term>
struct FeatureTiles {
  Term* first;
  Index size;
  Index count;
  Index rows;
};

// The features of the rows [row0, row0 + rows) of a block, which stand ld apart in `source`, `features` of them, into tiles. A
// null source gives zeros. Rows come in their order. Row by row: tile by tile, every row's lines came once for each.
template <class Real>
inline void pack_features(const Real* source, Index ld, Index row0, Index rows, Index features, const FeatureTiles<Real>& to) {
  for (Index r = 0; r < rows; ++r)
    for (Index m = 0; m < to.count; ++m) {
      const Index left = source == nullptr ? 0 : features - m * kTileRows;
      const Real* const from = source == nullptr ? source : source + r * ld + m * kTileRows;
      Real* const at = to.first + m * to.size + (row0 + r) * kTileRows;
      if (left >= kMoved && row0 + r + 1 < to.rows) {
        std::memcpy(at, from, kMoved * sizeof(Real));
      } else {
        for (Index j = 0; j < kTileRows; ++j) at[j] = j < left ? from[j] : Real(0);
      }
    }
}
// The feature of the biases, 1, which a tile has once.
template <class Real>
inline void pack_ones(Real* tile, Index rows) {
  for (Index k = 0; k < rows * kTileRows; ++k) tile[k] = Real(1);
}

}  // namespace fastlstm::FASTLSTM_ISA
