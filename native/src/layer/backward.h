// One layer and direction, backward, a block of steps at a time: the gate gradients of a block, then, while they are hot, what
// they give to dx and the weights (weight_gradients.h).
#pragma once
#include "layer/gate_gradients.h"
#include "layer/recompute.h"
#include "layer/weight_gradients.h"
#include "team/peer_watch.h"

namespace fastlstm::FASTLSTM_ISA {

// What a member takes of every step: rows, blocks of units, panels of out (where the plan is by unit, those of the same units).
struct Part {
  Range rows;
  Range blocks;
  Range columns;
};

// One step of a member's part. in_step() waits for the others to have finished theirs, and may change the part: false ends the
// step.
template <class Cell, class InStep>
void backward_step(const LayerBackward<Cell>& layer, Index t, const Part& part, const InStep& in_step, const BlockRows& block,
                   const BlockRows& next, bool last_step) {
  using Real = RealOf<Cell>;
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
  RealOf<Cell>* const h = hidden_read_in(layer, t, block) ? layer.h : nullptr;
  for (int k = 0; k < count; ++k) gate_gradients(layer, runs[k], blocks, block, next, h);
  if constexpr (kTiled<Cell>) {
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
  const Product<TermOf<Cell>> recurrence{gate_rows<typename Cell::Hidden>(layer, row0, block.count),
                                         layer.hh_panels,
                                         layer.dh + here.first * layer.out_padded(),
                                         layer.out_padded(),
                                         rounded_up(problem.out(), kLanes<Real>),
                                         false};
  recurrence.run(here.last - here.first, columns.first, columns.last);
}

// A member's share of the weights, packed.
template <class Cell>
void pack_backward(const LayerBackward<Cell>& layer, const Group& group) {
  const Index H = layer.problem->H;
  const Index out = layer.problem->out();
  const auto panels = [&](Index columns) {
    return share((columns + kPanel<TermOf<Cell>> - 1) / kPanel<TermOf<Cell>>, group.rank, group.size);
  };
  const Range hh = panels(out);
  pack_gate_rows<typename Cell::Hidden>(layer.weights.w_hh, H, out, layer.hh_panels, hh.first, hh.last);
  if (layer.dx != nullptr) {
    const Range ih = panels(layer.in);
    pack_gate_rows<typename Cell::Input>(layer.weights.w_ih, H, layer.in, layer.ih_panels, ih.first, ih.last);
  }
}

// Packed weights, and the states' gradients that come from h_n and c_n: a thread's share.
template <class Cell>
void prepare_backward(const LayerBackward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index out = problem.out();
  const auto panels = [&](Index columns) { return share((columns + kPanel<Real> - 1) / kPanel<Real>, group.rank, group.size); };
  if constexpr (kTiled<Cell>) {
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

// The steps of the blocks [span), last to first, of the rows `of` the batch, by the members of a group together.
template <class Cell>
void backward_blocks(LayerBackward<Cell> layer, Range span, Range of, const Group& group) {
  using Real = RealOf<Cell>;
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
  PeerWatch peers(*group.barrier);
  bool alone = false;
  const auto in_step = [&] {
    if (!by_unit || alone || !peers.wait()) return true;
    alone = true;
    if (group.rank > 0) return false;
    part = {{0, problem.N}, {0, unit_groups}, {0, out_panels}};
    return true;
  };
  for (Index b = 0; b < span.last - span.first; ++b) {
    const Index block = layer.direction == 0 ? span.last - 1 - b : span.first + b;
    const bool is_last_of_span = b + 1 == span.last - span.first;
    const bool add = block != (layer.direction == 0 ? problem.blocks() - 1 : 0);
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
    if (!alone || group.rank == 0)
      hidden_before(layer, layer.direction == 0 ? t0 : t1 - 1, part.rows, part.blocks, here, next,
                    is_last_of_span && layer.h_before != nullptr);
    group.barrier->wait();
    block_gradients(layer, t0, t1, group, of, add);
    layer.dx = dx;
    group.barrier->wait();
  }
  if (group.rank == 0) peers.forget();
}

// Half of a team has each half of the batch, where the plan parts it. Else all have all rows, in full tiles, and only the
// sums are two (block_gradients).
template <class Cell>
void backward_span(const LayerBackward<Cell>& layer, Range span, const Group& group) {
  if (!layer.plan.parted) {
    backward_blocks(layer, span, {0, layer.problem->N}, group);
    return;
  }
  const int half = group.rank % 2;
  const Group members{group.rank / 2, group.size / 2, group.half_teams + half, nullptr};
  backward_blocks(half_layer(layer, half), span, half_of(*layer.problem, half), members);
  group.barrier->wait();
}

// The sums of both halves, in the first one's place.
template <class Cell>
void add_halves(const LayerBackward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
  // The units that a member writes to the caller's arrays.
  const Range units = share(unit_blocks<Real>(layer.problem->H), group.rank, group.size);
  const Index ld = layer.gate_columns();
  const auto add = [&](bool wanted, Index first, Index count, Index first_sum, Index sums) {
    for (Index feature = first; wanted && feature < first + count; ++feature)
      for (Index u = units.first; u < units.last; ++u)
        for (Index sum = first_sum; sum < first_sum + sums; ++sum) {
          const Index k = feature * ld + (u * Cell::kSums + sum) * kLanes<Real>;
          store(layer.dsums + k, load(layer.dsums + k) + load(layer.second.dsums + k));
        }
  };
  using Input = typename Cell::Input;
  using Hidden = typename Cell::Hidden;
  add(layer.dweights.w_ih != nullptr, 0, layer.in, Input::kFirst, Input::kSpan);
  add(layer.dweights.w_hh != nullptr, layer.in, layer.problem->out(), Hidden::kFirst, Hidden::kSpan);
  add(layer.wants_bias(), layer.in + layer.problem->out(), 1, 0, Cell::kSums);
}

// A direction of a layer, by the members of a group together.
template <class Cell>
void backward_direction(LayerBackward<Cell> layer, const Group& group) {
  prepare_backward(layer, group);
  if (layer.problem->checkpoints()) layer.recomputed.layer = prepare_forward(layer.recomputed.layer, group);
  group.barrier->wait();
  if constexpr (kTiled<Cell>) {
    if (layer.plan.tiled && !tiles_hold_all(layer, group)) {
      layer.plan.tiled = layer.plan.tiled_steps = false;
      pack_backward(layer, group);
      group.barrier->wait();
    }
  }
  const Problem& problem = *layer.problem;
  for (Index s = 0; s < problem.spans(); ++s) {
    const Index k = layer.direction == 0 ? problem.spans() - 1 - s : s;
    if (problem.checkpoints()) recompute(layer, k, group);
    backward_span(layer, {problem.span(k), problem.span(k + 1)}, group);
  }
  if (layer.plan.halves) add_halves(layer, group);
  write_gradients(layer, group);
}

}  // namespace fastlstm::FASTLSTM_ISA
