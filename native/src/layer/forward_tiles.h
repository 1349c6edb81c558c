// The input projection of a block of steps on matrix tiles. The rows of all its steps stand together, so that tiles are full even
// where a step has one row. The recurrence stays with fused multiply-adds: a tile costs the same for one row as for sixteen, and
// a row's bits must not depend on the others.
#pragma once
#include "batch/rows.h"
#include "layer/forward_arrays.h"
#include "layer/group.h"
#include "memory/arena.h"
#include "product/matrix_tiles.h"
#include "product/one_row.h"

#ifdef FASTLSTM_TILES
namespace fastlstm::FASTLSTM_ISA {

template <class Cell>
inline TileRows tile_rows_of_x(const LayerForward<Cell>& layer) {
  return {layer.tiles.x, layer.tiles.x_rows};
}

// The scratch of a direction whose widest layer reads `in` features, for so many threads.
inline ForwardTiles forward_tile_scratch(Arena& arena, const Problem& problem, Index in, int threads) {
  ForwardTiles tiles{};
  tiles.x_rows = largest_block(problem);
  tiles.panels = arena.take<Bfloat16>(unit_blocks<float>(problem.H) * panel_size(tile_blocks(in)));
  tiles.x = arena.take<Bfloat16>(TileRows::size(tile_blocks(in), tiles.x_rows));
  tiles.x_large = arena.take<unsigned char>(tiles.x_rows);
  tiles.block_row = arena.take<Index>(tiles.x_rows);
  tiles.weights_large = arena.take<Index>(threads);
  return tiles;
}

// Packs a member's share of the weights, and notes whether one is too large for tiles.
template <class Cell>
inline void pack_input_tiles(const LayerForward<Cell>& layer, const Group& group) {
  const Index H = layer.problem->H;
  const Range units = share(unit_blocks<float>(H), group.rank, group.size);
  const bool large =
      pack_tile_gates<typename Cell::Input>(layer.weights.w_ih, H, layer.in, layer.tiles.panels, units.first, units.last);
  layer.tiles.weights_large[group.rank] = large ? 1 : 0;
}

// After a barrier: whether all weights can go to tiles.
template <class Cell>
inline bool tiles_hold_weights(const LayerForward<Cell>& layer, const Group& group) {
  Index large = 0;
  for (int member = 0; member < group.size; ++member) large += layer.tiles.weights_large[member];
  return large == 0;
}

// Row `row` of a block of x, as the at-th row of tiles.
template <class Cell>
inline void split_input_row(const LayerForward<Cell>& layer, Index first_row, Index row, Index at) {
  layer.tiles.x_large[row] =
      split_row(layer.x + (first_row + row) * layer.in, layer.in, tile_rows_of_x(layer), at, {0, tile_blocks(layer.in)});
}

// Rows [rows) of a block of x.
template <class Cell>
inline void split_input(const LayerForward<Cell>& layer, Index first_row, Range rows) {
  for (Index row = rows.first; row < rows.last; ++row) split_input_row(layer, first_row, row, row);
}

// A row with a number that tiles cannot take, or an infinite one: b + W x from the weights where they are.
template <class Cell>
inline void project_large_row(const LayerForward<Cell>& layer, const float* x, Index u, float* sums) {
  const Index H = layer.problem->H;
  for (Index sum = 0; sum < Cell::kSums; ++sum)
    for (Index lane = 0; lane < kTile && u * kTile + lane < H; ++lane) {
      const Index gate = Cell::Input::gates[sum];
      Vec<float> products[1][1] = {{broadcast(0.0F)}};
      if (gate >= 0)
        visit(layer.weights.w_ih, [&](const auto* w) {
          dot<float, 1, 1>(products, w + (gate * H + u * kTile + lane) * layer.in, layer.in, x, 0, layer.in);
        });
      sums[sum * kTile + lane] = layer.bias[(u * Cell::kSums + sum) * kTile + lane] + sum_of_lanes(products[0][0]);
    }
}

// b + W x of rows of a block, already split as the rows [at, at + count) of tiles, into its gate buffer, for the blocks of units
// [blocks). place: their rows of the block; nullptr: the same.
template <class Cell>
inline void project_tiles(const LayerForward<Cell>& layer, Index first_row, Index block_rows, float* gates, Index at, Index count,
                          const Index* place, Range blocks) {
  constexpr Index width = kPanel<float>;
  const Index units = unit_blocks<float>(layer.problem->H);
  const TileProduct product{tile_rows_of_x(layer),
                            at,
                            layer.tiles.panels,
                            tile_blocks(layer.in),
                            gates + (place == nullptr ? at * width : 0),
                            width,
                            block_rows * width,
                            units * width,
                            false,
                            layer.bias,
                            layer.tiles.x_parts,
                            parts_of(layer.weights.w_ih.element),
                            place};
  product.run(count, blocks.first, blocks.last);
  for (Index k = 0; k < count; ++k) {
    const Index row = place == nullptr ? at + k : place[k];
    if (layer.tiles.x_large[row] == 0) continue;
    const float* const x = layer.x + (first_row + row) * layer.in;
    for (Index u = blocks.first; u < blocks.last; ++u) {
      float* const sums = gates + u * block_rows * width + row * width;
      for (Index j = 0; j < width; j += kTile) store(sums + j, broadcast(0.0F));  // units past H, too
      project_large_row(layer, x, u, sums);
    }
  }
}

// The same for all units and the rows [rows) of the batch, at the steps [t0, t1) of a block. They stand apart in it, and together
// in tiles. Nobody else's rows: what one core writes and another reads costs more than it saves.
template <class Cell>
inline void project_own_rows(const LayerForward<Cell>& layer, Index t0, Index t1, float* gates, Range rows) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  Index at = 0;  // after the rows of the members before
  for (Index t = t0; t < t1; ++t) at += rows.first < problem.batch(t) ? rows.first : problem.batch(t);
  Index* const place = layer.tiles.block_row + at;
  Index count = 0;
  for (Index t = t0; t < t1; ++t)
    for (Index n = rows.first; n < rows.last && n < problem.batch(t); ++n, ++count) {
      place[count] = problem.row(t) - first_row + n;
      split_input_row(layer, first_row, place[count], at + count);
    }
  project_tiles(layer, first_row, problem.row(t1) - first_row, gates, at, count, place, {0, unit_blocks<float>(problem.H)});
}

}  // namespace fastlstm::FASTLSTM_ISA
#endif
