// The input projection of a block of steps on tiles. The rows of all its steps stand together, so that tiles are full even where
// a step has one row. The recurrence stays with fused multiply-adds: a tile costs the same for one row as for sixteen, and a
// row's bits must not depend on the others. Included inside an ISA's namespace.

inline TileRows tile_rows_of_x(const LayerForward<float>& layer) { return {layer.tiles.x, layer.tiles.x_rows}; }

// The scratch of a direction whose widest layer reads `in` features, for so many threads.
inline ForwardTiles forward_tile_scratch(Arena& arena, const Problem& problem, Index in, int threads) {
  ForwardTiles tiles{};
  tiles.x_rows = largest_block(problem);
  tiles.panels = arena.take<Bfloat16>(unit_blocks<float>(problem.H) * panel_size(tile_blocks(in)));
  tiles.x = arena.take<Bfloat16>(TileRows::size(tile_blocks(in), tiles.x_rows));
  tiles.x_large = arena.take<unsigned char>(tiles.x_rows);
  tiles.weights_large = arena.take<Index>(threads);
  return tiles;
}

// Packs a member's share of the weights. True: one is too large for tiles.
inline void pack_input_tiles(const LayerForward<float>& layer, const Group& group) {
  const Index H = layer.problem->H;
  const Range units = share(unit_blocks<float>(H), group.rank, group.size);
  const bool large = pack_tile_gates(layer.weights.w_ih, H, layer.in, layer.tiles.panels, units.first, units.last);
  layer.tiles.weights_large[group.rank] = large ? 1 : 0;
}

// After a barrier: whether all weights can go to tiles.
inline bool tiles_hold_weights(const LayerForward<float>& layer, const Group& group) {
  Index large = 0;
  for (int member = 0; member < group.size; ++member) large += layer.tiles.weights_large[member];
  return large == 0;
}

// Rows [rows) of a block of x.
inline void split_input(const LayerForward<float>& layer, Index first_row, Range rows) {
  const TileRows to = tile_rows_of_x(layer);
  for (Index row = rows.first; row < rows.last; ++row)
    layer.tiles.x_large[row] = split_row(layer.x + (first_row + row) * layer.in, layer.in, to, row, {0, tile_blocks(layer.in)});
}

// A row with a number that tiles cannot take, or an infinite one: b + W x from the weights where they are.
inline void project_large_row(const LayerForward<float>& layer, const float* x, Index u, float* sums) {
  const Index H = layer.problem->H;
  for (Index gate = 0; gate < 4; ++gate)
    for (Index lane = 0; lane < kTile && u * kTile + lane < H; ++lane) {
      Vec<float> products[1][1] = {{broadcast(0.0F)}};
      dot<float, 1, 1>(products, layer.weights.w_ih + (gate * H + u * kTile + lane) * layer.in, layer.in, x, 0, layer.in);
      sums[gate * kTile + lane] = layer.bias[(u * 4 + gate) * kTile + lane] + sum_of_lanes(products[0][0]);
    }
}

// b + W x of rows [rows) of a block, already split, into its gate buffer, for the blocks of units [blocks).
inline void project_tiles(const LayerForward<float>& layer, Index first_row, Index block_rows, float* gates, Range rows,
                          Range blocks) {
  constexpr Index width = kPanel<float>;
  const Index units = unit_blocks<float>(layer.problem->H);
  const TileProduct product{tile_rows_of_x(layer),
                            rows.first,
                            layer.tiles.panels,
                            tile_blocks(layer.in),
                            gates + rows.first * width,
                            width,
                            block_rows * width,
                            units * width,
                            false,
                            layer.bias};
  product.run(rows.last - rows.first, blocks.first, blocks.last);
  for (Index row = rows.first; row < rows.last; ++row) {
    if (layer.tiles.x_large[row] == 0) continue;
    const float* const x = layer.x + (first_row + row) * layer.in;
    for (Index u = blocks.first; u < blocks.last; ++u) {
      float* const sums = gates + u * block_rows * width + row * width;
      for (Index k = 0; k < width; k += kTile) store(sums + k, broadcast(0.0F));  // units past H, too
      project_large_row(layer, x, u, sums);
    }
  }
}
