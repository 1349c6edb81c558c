// One layer and direction, backward, a block of steps at a time: the gate gradients of a block, then, while they are hot, what
// they give to dx and the weights (weight_gradients.h). Included inside an ISA's namespace.

// Operands of products on tiles (backward_tiles.h), where the plan has them.
struct BackwardTiles {
  std::uint16_t* hh_panels;
  std::uint16_t* ih_panels;
  std::uint16_t* dgates;        // of a block, as rows
  std::uint16_t* dgate_panels;  // and as panels
  std::uint16_t* features;
  float* feature_rows;  // for each member: the rows of a tile of features
  Index* large;         // for each member: whether it saw a number too large for tiles
  Index block_rows;     // of the largest block
  int x_parts;          // how many parts the numbers of x have
};

// What a tile of kTileRows features of so many rows takes: a line more than they are, or 256 rows of several tiles would all
// stand in the same few sets of L1 (packing 128 features: 12 us, and 3.7 with it).
template <class Term>
inline Index feature_tile_size(Index rows) {
  return terms<Term>(rows) * kTileRows + 64 / static_cast<Index>(sizeof(Term));
}

template <class Term>
struct LayerBackward {
  using Real = RealOf<Term>;
  const Problem* problem;
  BackwardPlan plan;
  int direction;
  Index in;
  const Real* x;    // (rows, in)
  const Real* h_0;  // (N, out) or nullptr
  const Real* c_0;  // (N, H) or nullptr
  Weights<Real> weights;
  const Real* output;  // where there is a projection: (rows, D * out), at this direction's columns
  const Real* gates;   // as LayerForward saved them
  const Real* c;
  const Real* doutput;  // (rows, D * out), at this direction's columns, or nullptr
  const Real* dh_n;     // (N, out) or nullptr
  const Real* dc_n;     // (N, H) or nullptr
  Real* dx;             // (rows, in) or nullptr
  bool add_dx;          // to the other direction's
  Real* dh_0;           // (N, out) or nullptr
  Real* dc_0;           // (N, H) or nullptr
  WeightGradients<Real> dweights;
  Steps<const Real*> dsteps;  // (rows, H), each or nullptr
  bool any_dsteps;
  // Scratch.
  Term* hh_panels;           // (panels of out)[terms of 4 Hp][kPanel]
  Term* ih_panels;           // (panels of in)[terms of 4 Hp][kPanel]
  Real* hr_panels;           // (panels of Hp)[P][kPanel]
  Real* dh;                  // (N, out padded to panels): gradient of h_{t-1} through the recurrence
  Real* dc;                  // (N, Hp)
  ElementOf<Term>* dgates;   // (panels of gates)[rows of the block][kPanel]
  Term* dgate_pairs;         // where terms are pairs: (panels of gates)[pairs of rows of the block][kPanel]
  Real* dsums;               // (features, 4 Hp): gradients of the weights, transposed, summed block after block
  Real* h;                   // (rows of the block, then N of the step before it, Hp): h_t, where there is no projection
  Term* features;            // packed by tiles of kTileRows: [x; h_{t-1}; 1] of the block's rows
  Real* dh_projected;        // (rows of the block, P): gradient of h_t, for dW_hr
  Real* dh_full;             // (N, Hp): gradient of o tanh(c_t)
  Real* h_full;              // (panels of Hp)[rows of the block][kPanel]: o tanh(c_t)
  Real* dhr_sums;            // (P, Hp padded to panels)
  Real* projected_features;  // dh_projected, packed by tiles
  BackwardTiles tiles;
  HalfBackward<Term> second;  // what the second half of the batch has in the place of its namesakes, where there are halves
  // Block by block, where there is data: from where rows of x and doutput stand, and to where those of dx do.
  Source<Real> bring_x;
  Real* brought_x;  // (rows of the largest block, in)
  Source<Real> bring_doutput;
  Real* brought_doutput;  // (rows of the largest block, out)
  Target<Real> send_dx;

  Index Hp() const { return unit_blocks<Real>(problem->H) * kLanes<Real>; }
  // The gate gradients of a block with its rows as terms.
  const Term* dgate_panels() const {
    if constexpr (kNumbers<Term> > 1) {
      return dgate_pairs;
    } else {
      return dgates;
    }
  }
  Index out_padded() const { return rounded_up(problem->out(), kPanel<Real>); }
  Index H_padded() const { return rounded_up(problem->H, kPanel<Real>); }
  bool wants_bias() const { return dweights.b_ih != nullptr || dweights.b_hh != nullptr; }
  // The features whose gradients are wanted, each source in tiles of its own: first x, then h, then the one of the bias.
  Index x_tiles() const { return dweights.w_ih == nullptr ? 0 : (in + kTileRows - 1) / kTileRows; }
  Index h_tiles() const { return dweights.w_hh == nullptr ? 0 : (problem->out() + kTileRows - 1) / kTileRows; }
  Index tile_count() const { return x_tiles() + h_tiles() + (wants_bias() ? 1 : 0); }
};

template <class Real>
inline Vec<Real> step_gradient(const Real* array, Index at, Index columns) {
  return array == nullptr ? broadcast(Real(0)) : load_columns(array + at, columns);
}
// To the gradients of the gates before their activations, those that come from the gates themselves.
template <class Real>
inline void add_step_gradients(const Steps<const Real*>& dsteps, const Gates<Real>& gates, Index at, Index columns,
                               Gates<Real>& d) {
  const Vec<Real> one = broadcast(Real(1));
  const auto& [i, f, g, o] = gates;
  d.i = fma(step_gradient(dsteps.i, at, columns), i * (one - i), d.i);
  d.f = fma(step_gradient(dsteps.f, at, columns), f * (one - f), d.f);
  d.g = fma(step_gradient(dsteps.g, at, columns), fnma(g, g, one), d.g);
  d.o = fma(step_gradient(dsteps.o, at, columns), o * (one - o), d.o);
}

// Asks for the gates of a row and a block of units, to come into L2.
template <class Real>
inline __attribute__((always_inline)) void fetch_gates(const Real* at, Index panel_stride) {
  constexpr Index line = 64 / static_cast<Index>(sizeof(Real));
#pragma GCC unroll 2
  for (Index half = 0; half < kHalves; ++half)
#pragma GCC unroll 8
    for (Index k = 0; k < kPanel<Real>; k += line) __builtin_prefetch(at + half * panel_stride + k, 0, 2);
}

// The rows of the sequence that the steps of a block have; of a block that is none, none.
struct BlockRows {
  Index first;
  Index count;

  BlockRows(const Problem& problem, Index block) : first(0), count(0) {
    if (block < 0 || block >= problem.blocks()) return;
    first = problem.row(problem.block(block));
    count = problem.row(problem.block(block + 1)) - first;
  }
  bool has(Index row) const { return row >= first && row < first + count; }
};

// The gate gradients of one run of rows and the blocks of units [blocks); `next`: the block whose turn comes after this one. h:
// the hidden states of the block, written, or nullptr.
template <class Term>
void gate_gradients(const LayerBackward<Term>& layer, const Run& run, Range blocks, const BlockRows& here, const BlockRows& next,
                    RealOf<Term>* h) {
  using Real = RealOf<Term>;
  constexpr Index lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index ld_output = problem.D * problem.out();
  const Index stride = here.count * kPanel<Real>;
  const Index row0 = run.row - here.first;
  const Real* const gates = layer.gates + here.first * 4 * Hp;
  // What the next step will read comes meanwhile; of cells, this one has read c_prev for it. Where batch sizes differ, the row of
  // the cells after that is a guess.
  const bool fetch = run.previous >= 0;
  const BlockRows& from = fetch && !here.has(run.previous) ? next : here;
  const Index fetched_stride = from.count * kPanel<Real>;
  const Real* const fetched_gates = layer.gates + from.first * 4 * Hp + (run.previous - from.first) * kPanel<Real>;
  const Index after = 2 * run.previous - run.row;
  const Real* const fetched_c = layer.c + (after >= 0 && after < problem.rows() ? after : run.row) * Hp;
  const Real* const fetched_doutput =
      problem.P > 0 || layer.doutput == nullptr ? nullptr : layer.doutput + run.previous * ld_output;
  for (Index u = blocks.first; u < blocks.last; ++u) {
    const Index unit = u * lanes;
    const Index columns = H - unit;
    for (Index r = 0; r < run.last - run.first; ++r) {
      const Index n = run.first + r;
      const Index row = run.row + r;
      const Index at = u * kHalves * stride + (row0 + r) * kPanel<Real>;
      if (fetch) {
        fetch_gates(fetched_gates + u * kHalves * fetched_stride + r * kPanel<Real>, fetched_stride);
        __builtin_prefetch(fetched_c + r * Hp + unit, 0, 2);
        if (fetched_doutput != nullptr) __builtin_prefetch(fetched_doutput + r * ld_output + unit, 0, 2);
      }
      const Gates<Real> kept = load_gates(gates + at, stride);
      const Vec<Real> tanh_c = tanh(load(layer.c + row * Hp + unit));
      if (h != nullptr) store(h + (row0 + r) * Hp + unit, kept.o * tanh_c);
      Vec<Real> c_prev = broadcast(Real(0));
      if (run.previous >= 0) {
        c_prev = load(layer.c + (run.previous + r) * Hp + unit);
      } else if (layer.c_0 != nullptr) {
        c_prev = load_columns(layer.c_0 + n * H + unit, columns);
      }
      Vec<Real> dh;
      if (problem.P > 0) {
        dh = load(layer.dh_full + n * Hp + unit);
        const Index panel = unit / kPanel<Real>;
        store(layer.h_full + (panel * here.count + row0 + r) * kPanel<Real> + unit % kPanel<Real>, kept.o * tanh_c);
      } else {
        dh = load(layer.dh + n * layer.out_padded() + unit);
        if (layer.doutput != nullptr) dh = dh + load_columns(layer.doutput + row * ld_output + unit, columns);
      }
      Vec<Real> dc = load(layer.dc + n * Hp + unit);
      if (layer.any_dsteps) dc = dc + step_gradient(layer.dsteps.c, row * H + unit, columns);
      Gates<Real> d = cell_backward(kept, c_prev, tanh_c, dh, dc);
      if (layer.any_dsteps) add_step_gradients(layer.dsteps, kept, row * H + unit, columns, d);
      store(layer.dc + n * Hp + unit, dc);
      put_gates(layer.dgates + at, stride, d, [&](ElementOf<Term>* to, Vec<Real> a) {
        // The lanes past H may hold NaN (0 * inf): they would spread through the products.
        if (columns < lanes) store_elements(to, broadcast(Real(0)), lanes);
        store_elements(to, a, columns);
      });
    }
  }
}

// The left operand whose rows are gate gradients: one segment a panel.
template <class Term>
inline Left<Term> gate_rows(const LayerBackward<Term>& layer, Index row, Index block_rows) {
  constexpr Index width = kPanel<Term> / kNumbers<Term>;
  return {as_terms<Term>(layer.dgates) + row * width, width, width, block_rows * width, 4 * layer.Hp() / kNumbers<Term>};
}

// dh_projected of the rows [rows) at step t: what arrives at h_t after its projection.
template <class Term>
void projected_gradients(const LayerBackward<Term>& layer, Index t, Range rows, Range columns, Index first_row) {
  const Problem& problem = *layer.problem;
  const Index P = problem.P;
  for (Index n = rows.first; n < rows.last; ++n) {
    const Index row = problem.row(t) + n;
    for (Index j = columns.first; j < columns.last; ++j) {
      RealOf<Term> d = layer.dh[n * layer.out_padded() + j];
      if (layer.doutput != nullptr) d += layer.doutput[row * problem.D * P + j];
      layer.dh_projected[(row - first_row) * P + j] = d;
    }
  }
}

// What a member takes of every step: rows, blocks of units, panels of out (where the plan is by unit, those of the same units).
struct Part {
  Range rows;
  Range blocks;
  Range columns;
};

// One step of a member's part. in_step() waits for the others to have finished theirs, and may change the part: false ends the
// step.
template <class Term, class InStep>
void backward_step(const LayerBackward<Term>& layer, Index t, const Part& part, const InStep& in_step, const BlockRows& block,
                   const BlockRows& next, bool last_step) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Range& rows = part.rows;
  const Range& blocks = part.blocks;
  const Range& columns = part.columns;
  const Index Hp = layer.Hp();
  const Range here{rows.first, rows.last < problem.batch(t) ? rows.last : problem.batch(t)};
  const Index row0 = problem.row(t) + here.first - block.first;
  if (problem.P > 0) {
    const Index last_column = columns.last * kPanel<Real> < problem.P ? columns.last * kPanel<Real> : problem.P;
    projected_gradients(layer, t, here, {columns.first * kPanel<Real>, last_column}, block.first);
    if (!in_step()) return;
    const Product<Real> product{{layer.dh_projected + row0 * problem.P, problem.P, kPart, kPart, problem.P},
                                layer.hr_panels,
                                layer.dh_full + here.first * Hp,
                                Hp,
                                Hp,
                                false};
    const Index panel_blocks = kPanel<Real> / kLanes<Real>;
    product.run(here.last - here.first, blocks.first / panel_blocks, (blocks.last + panel_blocks - 1) / panel_blocks);
  }
  Run runs[2];
  const int count = step_runs(problem, layer.direction, t, here, runs);
  RealOf<Term>* const h = hidden_read_in(layer, t, block) ? layer.h : nullptr;
  for (int k = 0; k < count; ++k) gate_gradients(layer, runs[k], blocks, block, next, h);
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled) {
      split_gates(layer, row0, here.last - here.first, blocks, block.count);
    }
    if (layer.plan.tiled_steps) {
      if (last_step && layer.dh_0 == nullptr) return;
      if (!in_step()) return;
      gates_times(layer, row0, layer.tiles.hh_panels, layer.weights.w_hh.element, layer.dh + here.first * layer.out_padded(),
                  layer.out_padded(), layer.out_padded(), false)
          .run(here.last - here.first, columns.first, columns.last);
      return;
    }
  }
  if (last_step && layer.dh_0 == nullptr) return;  // nothing asks for the gradient of h_0
  if (!in_step()) return;
  const Product<Term> recurrence{gate_rows(layer, row0, block.count),        layer.hh_panels,
                                 layer.dh + here.first * layer.out_padded(), layer.out_padded(),
                                 rounded_up(problem.out(), kLanes<Real>),    false};
  recurrence.run(here.last - here.first, columns.first, columns.last);
}

// A member's share of the weights, packed.
template <class Term>
void pack_backward(const LayerBackward<Term>& layer, const Group& group) {
  const Index H = layer.problem->H;
  const Index out = layer.problem->out();
  const auto panels = [&](Index columns) { return share((columns + kPanel<Term> - 1) / kPanel<Term>, group.rank, group.size); };
  const Range hh = panels(out);
  pack_gate_rows(layer.weights.w_hh, H, out, layer.hh_panels, hh.first, hh.last);
  if (layer.dx != nullptr) {
    const Range ih = panels(layer.in);
    pack_gate_rows(layer.weights.w_ih, H, layer.in, layer.ih_panels, ih.first, ih.last);
  }
}

// Packed weights, and the states' gradients that come from h_n and c_n: a thread's share.
template <class Term>
void prepare_backward(const LayerBackward<Term>& layer, const Group& group) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index out = problem.out();
  const auto panels = [&](Index columns) { return share((columns + kPanel<Real> - 1) / kPanel<Real>, group.rank, group.size); };
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled) prepare_tiles(layer, group);
  }
  if (!layer.plan.tiled) pack_backward(layer, group);
  if (problem.P > 0) {
    const Range hr = panels(H);
    pack_columns(layer.weights.w_hr, problem.P, H, layer.hr_panels, hr.first, hr.last);
  }
  const Range rows = share(problem.N, group.rank, group.size);
  for (Index n = rows.first; n < rows.last; ++n) {
    for (Index j = 0; j < layer.out_padded(); ++j)
      layer.dh[n * layer.out_padded() + j] = j < out && layer.dh_n != nullptr ? layer.dh_n[n * out + j] : Real(0);
    for (Index j = 0; j < layer.Hp(); ++j)
      layer.dc[n * layer.Hp() + j] = j < H && layer.dc_n != nullptr ? layer.dc_n[n * H + j] : Real(0);
  }
}

// All steps of the rows `of` the batch, last to first, by the members of a group together.
template <class Term>
void backward_blocks(LayerBackward<Term> layer, Range of, const Group& group) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const bool by_unit = layer.plan.by_unit;
  const Index unit_groups = unit_blocks<Real>(problem.H);
  const Index H_panels = layer.H_padded() / kPanel<Real>;
  const Index out_panels = layer.out_padded() / kPanel<Real>;
  Part part{{0, problem.N}, {0, unit_groups}, {0, out_panels}};
  if (by_unit) {
    const Range mine = share(H_panels, group.rank, group.size);
    const Index last = mine.last * kVectors < unit_groups ? mine.last * kVectors : unit_groups;
    part = {{0, problem.N}, {mine.first * kVectors, last}, share(out_panels, group.rank, group.size)};
  }
  Patience patience(*group.barrier);
  bool alone = false;
  const auto in_step = [&] {
    if (!by_unit || alone || !patience.wait()) return true;
    alone = true;
    if (group.rank > 0) return false;
    part = {{0, problem.N}, {0, unit_groups}, {0, out_panels}};
    return true;
  };
  for (Index b = 0; b < problem.blocks(); ++b) {
    const Index block = layer.direction == 0 ? problem.blocks() - 1 - b : b;
    const Index t0 = problem.block(block);
    const Index t1 = problem.block(block + 1);
    const BlockRows here(problem, block);
    const BlockRows next(problem, layer.direction == 0 ? block - 1 : block + 1);
    const Range own = own_rows(problem, t0, t1, of, group);
    if (!by_unit) part.rows = own;
    if (layer.bring_x.data != nullptr) {  // complete before block_gradients
      bring_steps(layer.bring_x, layer.brought_x, layer.in, problem, layer.in, t0, t1, own);
      layer.x = layer.brought_x - here.first * layer.in;
    }
    if (layer.bring_doutput.data != nullptr) {
      bring_steps(layer.bring_doutput, layer.brought_doutput, problem.out(), problem, problem.out(), t0, t1, own);
      layer.doutput = layer.brought_doutput - here.first * problem.out();
      if (by_unit) group.barrier->wait();
    }
    Real* const dx = layer.dx;
    if (layer.send_dx.data != nullptr) layer.dx = dx - here.first * layer.in;
    for (Index s = 0; s < t1 - t0 && !(alone && group.rank > 0); ++s) {
      const Index t = layer.direction == 0 ? t1 - 1 - s : t0 + s;
      const bool last_step = t == (layer.direction == 0 ? 0 : problem.T - 1);
      backward_step(layer, t, part, in_step, here, next, last_step);
    }
    if (!alone || group.rank == 0) hidden_before(layer, layer.direction == 0 ? t0 : t1 - 1, part.rows, part.blocks, here, next);
    group.barrier->wait();
    block_gradients(layer, t0, t1, group, of, b > 0);
    layer.dx = dx;
    group.barrier->wait();
  }
  if (group.rank == 0) patience.forget();
}

// A direction of a layer, by the members of a group together.
template <class Term>
void backward_direction(LayerBackward<Term> layer, const Group& group) {
  prepare_backward(layer, group);
  group.barrier->wait();
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled && !tiles_hold_all(layer, group)) {
      layer.plan.tiled = layer.plan.tiled_steps = false;
      pack_backward(layer, group);
      group.barrier->wait();
    }
  }
  if (layer.plan.halves) {
    backward_halves(layer, group);
  } else {
    backward_blocks(layer, {0, layer.problem->N}, group);
  }
  write_gradients(layer, group);
}
