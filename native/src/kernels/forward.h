// One layer and direction, forward: every step for a thread's share of rows or units. Included inside an ISA's namespace.

// A part of a team, with its own barrier: the team itself, or the half of it that has one direction.
struct Group {
  int rank;
  int size;
  Barrier* barrier;
};

// The rows of a step whose previous state stands in one place, as arrays with a fixed distance between rows.
struct Run {
  Index first;  // row of the batch
  Index last;
  Index row;       // of the sequence, for `first`
  Index previous;  // row of the sequence with its previous state; -1: the state is the initial one
};

// The rows [range) of step t: those that have a previous step in this direction, then those that start at t.
inline int step_runs(const Problem& problem, int direction, Index t, Range range, Run (&runs)[2]) {
  const Index before = direction == 0 ? t - 1 : t + 1;
  const Index last = range.last < problem.batch(t) ? range.last : problem.batch(t);
  Index started = before >= 0 && before < problem.T ? problem.batch(before) : 0;
  if (started > last) started = last;
  int count = 0;
  if (range.first < started)
    runs[count++] = {range.first, started, problem.row(t) + range.first, problem.row(before) + range.first};
  const Index start = started > range.first ? started : range.first;
  if (start < last) runs[count++] = {start, last, problem.row(t) + start, -1};
  return count;
}

inline Index largest_block(const Problem& problem) {
  Index rows = 0;
  for (Index b = 0; b < problem.blocks(); ++b) {
    const Index here = problem.row(problem.block(b + 1)) - problem.row(problem.block(b));
    if (here > rows) rows = here;
  }
  return rows;
}

// Operands of the input projection on tiles (forward_tiles.h), where the plan has them.
struct ForwardTiles {
  std::uint16_t* panels;
  std::uint16_t* x;        // the rows of a block
  unsigned char* x_large;  // whether such a row has a number too large for tiles
  Index x_rows;            // of the largest block
  Index* places;           // where rows of tiles stand in the block
  int x_parts;             // how many parts its numbers have
  Index* weights_large;    // for each member: whether there was one in its share of the weights
};

// A direction of a layer: its arrays, and the scratch it shares with its group.
template <class Real>
struct LayerForward {
  const Problem* problem;
  Plan plan;
  int direction;
  Index in;
  const Real* x;    // (rows, in)
  const Real* h_0;  // (N, out) or nullptr
  const Real* c_0;  // (N, H) or nullptr
  Weights<Real> weights;
  Real* output;         // (rows, D * out), at this direction's columns
  Real* h_n;            // (N, out)
  Real* c_n;            // (N, H)
  Real* gates;          // saved: blocks of [panel][row of the block][kPanel]; nullptr at inference
  Real* c;              // saved: (rows, Hp); nullptr at inference
  Real* panels;         // (panels of gates)[in + out][kPanel]
  Real* bias;           // 4 Hp, in gate order
  Real* hr_panels;      // (panels of P)[H][kPanel]
  Real* c_state;        // (N, Hp): c_0, and at inference c_t
  Real* h_full;         // (N, Hp): o tanh(c_t) before its projection
  Real* preactivation;  // at inference: a gate buffer, for the rows of a block where the plan projects or cuts
  ForwardTiles tiles;

  Index Hp() const { return unit_blocks<Real>(problem->H) * kLanes<Real>; }
};

// A tile of a step: the sums of the gates for R rows and U blocks of units, and then the cell.
template <class Real>
struct Step {
  const Real* panels;  // of all gates
  const Real* bias;
  Index K;  // their depth
  struct Segment {
    const Real* a;
    Index lda;
    Index k0;
    Index K;
  } segments[2];
  int segment_count;
  bool from_buffer;  // start from the gate buffer, not from the bias
  bool to_buffer;    // leave the sums there: another cut of the sum follows
  bool backwards;    // from the last block of units to the first
  Real* gates;       // gate buffer, at the first row of this run; nullptr: none
  Index gates_panel_stride;
  bool keep_gates;
  const Real* c_prev;  // (., Hp) or nullptr: zeros
  Real* c;             // (., Hp)
  Index Hp;
  Real* h;  // h_t, rows ldh apart, `H` columns
  Index ldh;
  Index H;

  struct Tile {
    const Step& step;
    Index block;  // of units

    template <int R, int U>
    inline void units(Index row) const {
      constexpr int lanes = kLanes<Real>;
      constexpr int all = U * kHalves;
      constexpr int P = R * all * kVectors <= (kRegisters >= 32 ? 24 : 8) ? all : 1;
      Real parked[R][U * 4 * lanes];
      const Real* const panels = step.panels + block * kHalves * step.K * kPanel<Real>;
      Real* const gates =
          step.gates == nullptr ? nullptr : step.gates + block * kHalves * step.gates_panel_stride + row * kPanel<Real>;
      for (int p = 0; p < all; p += P) {
        Sums<Real, R, P> sums;
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < P * kVectors; ++v)
            sums.at[r][v] =
                step.from_buffer
                    ? load(gates + (p + v / kVectors) * step.gates_panel_stride + r * kPanel<Real> + v % kVectors * lanes)
                    : load(step.bias + (block * 4 + p * kVectors + v) * lanes);
        for (int s = 0; s < step.segment_count; ++s) {
          const Segment& segment = step.segments[s];
          accumulate<1>(sums, segment.a + row * segment.lda, segment.lda, panels + (p * step.K + segment.k0) * kPanel<Real>,
                        step.K * kPanel<Real>, segment.K);
        }
        for (int r = 0; r < R; ++r)
          for (int v = 0; v < P * kVectors; ++v) store(&parked[r][(p * kVectors + v) * lanes], sums.at[r][v]);
      }
      if (step.to_buffer) {
        for (int r = 0; r < R; ++r)
          for (int u = 0; u < U; ++u)
            store_gates(gates + u * kHalves * step.gates_panel_stride + r * kPanel<Real>, step.gates_panel_stride,
                        parked_gates(&parked[r][u * 4 * lanes]));
        return;
      }
      // A cell is a chain of some 200 cycles, of which a processor holds two: all rows to their c_t first, then all to their h_t.
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u) {
          Real* const pre = &parked[r][u * 4 * lanes];
          Real* const at = gates == nullptr ? nullptr : gates + u * kHalves * step.gates_panel_stride + r * kPanel<Real>;
          store(pre + 3 * lanes, step.to_c(parked_gates(pre), at, row + r, (block + u) * lanes));
        }
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u) step.to_h(load(&parked[r][(u * 4 + 3) * lanes]), row + r, (block + u) * lanes);
    }

    inline __attribute__((always_inline)) static Gates<Real> parked_gates(const Real* pre) {
      constexpr int lanes = kLanes<Real>;
      return {load(pre), load(pre + lanes), load(pre + 2 * lanes), load(pre + 3 * lanes)};
    }

    template <int R>
    inline void run(Index row) const {
      units<R, 1>(row);
    }
  };

  // c_t of kLanes units of a row from the sums of its gates; `at`: the row's place in the gate buffer. Returns o.
  inline __attribute__((always_inline)) Vec<Real> to_c(const Gates<Real>& pre, Real* at, Index row, Index unit) const {
    const Gates<Real> gates = activate(pre);
    const Vec<Real> before = c_prev == nullptr ? broadcast(Real(0)) : load(c_prev + row * Hp + unit);
    if (keep_gates) store_gates(at, gates_panel_stride, gates);
    store(c + row * Hp + unit, cell(gates, before));
    return gates.o;
  }
  // h_t = o tanh(c_t)
  inline __attribute__((always_inline)) void to_h(Vec<Real> o, Index row, Index unit) const {
    store_columns(h + row * ldh + unit, o * tanh(load(c + row * Hp + unit)), H - unit);
  }

  void run(Index rows, Range blocks) const {
    constexpr int two = kPanelsAtOnce<1> / kHalves > 1 ? kPanelsAtOnce<1> / kHalves : 1;
    for (Index done = 0; done < blocks.last - blocks.first;) {
      const bool wide = rows == 1 && done + two <= blocks.last - blocks.first;
      const Index count = wide ? two : 1;
      const Tile tile{*this, backwards ? blocks.last - done - count : blocks.first + done};
      if (wide) {
        tile.template units<1, two>(0);
      } else {
        for_tiles(rows, tile);
      }
      done += count;
    }
  }

  // The same over all K of the given segments, cut where a panel would outgrow L1.
  void run_cut(Index rows, Range blocks, bool may_cut) const {
    Index total = 0;
    for (int s = 0; s < segment_count; ++s) total += segments[s].K;
    if (!may_cut || total <= kCut + kCut / 2) {
      run(rows, blocks);
      return;
    }
    Step part = *this;
    bool begun = from_buffer;
    for (int s = 0; s < segment_count; ++s)
      for (Index k = 0; k < segments[s].K; k += kCut) {
        const Segment& whole = segments[s];
        const bool last = s == segment_count - 1 && k + kCut >= whole.K;
        part.segments[0] = {whole.a + k, whole.lda, whole.k0 + k, whole.K - k < kCut ? whole.K - k : kCut};
        part.segment_count = 1;
        part.from_buffer = begun;
        part.to_buffer = to_buffer || !last;
        part.run(rows, blocks);
        begun = true;
      }
  }
};

// The input projection b + W x of rows [rows) of a block of steps, into its gate buffer.
template <class Real>
void project_rows(const LayerForward<Real>& layer, Index first_row, Index block_rows, Real* gates, Range rows, Range blocks) {
  if (rows.first >= rows.last) return;
  if constexpr (kTiled<Real>) {
    if (layer.plan.tiled) {
      project_tiles(layer, first_row, block_rows, gates, rows.first, rows.last - rows.first, nullptr, blocks);
      return;
    }
  }
  Step<Real> step{};
  step.panels = layer.panels;
  step.bias = layer.bias;
  step.K = layer.in + layer.problem->out();
  step.segments[0] = {layer.x + (first_row + rows.first) * layer.in, layer.in, 0, layer.in};
  step.segment_count = 1;
  step.to_buffer = true;
  step.gates = gates + rows.first * kPanel<Real>;
  step.gates_panel_stride = block_rows * kPanel<Real>;
  step.run_cut(rows.last - rows.first, blocks, true);
}

// The input projection of a block of steps: of a member's units, or, for all units, of its rows.
template <class Real>
void project_block(const LayerForward<Real>& layer, Index t0, Index t1, Real* gates, Range rows, Range blocks, const Group& group,
                   bool together) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Range all{0, problem.row(t1) - first_row};
  if constexpr (kTiled<Real>) {
    if (layer.plan.tiled) {
      if (!layer.plan.by_unit && group.size > 1) {
        project_own_rows(layer, t0, t1, gates, rows);
        return;
      }
      split_input(layer, first_row, together ? share(all.last, group.rank, group.size) : all);
      if (together) group.barrier->wait();
    }
  }
  if (layer.plan.by_unit || group.size == 1) {
    project_rows(layer, first_row, all.last, gates, all, blocks);
    return;
  }
  for (Index t = t0; t < t1; ++t) {
    const Index row0 = problem.row(t) - first_row;
    const Index last = rows.last < problem.batch(t) ? rows.last : problem.batch(t);
    project_rows(layer, first_row, all.last, gates, {row0 + rows.first, row0 + last}, blocks);
  }
}

// One step of a thread's rows and units.
template <class Real>
void forward_step(const LayerForward<Real>& layer, Index t, Range rows, Range blocks, Index first_row, Index block_rows,
                  Real* gates) {
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index ld_output = problem.D * out;
  const Index Hp = layer.Hp();
  Run runs[2];
  const int count = step_runs(problem, layer.direction, t, rows, runs);
  for (int k = 0; k < count; ++k) {
    const Run& run = runs[k];
    Step<Real> step{};
    step.panels = layer.panels;
    step.bias = layer.bias;
    step.K = layer.in + out;
    if (!layer.plan.project) step.segments[step.segment_count++] = {layer.x + run.row * layer.in, layer.in, 0, layer.in};
    if (run.previous >= 0) {
      step.segments[step.segment_count++] = {layer.output + run.previous * ld_output, ld_output, layer.in, out};
    } else if (layer.h_0 != nullptr) {
      step.segments[step.segment_count++] = {layer.h_0 + run.first * out, out, layer.in, out};
    }
    step.from_buffer = layer.plan.project;
    // Every other step goes the other way: of weights that do not fit in L2, what the step before read last is still there.
    step.backwards = t % 2 == 1;
    step.gates = gates == nullptr ? nullptr : gates + (run.row - first_row) * kPanel<Real>;
    step.gates_panel_stride = block_rows * kPanel<Real>;
    step.keep_gates = layer.gates != nullptr;
    Real* const state = layer.c_state + run.first * Hp;
    step.c = layer.c == nullptr ? state : layer.c + run.row * Hp;
    if (run.previous < 0) {
      step.c_prev = layer.c_0 == nullptr ? nullptr : state;
    } else {
      step.c_prev = layer.c == nullptr ? state : layer.c + run.previous * Hp;
    }
    step.Hp = Hp;
    step.H = problem.H;
    step.h = problem.P > 0 ? layer.h_full + run.first * Hp : layer.output + run.row * ld_output;
    step.ldh = problem.P > 0 ? Hp : ld_output;
    step.run_cut(run.last - run.first, blocks, gates != nullptr);
  }
}

// h_n and c_n of the rows [rows): a row's state after its own last step.
template <class Real>
void final_state(const LayerForward<Real>& layer, Range rows) {
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index Hp = layer.Hp();
  Index t = 0;
  for (Index n = rows.last - 1; n >= rows.first; --n) {  // the last rows of a packed batch end first
    if (layer.direction == 0)
      while (t + 1 < problem.T && problem.batch(t + 1) > n) ++t;
    const Index row = problem.row(t) + n;
    const Real* const h = layer.output + row * problem.D * out;
    const Real* const c = layer.c == nullptr ? layer.c_state + n * Hp : layer.c + row * Hp;
    for (Index j = 0; j < out; ++j) layer.h_n[n * out + j] = h[j];
    for (Index j = 0; j < problem.H; ++j) layer.c_n[n * problem.H + j] = c[j];
  }
}

// All steps, by the members of a group together.
template <class Real>
void forward_direction(LayerForward<Real> layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index out = problem.out();
  const Index K = layer.in + out;
  const Index unit_groups = unit_blocks<Real>(H);
  const Range packed = share(unit_groups, group.rank, group.size);
  if constexpr (kTiled<Real>) {
    if (layer.plan.tiled) pack_input_tiles(layer, group);
  }
  if (!layer.plan.tiled) pack_gates(layer.weights.w_ih, H, layer.in, layer.panels, 0, K, packed.first, packed.last);
  pack_gates(layer.weights.w_hh, H, out, layer.panels, layer.in, K, packed.first, packed.last);
  pack_bias(layer.weights, H, layer.bias, packed.first, packed.last);
  const Index out_panels = (out + kPanel<Real> - 1) / kPanel<Real>;
  if (problem.P > 0) {
    const Range columns = share(out_panels, group.rank, group.size);
    pack_transposed(layer.weights.w_hr, out, H, layer.hr_panels, columns.first, columns.last);
  }
  if (layer.c_0 != nullptr) {
    const Range mine = share(problem.N, group.rank, group.size);
    for (Index n = mine.first; n < mine.last; ++n)
      for (Index j = 0; j < Hp; ++j) layer.c_state[n * Hp + j] = j < H ? layer.c_0[n * H + j] : Real(0);
  }
  group.barrier->wait();
  if constexpr (kTiled<Real>) {
    if (layer.plan.tiled && !tiles_hold_weights(layer, group)) {
      layer.plan.tiled = false;
      pack_gates(layer.weights.w_ih, H, layer.in, layer.panels, 0, K, packed.first, packed.last);
      group.barrier->wait();
    }
  }

  const bool by_unit = layer.plan.by_unit && group.size > 1;
  const Range rows = by_unit ? Range{0, problem.N} : share_rows(problem, group.rank, group.size);
  const Range whole{0, unit_groups};
  Range blocks = by_unit ? packed : whole;
  Range columns = by_unit ? share(out_panels, group.rank, group.size) : Range{0, out_panels};
  Patience patience(*group.barrier);
  bool alone = false;
  // The others have finished the same part of a step. False: this member has no more steps to do.
  const auto in_step = [&] {
    if (!by_unit || alone || !patience.wait()) return true;
    alone = true;
    blocks = whole;
    columns = {0, out_panels};
    return group.rank == 0;
  };
  bool goes_on = true;
  for (Index b = 0; b < problem.blocks() && goes_on; ++b) {
    const Index block = layer.direction == 0 ? b : problem.blocks() - 1 - b;
    const Index t0 = problem.block(block);
    const Index t1 = problem.block(block + 1);
    const Index first_row = problem.row(t0);
    const Index block_rows = problem.row(t1) - first_row;
    Real* const gates = layer.gates != nullptr ? layer.gates + first_row * 4 * Hp : layer.preactivation;
    if (layer.plan.project) project_block(layer, t0, t1, gates, rows, blocks, group, by_unit && !alone);
    for (Index s = 0; s < t1 - t0 && goes_on; ++s) {
      const Index t = layer.direction == 0 ? t0 + s : t1 - 1 - s;
      if (layer.plan.project || layer.gates != nullptr) {
        forward_step(layer, t, rows, blocks, first_row, block_rows, gates);
      } else {  // at most a cut's sums: the same few rows serve every step
        forward_step(layer, t, rows, blocks, problem.row(t), problem.batch(t), gates);
      }
      if (problem.P > 0) {
        goes_on = in_step();
        if (!goes_on) break;
        const Index last = rows.last < problem.batch(t) ? rows.last : problem.batch(t);
        const Product<Real> projection{{layer.h_full + rows.first * Hp, Hp, H, 0, 1},
                                       layer.hr_panels,
                                       layer.output + (problem.row(t) + rows.first) * problem.D * out,
                                       problem.D * out,
                                       out,
                                       false};
        projection.run(last - rows.first, columns.first, columns.last);
      }
      goes_on = in_step();
    }
  }
  group.barrier->wait();
  if (group.rank == 0) patience.forget();
  final_state(layer, share(problem.N, group.rank, group.size));
}
