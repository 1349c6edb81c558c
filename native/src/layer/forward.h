// One layer and direction, forward: every step for a thread's share of rows or units.
#pragma once
#include "layer/project.h"
#include "layer/transfer.h"
#include "product/product.h"
#include "team/peer_watch.h"

namespace fastlstm::FASTLSTM_ISA {

// One step of a thread's rows and units.
template <class Cell>
void forward_step(const LayerForward<Cell>& layer, Index t, Range rows, Range blocks, Index first_row, Index block_rows,
                  RealOf<Cell>* gates) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index in = terms<Cell>(layer.in);
  const Index out = terms<Cell>(problem.out());
  const Index ld_output = problem.D * problem.out();
  const Index Hp = layer.Hp();
  Run runs[2];
  const int count = step_runs(problem, layer.direction, t, rows, runs);
  for (int k = 0; k < count; ++k) {
    const Run& run = runs[k];
    Step<Cell> step{};
    step.panels = layer.panels;
    step.bias = layer.bias;
    step.K = layer.K();
    if (!layer.plan.project)
      step.segments[step.segment_count++] = {as_terms<TermOf<Cell>>(layer.x) + run.row * in, in, 0, in, false};
    if (run.previous >= 0) {
      const Index ld = ld_output / kNumbers<Cell>;
      step.segments[step.segment_count++] = {as_terms<TermOf<Cell>>(layer.output) + run.previous * ld, ld, in, out, true};
    } else if (layer.h_0 != nullptr) {
      step.segments[step.segment_count++] = {as_terms<TermOf<Cell>>(layer.h_0) + run.first * out, out, in, out, true};
    } else if (layer.plan.project) {
      step.segments[step.segment_count++] = {as_terms<TermOf<Cell>>(layer.output), 0, in, 0,
                                             true};  // what is in the buffer is all
    }
    step.from_buffer = layer.plan.project;
    // Every other step goes the other way: of weights that do not fit in L2, what the step before read last is still there.
    step.backwards = t % 2 == 1;
    step.gates = gates == nullptr ? nullptr : gates + (run.row - first_row) * kRowOfGates<Cell>;
    step.gates_panel_stride = block_rows * kRowOfGates<Cell>;
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
    if constexpr (kNumbers<Cell> == 1) {
      if (problem.P > 0) {
        step.h = layer.h_full + run.first * Hp;
        step.ldh = Hp;
      }
    }
    step.run_cut(run.last - run.first, blocks, gates != nullptr);
  }
}

// h_n and c_n of the rows [rows): a row's state after its own last step.
template <class Cell>
void final_state(const LayerForward<Cell>& layer, Range rows) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index Hp = layer.Hp();
  Index t = 0;
  for (Index n = rows.last - 1; n >= rows.first; --n) {  // the last rows of a packed batch end first
    if (layer.direction == 0)
      while (t + 1 < problem.T && problem.batch(t + 1) > n) ++t;
    const Index row = problem.row(t) + n;
    [[maybe_unused]] const Real* const c = layer.c == nullptr ? layer.c_state + n * Hp : layer.c + row * Hp;
    convert(layer.output + row * problem.D * out, layer.h_n + n * out, out);
    if constexpr (Cell::kStates > 1)
      for (Index j = 0; j < problem.H; ++j) layer.c_n[n * problem.H + j] = c[j];
  }
}

// What a member has of the states after step t, the last of a span, to a checkpoint.
template <class Cell>
void keep_states(const LayerForward<Cell>& layer, Index t, Index checkpoint, Range rows, Range blocks, Range columns) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index Hp = layer.Hp();
  const Index width = problem.P > 0 ? kPanel<Real> : kLanes<Real>;
  const Range of_h = problem.P > 0 ? columns : blocks;
  const Index first = of_h.first * width;
  const Index last = of_h.last * width < out ? of_h.last * width : out;
  for (Index n = rows.first; n < rows.last && n < problem.batch(t); ++n) {
    if (first < last)
      convert(layer.output + (problem.row(t) + n) * problem.D * out + first, layer.checkpoint_h(checkpoint) + n * out + first,
              last - first);
    Real* const c = layer.checkpoint_c(checkpoint) + n * Hp;
    for (Index j = blocks.first * kLanes<Real>; j < blocks.last * kLanes<Real>; ++j) c[j] = layer.c_state[n * Hp + j];
  }
}

// A member's share of the input's packed weights.
template <class Cell>
void pack_input(const LayerForward<Cell>& layer, const Group& group) {
  const Index H = layer.problem->H;
  const Range packed = share(unit_blocks<RealOf<Cell>>(H), group.rank, group.size);
  pack_gates<typename Cell::Input>(layer.weights.w_ih, H, layer.in, layer.panels_of(packed.first), 0, layer.K(), packed.first,
                                   packed.last);
}

// A member's share of the packed weights, where no tiles have those of the input.
template <class Cell>
void pack_weights(const LayerForward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index out = problem.out();
  const Range packed = share(unit_blocks<Real>(H), group.rank, group.size);
  if (!layer.plan.tiled && !layer.plan.pack_late) pack_input(layer, group);
  pack_gates<typename Cell::Hidden>(layer.weights.w_hh, H, out, layer.panels_of(packed.first), terms<Cell>(layer.in), layer.K(),
                                    packed.first, packed.last);
  pack_bias<typename Cell::Input, typename Cell::Hidden>(layer.weights, H, layer.bias, packed.first, packed.last);
  if (problem.P > 0) {
    const Range columns = share((out + kPanel<Real> - 1) / kPanel<Real>, group.rank, group.size);
    pack_transposed(layer.weights.w_hr, out, H, layer.hr_panels, columns.first, columns.last);
  }
}

// Packed weights and the initial state, by the members of a group together. Returns the layer, its projection not on tiles where
// they can't hold the weights.
template <class Cell>
LayerForward<Cell> prepare_forward(LayerForward<Cell> layer, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  if constexpr (kTiled<Cell>) {
    if (layer.plan.tiled) pack_input_tiles(layer, group);
  }
  if (!layer.plan.packed) pack_weights(layer, group);
  if (layer.c_0 != nullptr) {
    const Range mine = share(problem.N, group.rank, group.size);
    for (Index n = mine.first; n < mine.last; ++n)
      for (Index j = 0; j < Hp; ++j) layer.c_state[n * Hp + j] = j < H ? layer.c_0[n * H + j] : Real(0);
  }
  group.barrier->wait();
  if constexpr (kTiled<Cell>) {
    if (layer.plan.tiled && !tiles_hold_weights(layer, group)) {
      layer.plan.tiled = false;
      if (!layer.plan.packed) pack_input(layer, group);
      group.barrier->wait();
    }
  }
  return layer;
}

// h_t of a step's rows from what stands before the projection, for the panels [columns) of it.
template <class Cell>
void project_hidden(const LayerForward<Cell>& layer, Index t, Range rows, Range columns) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index Hp = layer.Hp();
  const Index ld = problem.D * problem.out();
  const Index last = rows.last < problem.batch(t) ? rows.last : problem.batch(t);
  if constexpr (kNumbers<Cell> == 1) {
    const Left<Real> left{layer.h_full + rows.first * Hp, Hp, kProjectedPart, kProjectedPart, problem.H, kProjectedPart};
    const Product<Real> projection{left, layer.hr_panels, layer.output + (problem.row(t) + rows.first) * ld,
                                   ld,   problem.out(),   false};
    projection.run(last - rows.first, columns.first, columns.last);
  }
}

// The steps of the blocks [of), by the members of a group together.
template <class Cell>
void forward_blocks(LayerForward<Cell> layer, Range of, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  const Index out_panels = (out + kPanel<Real> - 1) / kPanel<Real>;
  const Index unit_groups = unit_blocks<Real>(problem.H);
  const bool by_unit = layer.plan.by_unit;
  Range rows = by_unit ? Range{0, problem.N} : share_rows(problem, 0, problem.T, group.rank, group.size);
  const Range whole{0, unit_groups};
  Range blocks = by_unit ? share(unit_groups, group.rank, group.size) : whole;
  Range columns = by_unit ? share(out_panels, group.rank, group.size) : Range{0, out_panels};
  PeerWatch peers(*group.barrier);
  bool alone = false;
  // The others have finished the same part of a step. False: this member has no more steps to do.
  const auto in_step = [&] {
    if (!by_unit || alone || !peers.wait()) return true;
    alone = true;
    blocks = whole;
    columns = {0, out_panels};
    return group.rank == 0;
  };
  bool goes_on = true;
  for (Index b = 0; b < of.last - of.first && goes_on; ++b) {
    const Index block = layer.direction == 0 ? of.first + b : of.last - 1 - b;
    const Index t0 = problem.block(block);
    const Index t1 = problem.block(block + 1);
    const Index first_row = problem.row(t0);
    const Index block_rows = problem.row(t1) - first_row;
    Real* const gates = layer.gates != nullptr ? layer.gates + first_row * layer.gate_columns() : layer.preactivation;
    // Everyone's rows stand where they stood in the block before, unless that one had another shape. Where all must wait for
    // that, rows of unequal lengths are shared anew: equal work in the whole is not equal work in each block.
    if (layer.plan.project && !by_unit && (b == 0 || !same_shape(problem, t0, t1, layer.direction))) {
      if (b > 0) group.barrier->wait();
      rows = share_rows(problem, t0, t1, group.rank, group.size);
    }
    if (layer.bring.data != nullptr) {  // by rows each needs its own; by units all need all
      const bool together = by_unit && !alone;
      ElementOf<Cell>* const own = layer.brought + (by_unit ? 0 : group.rank * largest_block(problem) * layer.ld_x());
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
        project_hidden(layer, t, rows, columns);
      }
      goes_on = in_step();
    }
    if (goes_on && layer.send.data != nullptr) {
      const bool together = by_unit && !alone;
      send_steps<Real>(layer.output + first_row * out, layer.send, problem, out, t0, t1,
                       together ? share_rows(problem, t0, t1, group.rank, group.size) : rows);
    }
    if (goes_on && layer.checkpoints != nullptr) {
      const Index checkpoint = checkpoint_after(problem, layer.direction, block);
      if (checkpoint >= 0) keep_states(layer, layer.direction == 0 ? t1 - 1 : t0, checkpoint, rows, blocks, columns);
    }
  }
  if (layer.keep_gates == Step<Cell>::Keep::streamed) stream_end();
  group.barrier->wait();
  if (group.rank == 0) peers.forget();
}

// All steps, and the last states.
template <class Cell>
void forward_direction(const LayerForward<Cell>& unprepared, const Group& group) {
  const LayerForward<Cell> layer = prepare_forward(unprepared, group);
  forward_blocks(layer, {0, layer.problem->blocks()}, group);
  final_state(layer, share(layer.problem->N, group.rank, group.size));
}

}  // namespace fastlstm::FASTLSTM_ISA
