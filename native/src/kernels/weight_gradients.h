// What a block of steps gives to dx and the gradients of the weights, once its gate gradients are complete. Included inside an
// ISA's namespace.

// Packs kTileRows features of `rows` rows that stand ld apart, as [row][feature]; a null source gives zeros.
template <class Real>
inline void pack_tile(const Real* source, Index ld, Index rows, Index count, Real* tile) {
  Index r = 0;
  if (kLanes<Real> >= kTileRows && source != nullptr &&
      count >= kLanes<Real>)  // what is stored past a row, the next one overwrites
    for (; r * kTileRows + kLanes<Real> <= rows * kTileRows; ++r) store(tile + r * kTileRows, load(source + r * ld));
  for (; r < rows; ++r)
    for (Index j = 0; j < kTileRows; ++j) tile[r * kTileRows + j] = source != nullptr && j < count ? source[r * ld + j] : Real(0);
}

// The feature of the biases, 1, which a tile has once.
template <class Real>
inline void pack_ones(Real* tile, Index rows) {
  for (Index k = 0; k < rows * kTileRows; ++k) tile[k] = Real(1);
}
// pack_tile of the rows [row0, row0 + rows) of a block, into the whole block's tile.
template <class Real>
inline void pack_tile(const Real* source, Index ld, Index row0, Index rows, Index count, Real* tile) {
  pack_tile(source, ld, rows, count, tile + row0 * kTileRows);
}

// sums[feature][gate order] += features^T dgates over the rows of a block, for the panels of one tile of features.
template <class Term>
struct FeatureTile {
  using Real = RealOf<Term>;
  const Term* features;  // [rows][kTileRows]
  const Term* right;     // panels: [rows][kPanel]
  Real* sums;            // at the tile's first feature
  Index ld;
  Index rows;  // in terms

  template <int R>
  inline void run(Index /*first row: a tile is one by itself*/) const {
    // A block is added up by itself: in one chain over 365 steps of 64 rows the gradients were off by 1.1e-6 to 2.8e-6 of their
    // norm, now by 1.4e-7 to 3.9e-7.
    Sums<Real, R, 1> block;
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) block.at[r][v] = broadcast(Real(0));
    accumulate<kTileRows>(block, features, 1, right, 0, rows);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) {
        Real* const to = sums + r * ld + v * kLanes<Real>;
        store(to, load(to) + block.at[r][v]);
      }
  }
};

// Adds a block to the gradients of the weights, for the tiles of features [mine).
template <class Term>
void weight_gradients(const LayerBackward<Term>& layer, Index t0, Index t1, Range mine) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  const Index out = problem.out();
  const Index tile_size = terms<Term>(rows) * kTileRows;
  const Index ones = layer.x_tiles() + layer.h_tiles();
  for (Index m = mine.first; m < mine.last; ++m) {
    Term* const tile = layer.features + m * tile_size;
    if (m < layer.x_tiles()) {
      const Index j = m * kTileRows;
      pack_tile(layer.x + first_row * layer.in + j, layer.in, 0, rows, layer.in - j, tile);
    } else if (m < ones) {
      const Index j = (m - layer.x_tiles()) * kTileRows;
      for (Index t = t0; t < t1; ++t) {
        Run runs[2];
        const int count = step_runs(problem, layer.direction, t, {0, problem.N}, runs);
        for (int k = 0; k < count; ++k) {
          const Run& run = runs[k];
          const Index row0 = run.row - first_row;
          const Index here = run.last - run.first;
          if (run.previous >= 0) {
            pack_tile(layer.output + run.previous * problem.D * out + j, problem.D * out, row0, here, out - j, tile);
          } else {
            pack_tile(layer.h_0 == nullptr ? layer.h_0 : layer.h_0 + run.first * out + j, out, row0, here, out - j, tile);
          }
        }
      }
    } else {
      pack_ones(tile, rows);
    }
  }
  const Index ld = 4 * layer.Hp();
  const auto add_tile = [&](Index p, Index m) {
    Index feature;
    Index count;
    if (m < layer.x_tiles()) {
      feature = m * kTileRows;
      count = layer.in - feature;
    } else if (m < ones) {
      feature = (m - layer.x_tiles()) * kTileRows;
      count = out - feature;
      feature += layer.in;
    } else {
      feature = layer.in + out;
      count = 1;
    }
    const FeatureTile<Term> tile{layer.features + m * tile_size, layer.dgate_panels() + p * terms<Term>(rows) * kPanel<Term>,
                                 layer.dsums + feature * ld + p * kPanel<Term>, ld, terms<Term>(rows)};
    for_tiles(count < kTileRows ? count : kTileRows, tile);
  };
  // As many tiles of features as half an L2 of 512 KiB holds meet every panel of gate gradients before the next ones come.
  const Index tile_bytes = tile_size * static_cast<Index>(sizeof(Term));
  const Index half_l2 = Index{256} << 10;
  const Index at_once = tile_bytes > 0 && tile_bytes < half_l2 ? half_l2 / tile_bytes : 1;
  for (Index m0 = mine.first; m0 < mine.last; m0 += at_once) {
    const Index m1 = m0 + at_once < mine.last ? m0 + at_once : mine.last;
    for (Index p = 0; p < ld / kPanel<Term>; ++p)
      for (Index m = m0; m < m1; ++m) add_tile(p, m);
  }
}

// dW_hr += dh_projected^T h_full over a block, for the tiles of P [mine).
template <class Term>
void projection_gradients(const LayerBackward<Term>& layer, Index rows, Range mine) {
  using Real = RealOf<Term>;
  const Index P = layer.problem->P;
  for (Index m = mine.first; m < mine.last; ++m) {
    Real* const tile = layer.projected_features + m * rows * kTileRows;
    pack_tile(layer.dh_projected + m * kTileRows, P, rows, P - m * kTileRows, tile);
    for (Index p = 0; p < layer.H_padded() / kPanel<Real>; ++p) {
      const FeatureTile<Real> product{tile, layer.h_full + p * rows * kPanel<Real>,
                                      layer.dhr_sums + m * kTileRows * layer.H_padded() + p * kPanel<Real>, layer.H_padded(),
                                      rows};
      for_tiles(P - m * kTileRows < kTileRows ? P - m * kTileRows : kTileRows, product);
    }
  }
}

// dx of a member's rows of the block, to where they stand.
template <class Term>
void send_dx(const LayerBackward<Term>& layer, Index first_row, const Range& mine) {
  if (layer.send_dx.data == nullptr) return;
  const Shape shape{layer.problem->rows(), layer.in};
  visit(layer.send_dx, [&](auto* to) {
    for (Index k = first_row + mine.first; k < first_row + mine.last; ++k) send_row(layer.dx, layer.send_dx.rows, k, shape, to);
  });
}

// What a block of steps, its gate gradients complete, gives to dx and the weights: a thread's share of it.
template <class Term>
void block_gradients(const LayerBackward<Term>& layer, Index t0, Index t1, const Group& group) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  bool tiled = false;
  if constexpr (kTiled<Term>) {
    tiled = layer.plan.tiled;
    if (tiled) {
      pair_gates(layer, rows, share(unit_blocks<RealOf<Term>>(problem.H), group.rank, group.size));
      if (layer.dx != nullptr) {
        const Range mine = share(rows, group.rank, group.size);
        gates_times(layer, mine.first, layer.tiles.ih_panels, layer.weights.w_ih.element,
                    layer.dx + (first_row + mine.first) * layer.in, layer.in, layer.in, layer.add_dx)
            .run(mine.last - mine.first, 0, (layer.in + kPanel<Term> - 1) / kPanel<Term>);
        send_dx(layer, first_row, mine);
      }
      group.barrier->wait();
      weight_gradients_by_tiles(layer, t0, t1, group);
    }
  }
  if constexpr (kNumbers<Term> > 1) {
    const Range mine = share(4 * layer.Hp() / kPanel<Term>, group.rank, group.size);
    pair_rows(layer.dgates, rows, layer.dgate_pairs, mine.first, mine.last);
  }
  if (!tiled && layer.dx != nullptr) {
    const Range mine = share(rows, group.rank, group.size);
    const Product<Term> product{gate_rows(layer, mine.first, rows),
                                layer.ih_panels,
                                layer.dx + (first_row + mine.first) * layer.in,
                                layer.in,
                                layer.in,
                                layer.add_dx};
    product.run(mine.last - mine.first, 0, (layer.in + kPanel<Term> - 1) / kPanel<Term>);
    send_dx(layer, first_row, mine);
  }
  if constexpr (kNumbers<Term> > 1) group.barrier->wait();
  if (!tiled) weight_gradients(layer, t0, t1, share(layer.tile_count(), group.rank, group.size));
  if (layer.dweights.w_hr != nullptr)
    projection_gradients(layer, rows, share((problem.P + kTileRows - 1) / kTileRows, group.rank, group.size));
}

// The summed gradients into the caller's arrays, and the states' gradients.
template <class Term>
void write_gradients(const LayerBackward<Term>& layer, const Group& group) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index out = problem.out();
  const Index ld = 4 * layer.Hp();
  const WeightGradients<Real>& d = layer.dweights;
  const Range units = share(unit_blocks<Real>(H), group.rank, group.size);
  if (d.w_ih != nullptr) unpack_gates(layer.dsums, H, layer.in, d.w_ih, units.first, units.last);
  if (d.w_hh != nullptr) unpack_gates(layer.dsums + layer.in * ld, H, out, d.w_hh, units.first, units.last);
  const Real* const db = layer.dsums + (layer.in + out) * ld;
  if (d.b_ih != nullptr) unpack_gates(db, H, 1, d.b_ih, units.first, units.last);
  if (d.b_hh != nullptr) unpack_gates(db, H, 1, d.b_hh, units.first, units.last);
  if (d.w_hr != nullptr) {
    const Range mine = share(problem.P, group.rank, group.size);
    visit(d.w_hr, [&](auto* dw) {
      for (Index p = mine.first; p < mine.last; ++p)
        for (Index j = 0; j < H; j += kLanes<Real>)
          store_columns(dw + p * H + j, load(layer.dhr_sums + p * layer.H_padded() + j), H - j);
    });
  }
  const Range rows = share(problem.N, group.rank, group.size);
  for (Index n = rows.first; n < rows.last; ++n) {
    if (layer.dh_0 != nullptr)
      for (Index j = 0; j < out; ++j) layer.dh_0[n * out + j] = layer.dh[n * layer.out_padded() + j];
    if (layer.dc_0 != nullptr)
      for (Index j = 0; j < H; ++j) layer.dc_0[n * H + j] = layer.dc[n * layer.Hp() + j];
  }
}
