// One layer and direction, forward: every step for a thread's share of rows or units. Included inside an ISA's namespace.

// A part of a team, with its own barrier: the team itself, or the half of it that has one direction.
struct Group {
  int rank;
  int size;
  Barrier* barrier;
  Barrier* halves;  // two, of its even and its odd ranks, where it is the whole team
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
template <class Term>
struct LayerForward {
  using Real = RealOf<Term>;
  const Problem* problem;
  ForwardPlan plan;
  int direction;
  Index in;
  const ElementOf<Term>* x;    // (rows, in), rows ld_x() apart
  const ElementOf<Term>* h_0;  // (N, out) or nullptr
  const Real* c_0;             // (N, H) or nullptr
  Weights<Real> weights;
  ElementOf<Term>* output;  // (rows, D * out), at this direction's columns
  Real* exact_output;       // where elements are rounded: the same before that; or nullptr
  Real* h_n;                // (N, out)
  Real* c_n;                // (N, H)
  Real* gates;              // saved: blocks of [panel][row of the block][kPanel]; nullptr at inference
  typename Step<Term>::Keep keep_gates;
  Real* c;              // saved: (rows, Hp); nullptr at inference
  Term* panels;         // (panels of gates)[terms of in, and of out][kPanel]
  Real* bias;           // 4 Hp, in gate order
  Real* hr_panels;      // (panels of P)[H][kPanel]
  Real* c_state;        // (N, Hp): c_0, and at inference c_t
  Real* h_full;         // (N, Hp): o tanh(c_t) before its projection
  Real* preactivation;  // at inference: a gate buffer, for the rows of a block where the plan projects or cuts
  ForwardTiles tiles;
  // Block by block, where there is data: x from where its rows stand, and output to there.
  Source<Real> bring;
  ElementOf<Term>* brought;  // (members, rows of the largest block, ld_x())
  Target<Real> send;

  Index ld_x() const { return padded<Term>(in); }
  Index K() const { return terms<Term>(in) + terms<Term>(problem->out()); }
  Index Hp() const { return unit_blocks<Real>(problem->H) * kLanes<Real>; }
  Term* panels_of(Index unit_block) const { return panels + unit_block * kHalves * K() * kPanel<Term>; }
};

// The input projection b + W x of rows [rows) of a block of steps, into its gate buffer.
template <class Term>
void project_rows(const LayerForward<Term>& layer, Index first_row, Index block_rows, RealOf<Term>* gates, Range rows,
                  Range blocks) {
  using Real = RealOf<Term>;
  if (rows.first >= rows.last) return;
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled) {
      project_tiles(layer, first_row, block_rows, gates, rows.first, rows.last - rows.first, nullptr, blocks);
      return;
    }
  }
  Step<Term> step{};
  step.panels = layer.panels;
  step.bias = layer.bias;
  step.K = layer.K();
  const Index in = terms<Term>(layer.in);
  step.segments[0] = {as_terms<Term>(layer.x) + (first_row + rows.first) * in, in, 0, in};
  step.segment_count = 1;
  step.to_buffer = true;
  step.gates = gates + rows.first * kPanel<Real>;
  step.gates_panel_stride = block_rows * kPanel<Real>;
  step.run_cut(rows.last - rows.first, blocks, true);
}

// Each of a member's panels of the input's weights packed when its turn comes.
template <class Term>
void pack_and_project(const LayerForward<Term>& layer, Index first_row, Index rows, RealOf<Term>* gates, Range blocks) {
  using Real = RealOf<Term>;
  LayerForward<Term> here = layer;
  here.panels = layer.panels_of(blocks.first);
  for (Index u = blocks.first; u < blocks.last; ++u) {
    pack_gates(layer.weights.w_ih, layer.problem->H, layer.in, here.panels, 0, layer.K(), u, u + 1);
    here.bias = layer.bias + u * 4 * kLanes<Real>;
    project_rows(here, first_row, rows, gates + u * kHalves * rows * kPanel<Real>, {0, rows}, {0, 1});
  }
}

// Whether the block [t0, t1) of a dense batch has as many steps as the one that ran before it.
inline bool same_shape(const Problem& problem, Index t0, Index t1, int direction) {
  if (problem.rows() != problem.T * problem.N) return false;
  for (Index b = 0; b < problem.blocks(); ++b)
    if (direction == 0 ? problem.block(b + 1) == t0 : problem.block(b) == t1)
      return problem.block(b + 1) - problem.block(b) == t1 - t0;
  return false;
}

// The input projection of a block of steps: of a member's units, or, for all units, of its rows.
template <class Term>
void project_block(const LayerForward<Term>& layer, Index t0, Index t1, RealOf<Term>* gates, Range rows, Range blocks,
                   const Group& group, bool together) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Range all{0, problem.row(t1) - first_row};
  if constexpr (kTiled<Term>) {
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
template <class Term>
void forward_step(const LayerForward<Term>& layer, Index t, Range rows, Range blocks, Index first_row, Index block_rows,
                  RealOf<Term>* gates) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Index in = terms<Term>(layer.in);
  const Index out = terms<Term>(problem.out());
  const Index ld_output = problem.D * problem.out();
  const Index Hp = layer.Hp();
  Run runs[2];
  const int count = step_runs(problem, layer.direction, t, rows, runs);
  for (int k = 0; k < count; ++k) {
    const Run& run = runs[k];
    Step<Term> step{};
    step.panels = layer.panels;
    step.bias = layer.bias;
    step.K = layer.K();
    if (!layer.plan.project) step.segments[step.segment_count++] = {as_terms<Term>(layer.x) + run.row * in, in, 0, in};
    if (run.previous >= 0) {
      const Index ld = ld_output / kNumbers<Term>;
      step.segments[step.segment_count++] = {as_terms<Term>(layer.output) + run.previous * ld, ld, in, out};
    } else if (layer.h_0 != nullptr) {
      step.segments[step.segment_count++] = {as_terms<Term>(layer.h_0) + run.first * out, out, in, out};
    } else if (layer.plan.project) {
      step.segments[step.segment_count++] = {as_terms<Term>(layer.output), 0, in, 0};  // what is in the buffer is all
    }
    step.from_buffer = layer.plan.project;
    // Every other step goes the other way: of weights that do not fit in L2, what the step before read last is still there.
    step.backwards = t % 2 == 1;
    step.gates = gates == nullptr ? nullptr : gates + (run.row - first_row) * kPanel<Real>;
    step.gates_panel_stride = block_rows * kPanel<Real>;
    step.keep_gates = layer.keep_gates;
    Real* const state = layer.c_state + run.first * Hp;
    step.c = layer.c == nullptr ? state : layer.c + run.row * Hp;
    if (run.previous < 0) {
      step.c_prev = layer.c_0 == nullptr ? nullptr : state;
    } else {
      step.c_prev = layer.c == nullptr ? state : layer.c + run.previous * Hp;
    }
    step.Hp = Hp;
    step.H = problem.H;
    step.h = layer.output + run.row * ld_output;
    step.ldh = ld_output;
    if (layer.exact_output != nullptr) step.exact_h = layer.exact_output + run.row * ld_output;
    if constexpr (kNumbers<Term> == 1) {
      if (problem.P > 0) {
        step.h = layer.h_full + run.first * Hp;
        step.ldh = Hp;
      }
    }
    step.run_cut(run.last - run.first, blocks, gates != nullptr);
  }
}

// h_n and c_n of the rows [rows): a row's state after its own last step.
template <class Term>
void final_state(const LayerForward<Term>& layer, Range rows) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index Hp = layer.Hp();
  Index t = 0;
  for (Index n = rows.last - 1; n >= rows.first; --n) {  // the last rows of a packed batch end first
    if (layer.direction == 0)
      while (t + 1 < problem.T && problem.batch(t + 1) > n) ++t;
    const Index row = problem.row(t) + n;
    const Real* const c = layer.c == nullptr ? layer.c_state + n * Hp : layer.c + row * Hp;
    convert(layer.output + row * problem.D * out, layer.h_n + n * out, out);
    for (Index j = 0; j < problem.H; ++j) layer.c_n[n * problem.H + j] = c[j];
  }
}

// All steps, by the members of a group together.
template <class Term>
void forward_direction(LayerForward<Term> layer, const Group& group) {
  using Real = RealOf<Term>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index out = problem.out();
  const Index in = terms<Term>(layer.in);
  const Index unit_groups = unit_blocks<Real>(H);
  const Range packed = share(unit_groups, group.rank, group.size);
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled) pack_input_tiles(layer, group);
  }
  if (!layer.plan.tiled && !layer.plan.pack_late)
    pack_gates(layer.weights.w_ih, H, layer.in, layer.panels_of(packed.first), 0, layer.K(), packed.first, packed.last);
  pack_gates(layer.weights.w_hh, H, out, layer.panels_of(packed.first), in, layer.K(), packed.first, packed.last);
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
  if constexpr (kTiled<Term>) {
    if (layer.plan.tiled && !tiles_hold_weights(layer, group)) {
      layer.plan.tiled = false;
      pack_gates(layer.weights.w_ih, H, layer.in, layer.panels_of(packed.first), 0, layer.K(), packed.first, packed.last);
      group.barrier->wait();
    }
  }

  const bool by_unit = layer.plan.by_unit;
  Range rows = by_unit ? Range{0, problem.N} : share_rows(problem, 0, problem.T, group.rank, group.size);
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
    // Everyone's rows stand where they stood in the block before, unless that one had another shape. Where all must wait for
    // that, rows of unequal lengths are shared anew: equal work in the whole is not equal work in each block.
    if (layer.plan.project && !by_unit && (b == 0 || !same_shape(problem, t0, t1, layer.direction))) {
      if (b > 0) group.barrier->wait();
      rows = share_rows(problem, t0, t1, group.rank, group.size);
    }
    if (layer.bring.data != nullptr) {  // by rows each needs its own; by units all need all
      const bool together = by_unit && !alone;
      ElementOf<Term>* const own = layer.brought + (by_unit ? 0 : group.rank * largest_block(problem) * layer.ld_x());
      bring_steps(layer.bring, own, layer.ld_x(), problem, layer.in, t0, t1,
                  together ? share_rows(problem, t0, t1, group.rank, group.size) : rows);
      layer.x = own - first_row * layer.ld_x();
      if (together) group.barrier->wait();
    }
    if (layer.plan.pack_late) {
      pack_and_project(layer, first_row, block_rows, gates, blocks);
    } else if (layer.plan.project) {
      project_block(layer, t0, t1, gates, rows, blocks, group, by_unit && !alone);
    }
    for (Index s = 0; s < t1 - t0 && goes_on; ++s) {
      const Index t = layer.direction == 0 ? t0 + s : t1 - 1 - s;
      if (layer.plan.project || layer.gates != nullptr) {
        forward_step(layer, t, rows, blocks, first_row, block_rows, gates);
      } else {  // at most a cut's sums: the same few rows serve every step, each in its place, as members are not in the same one
        forward_step(layer, t, rows, blocks, problem.row(t), problem.N, gates);
      }
      if (problem.P > 0) {
        goes_on = in_step();
        if (!goes_on) break;
        const Index last = rows.last < problem.batch(t) ? rows.last : problem.batch(t);
        if constexpr (kNumbers<Term> == 1) {
          const Product<Real> projection{{layer.h_full + rows.first * Hp, Hp, kProjectedPart, kProjectedPart, H, kProjectedPart},
                                         layer.hr_panels,
                                         layer.output + (problem.row(t) + rows.first) * problem.D * out,
                                         problem.D * out,
                                         out,
                                         false};
          projection.run(last - rows.first, columns.first, columns.last);
        }
      }
      goes_on = in_step();
    }
    if (goes_on && layer.send.data != nullptr) {
      const bool together = by_unit && !alone;
      send_steps<Real>(layer.output + first_row * out, layer.send, problem, out, t0, t1,
                       together ? share_rows(problem, t0, t1, group.rank, group.size) : rows);
    }
  }
  if (layer.keep_gates == Step<Term>::Keep::streamed) stream_end();
  group.barrier->wait();
  if (group.rank == 0) patience.forget();
  final_state(layer, share(problem.N, group.rank, group.size));
}
