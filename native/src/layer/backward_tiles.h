// One layer and direction, backward, its products on matrix tiles, where the plan says so.
#pragma once
#include "layer/hidden.h"
#include "memory/arena.h"
#include "product/matrix_tiles.h"

#ifdef FASTLSTM_TILES
namespace fastlstm::FASTLSTM_ISA {

// Gate gradients of a block: rows of it, two gates of a block of units being a block of terms.
template <class Cell>
inline constexpr Index kGatePairs = Cell::kSums / 2;
template <class Cell>
inline TileRows tile_rows_of_gates(const LayerBackward<Cell>& layer) {
  return {layer.tiles.dgates, layer.tiles.block_rows};
}
// Features of a block, [x; h_{t-1}; 1], each source in tiles of its own; the block's rows are the terms.
inline Index feature_tiles(Index features) { return (features + kTile - 1) / kTile; }
template <class Cell>
inline TileRows tile_rows_of_features(const LayerBackward<Cell>& layer) {
  return {layer.tiles.features, kTile * (feature_tiles(layer.in) + feature_tiles(layer.problem->out()) + 1)};
}

template <class Cell>
inline BackwardTiles backward_tile_scratch(Arena& arena, const Problem& problem, Index in, int threads) {
  BackwardTiles tiles{};
  const Index out = problem.out();
  const Index units = unit_blocks<float>(problem.H);
  tiles.block_rows = largest_block(problem);
  const Index blocks = tile_blocks(tiles.block_rows);
  const auto panels = [](Index columns) { return (columns + kPanel<float> - 1) / kPanel<float>; };
  tiles.hh_panels = arena.take<Bfloat16>(panels(out) * panel_size(kGatePairs<Cell> * units));
  tiles.ih_panels = arena.take<Bfloat16>(panels(in) * panel_size(kGatePairs<Cell> * units));
  tiles.dgates = arena.take<Bfloat16>(TileRows::size(kGatePairs<Cell> * units, tiles.block_rows));
  tiles.dgate_panels = arena.take<Bfloat16>(units * panel_size(blocks));
  tiles.features = arena.take<Bfloat16>(TileRows::size(blocks, kTile * (feature_tiles(in) + feature_tiles(out) + 1)));
  tiles.feature_rows = arena.take<float>(threads * blocks * kTileDepth * kTile);
  tiles.large = arena.take<Index>(threads);
  return tiles;
}

// rows x columns numbers that stand ld apart: whether one is too large for tiles.
template <class Element>
inline bool any_large_in(const Element* p, Index rows, Index columns, Index ld) {
  bool large = false;
  for (Index r = 0; p != nullptr && r < rows; ++r)
    for (Index j = 0; j < columns; j += kTile) large |= any_large(load_columns(p + r * ld + j, columns - j));
  return large;
}

// Packs a member's share of the weights, and looks at its share of everything that goes into products.
template <class Cell>
inline void prepare_tiles(const LayerBackward<Cell>& layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const BackwardTiles& tiles = layer.tiles;
  const Index H = problem.H;
  const Index out = problem.out();
  const Index ld = problem.D * out;
  const auto mine = [&](Index count) { return share(count, group.rank, group.size); };
  const auto panels = [&](Index columns) { return mine((columns + kPanel<float> - 1) / kPanel<float>); };
  const Range hh = panels(out);
  bool large = false;
  if (layer.plan.tiled_steps) {
    large = pack_tile_gate_rows<typename Cell::Hidden>(layer.weights.w_hh, H, out, tiles.hh_panels, hh.first, hh.last);
  } else {
    pack_gate_rows<typename Cell::Hidden>(layer.weights.w_hh, H, out, layer.hh_panels, hh.first, hh.last);
  }
  if (layer.dx != nullptr) {
    const Range ih = panels(layer.in);
    large |= pack_tile_gate_rows<typename Cell::Input>(layer.weights.w_ih, H, layer.in, tiles.ih_panels, ih.first, ih.last);
  }
  const Range rows = mine(problem.rows());
  const Index count = rows.last - rows.first;
  large |= any_large_in(layer.x + rows.first * layer.in, count, layer.in, layer.in);
  large |= any_large_in(layer.doutput == nullptr ? layer.doutput : layer.doutput + rows.first * ld, count, out, ld);
  if (problem.P > 0) large |= any_large_in(layer.output + rows.first * ld, count, out, ld);
  if (group.rank == 0) {
    for (const float* const state : {layer.h_0, layer.dh_n}) large |= any_large_in(state, problem.N, out, out);
    for (const float* const state : {layer.c_0, layer.dc_n}) large |= any_large_in(state, problem.N, H, H);
    visit(layer.weights.w_hr, [&](const auto* w) { large |= any_large_in(w, problem.P, H, H); });
  }
  tiles.large[group.rank] = large ? 1 : 0;
}

// After a barrier: whether everything can go to tiles.
template <class Cell>
inline bool tiles_hold_all(const LayerBackward<Cell>& layer, const Group& group) {
  Index large = 0;
  for (int member = 0; member < group.size; ++member) large += layer.tiles.large[member];
  return large == 0;
}

// The gate gradients of rows [row, row + rows) of a block, from numbers to parts, for the blocks of units [blocks).
template <class Cell>
inline void split_gates(const LayerBackward<Cell>& layer, Index row, Index rows, Range blocks, Index block_rows) {
  const TileRows to = tile_rows_of_gates(layer);
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index r = row; r < row + rows; ++r) {
      const float* const gates = layer.dgates + (u * block_rows + r) * kPanel<float>;
      for (Index pair = 0; pair < kGatePairs<Cell>; ++pair)
        store_parts(load(gates + 2 * pair * kTile), load(gates + (2 * pair + 1) * kTile),
                    to.at(kGatePairs<Cell> * u + pair, 0, r), to.part_stride());
    }
}

// rows x gates of a block, times panels of weights: the gradient of h_{t-1}, or of x.
template <class Cell>
inline TileProduct gates_times(const LayerBackward<Cell>& layer, Index row, const Bfloat16* panels, Element weights, float* c,
                               Index ldc, Index columns, bool add) {
  return {tile_rows_of_gates(layer),
          row,
          panels,
          kGatePairs<Cell> * unit_blocks<float>(layer.problem->H),
          c,
          ldc,
          kPanel<float>,
          columns,
          add,
          nullptr,
          kParts,
          parts_of(weights)};
}

// The gate gradients of a block as panels whose terms are its rows, for the blocks of units [blocks). Two rows kTile apart are a
// pair.
template <class Cell>
inline void pair_gates(const LayerBackward<Cell>& layer, Index rows, Range blocks) {
  alignas(64) const Bfloat16 zeros[kTileDepth] = {};
  const TileRows from = tile_rows_of_gates(layer);
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index b = 0; b < tile_blocks(rows); ++b)
      for (Index part = 0; part < kParts; ++part)
        for (Index half = 0; half < kGatePairs<Cell>; ++half)
          for (Index pair = 0; pair < kTile; ++pair) {
            const auto row = [&](Index r) { return r < rows ? from.at(kGatePairs<Cell> * u + half, part, r) : zeros; };
            Bfloat16* const to = layer.tiles.dgate_panels + u * panel_size(tile_blocks(layer.tiles.block_rows)) + panel_size(b) +
                                 (part * kPanelTiles + 2 * half) * kTileSize + pair * 2 * kTile;
            regroup_pairs(row(b * kTileDepth + pair), row(b * kTileDepth + kTile + pair), to, to + kTileSize);
          }
}

// Puts `count` features (at most kTile) of `rows` rows, ld apart, at `to`, kTile apart; a null source gives zeros.
inline void copy_features(const float* from, Index ld, Index rows, Index count, float* to) {
  for (Index r = 0; r < rows; ++r) store(to + r * kTile, from == nullptr ? broadcast(0.0F) : load_columns(from + r * ld, count));
}

// Tile m of the features of a block, transposed into parts. `numbers`: a member's own scratch.
template <class Cell>
inline void pack_feature_tile(const LayerBackward<Cell>& layer, Index m, Index t0, Index t1, float* numbers) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  const Index out = problem.out();
  const Index x_tiles = feature_tiles(layer.in);
  const Index blocks = tile_blocks(rows);
  copy_features(nullptr, 0, blocks * kTileDepth - rows, kTile, numbers + rows * kTile);
  if (m < x_tiles) {
    const Index j = m * kTile;
    copy_features(layer.x + first_row * layer.in + j, layer.in, rows, layer.in - j, numbers);
  } else if (m < x_tiles + feature_tiles(out)) {
    const Index j = (m - x_tiles) * kTile;
    for (Index t = t0; t < t1; ++t) {
      Run runs[2];
      const int count = step_runs(problem, layer.direction, t, {0, problem.N}, runs);
      for (int k = 0; k < count; ++k) {
        const Run& run = runs[k];
        const auto h = hidden_of(layer, run, first_row, rows, j);
        copy_features(h.at, h.ld, run.last - run.first, out - j, numbers + (run.row - first_row) * kTile);
      }
    }
  } else {
    for (Index r = 0; r < rows; ++r) store(numbers + r * kTile, broadcast(1.0F));
  }
  const TileRows to = tile_rows_of_features(layer);
  alignas(64) float features[kTile * kTileDepth];
  constexpr Index step = kTransposed<float>;
  for (Index b = 0; b < blocks; ++b) {
    for (Index r = 0; r < kTileDepth; r += step)
      for (Index j = 0; j < kTile; j += step)
        transpose_block(numbers + (b * kTileDepth + r) * kTile + j, kTile, features + j * kTileDepth + r, kTileDepth);
    for (Index j = 0; j < kTile; ++j)
      store_parts(load(features + j * kTileDepth), load(features + j * kTileDepth + kTile), to.at(b, 0, m * kTile + j),
                  to.part_stride());
  }
}

// Adds a block to the gradients of the weights: a member's share of the features.
template <class Cell>
inline void weight_gradients_by_tiles(const LayerBackward<Cell>& layer, Index t0, Index t1, const Group& group, bool add_to) {
  const Problem& problem = *layer.problem;
  const Index rows = problem.row(t1) - problem.row(t0);
  const Index out = problem.out();
  const Index x_tiles = feature_tiles(layer.in);
  const Index ones = x_tiles + feature_tiles(out);
  const Index ld = layer.gate_columns();
  const Index most = tile_blocks(layer.tiles.block_rows);
  float* const numbers = layer.tiles.feature_rows + group.rank * most * kTileDepth * kTile;
  // Tiles [first, last) of a source whose features stand from `feature` on in the sums.
  const auto add = [&](Index first, Index last, Index tile0, Index feature, Index features, int parts) {
    const Range all = share(ones + 1, group.rank, group.size);
    if (first < all.first) first = all.first;
    if (last > all.last) last = all.last;
    if (first >= last) return;
    for (Index m = first; m < last; ++m) pack_feature_tile(layer, m, t0, t1, numbers);
    const Index j = (first - tile0) * kTile;
    const Index end = (last - tile0) * kTile < features ? (last - tile0) * kTile : features;
    for (Index u = 0; u < unit_blocks<float>(problem.H); ++u) {
      // The panels of a shorter block stand where those of the largest do.
      const TileProduct product{tile_rows_of_features(layer),
                                first * kTile,
                                layer.tiles.dgate_panels + u * panel_size(most),
                                tile_blocks(rows),
                                layer.dsums + (feature + j) * ld + u * kPanel<float>,
                                ld,
                                kPanel<float>,
                                kPanel<float>,
                                add_to,
                                nullptr,
                                parts,
                                kParts};
      product.run(end - j, 0, 1);
    }
  };
  if (layer.dweights.w_ih != nullptr) add(0, x_tiles, 0, 0, layer.in, layer.tiles.x_parts);
  if (layer.dweights.w_hh != nullptr) add(x_tiles, ones, x_tiles, layer.in, out, kParts);
  if (layer.wants_bias()) add(ones, ones + 1, ones, layer.in + out, 1, 1);
}

}  // namespace fastlstm::FASTLSTM_ISA
#endif
