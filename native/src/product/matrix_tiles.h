// Products of float32 matrices on tiles of bfloat16 (isa/amx_tiles.h has why that is exact enough).
//
// The left operand, TileRows: [block of kTileDepth terms][part][row][kTileDepth]. The right one is panels of kPanel columns:
// [block of terms][part][4 tiles], each tile [pair of terms][kTile columns][2]. In both, a block's terms stand as store_parts
// leaves them, and those past the end are zeros. Every element of a result is added up block by block, and in a block part by
// part, in one order whatever the tile it falls in.
#pragma once
#include "batch/share.h"
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

#ifdef FASTLSTM_TILES

template <class Term>
inline constexpr bool kTiled = sizeof(RealOf<Term>) == sizeof(float);

inline constexpr Index kPanelTiles = 4;
static_assert(kPanelTiles * kTile == kPanel<float> && kTile == kLanes<float>);

inline Index tile_blocks(Index terms) { return (terms + kTileDepth - 1) / kTileDepth; }
inline Index panel_size(Index blocks) { return blocks * kParts * kPanelTiles * kTileSize; }

// Parts that are not zero: bfloat16 numbers are their own first part.
inline int parts_of(Element element) { return element == Element::bfloat16 ? 1 : int{kParts}; }

struct TileRows {
  Bfloat16* data;
  Index rows;  // and kTile more, so that a tile may start at any row; what it holds past the last one only reaches sums nobody
               // reads

  static Index size(Index blocks, Index rows) { return blocks * kParts * (rows + kTile) * kTileDepth; }
  Index part_stride() const { return (rows + kTile) * kTileDepth; }
  Bfloat16* at(Index block, Index part, Index row) const {
    return data + (block * kParts + part) * part_stride() + row * kTileDepth;
  }
};

// A block of a row's parts: x[0 .. count) and zeros, part k to `to` + k * stride. True: a number there is too large for tiles.
template <class Element>
inline bool split_block(const Element* x, Index count, Bfloat16* to, Index stride) {
  const Vec<float> first = load_columns(x, count);
  const Vec<float> second = load_columns(x + kTile, count - kTile);
  store_parts(first, second, to, stride);
  return any_large(first) || any_large(second);
}

// Blocks [blocks) of a row = x[0 .. K) and zeros. True: a number there is too large for tiles.
inline bool split_row(const float* x, Index K, const TileRows& to, Index row, Range blocks) {
  bool large = false;
  for (Index b = blocks.first; b < blocks.last; ++b)
    large |= split_block(x + b * kTileDepth, K - b * kTileDepth, to.at(b, 0, row), to.part_stride());
  return large;
}

// The terms of a panel's tile from its columns: column j has terms x[j][0 .. K), and zeros; no column past the last one.
template <class Element>
inline bool pack_tile_columns(const Element* x, Index ld, Index columns, Index K, int parts, Bfloat16* panel, Index tile) {
  alignas(64) Bfloat16 pairs[kParts][kTile][kTileDepth] = {};
  bool large = false;
  for (Index j = 0; j < kTile && j < columns; ++j) large |= split_block(x + j * ld, K, pairs[0][j], kTile * kTileDepth);
  for (Index part = 0; part < parts; ++part) {  // pairs of terms move as one float
    const float* const from = reinterpret_cast<const float*>(pairs[part]);
    float* const to = reinterpret_cast<float*>(panel + (part * kPanelTiles + tile) * kTileSize);
    constexpr Index block = kTransposed<float>;
    for (Index r = 0; r < kTile; r += block)
      for (Index c = 0; c < kTile; c += block) transpose_block(from + r * kTile + c, kTile, to + c * kTile + r, kTile);
  }
  return large;
}

// Panels whose columns are the gates of a block of units, its terms the columns of w, which is (gates * H, K): those of the
// blocks [u0, u1). True: a weight is too large for tiles.
template <class Order>
bool pack_tile_gates(const Source<float>& weights, Index H, Index K, Bfloat16* panels, Index u0, Index u1) {
  bool large = false;
  const Index blocks = tile_blocks(K);
  const int parts = parts_of(weights.element);
  for (Index u = u0; u < u1; ++u)
    for (Index b = 0; b < blocks; ++b)
      for (Index sum = 0; sum < Order::kSums; ++sum)
        visit(weights, [&](const auto* w) {
          const Index gate = Order::gates[sum];
          large |=
              pack_tile_columns(w + (gate < 0 ? 0 : gate * H + u * kTile) * K + b * kTileDepth, K, gate < 0 ? 0 : H - u * kTile,
                                K - b * kTileDepth, parts, panels + u * panel_size(blocks) + panel_size(b), sum);
        });
  return large;
}

// Panels whose terms are gates, in gate order, and whose columns are those of w, which is (gates * H, columns): the panels [p0,
// p1). A block of terms is two gates of kTile units. True: a weight is too large for tiles.
template <class Order>
bool pack_tile_gate_rows(const Source<float>& weights, Index H, Index columns, Bfloat16* panels, Index p0, Index p1) {
  bool large = false;
  constexpr Index pairs = Order::kSums / 2;  // of gates, of a unit
  const Index blocks = pairs * unit_blocks<float>(H);
  for (Index p = p0; p < p1; ++p)
    for (Index b = 0; b < blocks; ++b)
      for (Index tile = 0; tile < kPanelTiles; ++tile) {
        const Index unit = b / pairs * kTile;
        const Index sum = b % pairs * 2;
        const Index j = p * kPanel<float> + tile * kTile;
        Bfloat16* const to = panels + p * panel_size(blocks) + panel_size(b) + tile * kTileSize;
        for (Index lane = 0; lane < kTile; ++lane) {  // a pair: the two gates of a unit
          const auto row = [&](Index g) {
            if (g < 0 || unit + lane >= H) return broadcast(0.0F);
            return visit(weights,
                         [&](const auto* w) { return load_columns(w + (g * H + unit + lane) * columns + j, columns - j); });
          };
          const Vec<float> first = row(Order::gates[sum]);
          const Vec<float> second = row(Order::gates[sum + 1]);
          large |= any_large(first) || any_large(second);
          store_parts(first, second, to + lane * 2 * kTile, kPanelTiles * kTileSize);
        }
      }
  return large;
}

// Tiles 0 to 3 += the products of kTile rows, from `rows` on, and a panel, over `blocks` blocks of terms. Of A parts of the rows
// and B of the panel: the products with the others would add zeros.
template <int A, int B>
inline __attribute__((always_inline)) void add_products(const Bfloat16* rows, Index part_stride, const Bfloat16* panel,
                                                        Index blocks) {
  const auto column = [&]<int SUM, int ROW_PARTS>() {
    load_tile<7>(panel + SUM * kTileSize, 2 * kTileDepth);
    multiply_tiles<SUM, 4, 7>();
    if constexpr (ROW_PARTS > 1) multiply_tiles<SUM, 5, 7>();
    if constexpr (ROW_PARTS > 2) multiply_tiles<SUM, 6, 7>();
  };
  const auto part = [&]<int MOST>() {
    constexpr int ROW_PARTS = MOST < A ? MOST : A;
    column.template operator()<0, ROW_PARTS>();
    column.template operator()<1, ROW_PARTS>();
    column.template operator()<2, ROW_PARTS>();
    column.template operator()<3, ROW_PARTS>();
    panel += kPanelTiles * kTileSize;
  };
  for (Index b = 0; b < blocks; ++b) {
    load_tile<4>(rows, 2 * kTileDepth);
    if constexpr (A > 1) load_tile<5>(rows + part_stride, 2 * kTileDepth);
    if constexpr (A > 2) load_tile<6>(rows + 2 * part_stride, 2 * kTileDepth);
    part.template operator()<3>();
    if constexpr (B > 1) part.template operator()<2>();
    if constexpr (B > 2) part.template operator()<1>();
    rows += kParts * part_stride;
    panel += (kParts - B) * kPanelTiles * kTileSize;
  }
}

// The same for twice as many rows and half a panel, which loads half as much of it: tiles 0 and 1 are the sums of the first kTile
// rows and two tiles of columns, 2 and 3 those of the next rows. Every sum has its terms in the same order.
template <int A, int B>
inline __attribute__((always_inline)) void add_products_of_pair(const Bfloat16* rows, Index part_stride,
                                                                const Bfloat16* half_panel, Index blocks) {
  const auto part = [&]<int MOST>() {
    constexpr int ROW_PARTS = MOST < A ? MOST : A;
    load_tile<6>(half_panel, 2 * kTileDepth);
    load_tile<7>(half_panel + kTileSize, 2 * kTileDepth);
    for (Index k = 0; k < ROW_PARTS; ++k) {
      load_tile<4>(rows + k * part_stride, 2 * kTileDepth);
      load_tile<5>(rows + k * part_stride + kTileSize, 2 * kTileDepth);
      multiply_tiles<0, 4, 6>();
      multiply_tiles<1, 4, 7>();
      multiply_tiles<2, 5, 6>();
      multiply_tiles<3, 5, 7>();
    }
    half_panel += kPanelTiles * kTileSize;
  };
  for (Index b = 0; b < blocks; ++b) {
    part.template operator()<3>();
    if constexpr (B > 1) part.template operator()<2>();
    if constexpr (B > 2) part.template operator()<1>();
    rows += kParts * part_stride;
    half_panel += (kParts - B) * kPanelTiles * kTileSize;
  }
}

// Tiles 0 to 3 from and to kTile rows of kPanel floats, or (PAIR) 2 * kTile rows of half as many.
template <bool PAIR = false>
inline void load_sums(const float* c, Index ldc) {
  const Index bytes = ldc * static_cast<Index>(sizeof(float));
  const float* const third = PAIR ? c + kTile * ldc : c + 2 * kTile;
  load_tile<0>(c, bytes);
  load_tile<1>(c + kTile, bytes);
  load_tile<2>(third, bytes);
  load_tile<3>(third + kTile, bytes);
}
template <bool PAIR = false>
inline void store_sums(float* c, Index ldc) {
  const Index bytes = ldc * static_cast<Index>(sizeof(float));
  float* const third = PAIR ? c + kTile * ldc : c + 2 * kTile;
  store_tile<0>(c, bytes);
  store_tile<1>(c + kTile, bytes);
  store_tile<2>(third, bytes);
  store_tile<3>(third + kTile, bytes);
}
inline void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  zero_tile<2>();
  zero_tile<3>();
}

// Blocks of terms that are added up at once: a cut of 256 rows' parts, and of a panel's, stays in L2.
inline constexpr Index kTileCut = 16;

// c[r][j] (+)= sum over all terms of a[row + r] and panel j / kPanel, for rows r < rows and panels [p0, p1); only columns j <
// columns are touched.
struct TileProduct {
  TileRows a;
  Index row;
  const Bfloat16* panels;
  Index blocks;
  float* c;
  Index ldc;
  Index c_panel;  // from a panel's columns to the next one's
  Index columns;
  bool add;           // to what is there; else
  const float* bias;  // to this, of all columns; nullptr: to zeros
  int a_parts;        // 1 or kParts: see parts_of
  int panel_parts;
  const Index* place = nullptr;  // row r of c is the place[r]-th; nullptr: the r-th

  void run(Index rows, Index p0, Index p1) const {
    for (Index b = 0; b < blocks; b += kTileCut) {
      const Range cut{b, b + kTileCut < blocks ? b + kTileCut : blocks};
      for (Index p = p0; p < p1; ++p) {
        Index r = 0;
        if (columns - p * kPanel<float> >= kPanel<float>)
          for (; r + 2 * kTile <= rows; r += 2 * kTile) tiles<true>(r, 2 * kTile, p, cut);
        for (; r < rows; r += kTile) tiles<false>(r, rows - r < kTile ? rows - r : kTile, p, cut);
      }
    }
  }

 private:
  // PAIR: 2 * kTile rows and all columns of a panel, one half of them after the other.
  template <bool PAIR>
  void tiles(Index r, Index rows, Index p, Range cut) const {
    const bool add = this->add || cut.first > 0;
    alignas(64) float parked[(PAIR ? 2 : 1) * kTile * kPanel<float>];
    float* at = c + r * ldc + p * c_panel;
    Index ld = ldc;
    const Index width = columns - p * kPanel<float>;
    const auto vectors = [&](const auto& move) {
      for (Index k = 0; k < rows; ++k)
        for (Index j = 0; j < kPanel<float> && j < width; j += kTile)
          move(parked + k * kPanel<float> + j, c + (place == nullptr ? r + k : place[r + k]) * ldc + p * c_panel + j, width - j);
    };
    const bool park = place != nullptr || (!PAIR && (rows < kTile || width < kPanel<float>));
    if (park) {
      if (add) vectors([](float* here, float* there, Index count) { store(here, load_columns(there, count)); });
      at = parked;
      ld = kPanel<float>;
    }
    for (Index half = 0; half < (PAIR ? 2 : 1); ++half) {
      const Index offset = half * 2 * kTile;
      if (add) {
        load_sums<PAIR>(at + offset, ld);
      } else if (bias != nullptr) {
        load_sums<PAIR>(bias + p * kPanel<float> + offset, 0);  // every row the same
      } else {
        zero_sums();
      }
      const Bfloat16* const rows_at = a.at(cut.first, 0, row + r);
      const Bfloat16* const panel = panels + p * panel_size(blocks) + panel_size(cut.first);
      const Index count = cut.last - cut.first;
      const auto add_parts = [&]<int A, int B>() {
        if constexpr (PAIR) {
          add_products_of_pair<A, B>(rows_at, a.part_stride(), panel + half * 2 * kTileSize, count);
        } else {
          add_products<A, B>(rows_at, a.part_stride(), panel, count);
        }
      };
      if (a_parts == 1 && panel_parts == 1) {
        add_parts.template operator()<1, 1>();
      } else if (a_parts == 1) {
        add_parts.template operator()<1, kParts>();
      } else if (panel_parts == 1) {
        add_parts.template operator()<kParts, 1>();
      } else {
        add_parts.template operator()<kParts, kParts>();
      }
      store_sums<PAIR>(at + offset, ld);
    }
    if (park) vectors([](float* here, float* there, Index count) { store_columns(there, load(here), count); });
  }
};

#else

template <class Term>
inline constexpr bool kTiled = false;
struct Tiles {
  explicit Tiles(bool /*on*/) {}
};

#endif

}  // namespace fastlstm::FASTLSTM_ISA
