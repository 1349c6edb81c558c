// The input projection of a whole block of steps, ahead of the recurrence.
#pragma once
#include "batch/rows.h"
#include "layer/forward_arrays.h"
#include "layer/forward_tiles.h"
#include "layer/group.h"
#include "product/pairs.h"

namespace fastlstm::FASTLSTM_ISA {

// The input projection b + W x of rows [rows) of a block of steps, into its gate buffer.
template <class Cell>
void project_rows(const LayerForward<Cell>& layer, Index first_row, Index block_rows, RealOf<Cell>* gates, Range rows,
                  Range blocks) {
  if (rows.first >= rows.last) return;
  if constexpr (kTiled<Cell>) {
    if (layer.plan.tiled) {
      project_tiles(layer, first_row, block_rows, gates, rows.first, rows.last - rows.first, nullptr, blocks);
      return;
    }
  }
  Step<Cell> step{};
  step.panels = layer.panels;
  step.bias = layer.bias;
  step.K = layer.K();
  const Index in = terms<Cell>(layer.in);
  step.segments[0] = {as_terms<TermOf<Cell>>(layer.x) + (first_row + rows.first) * in, in, 0, in, false};
  step.segment_count = 1;
  step.to_buffer = true;
  step.gates = gates + rows.first * kRowOfGates<Cell>;
  step.gates_panel_stride = block_rows * kRowOfGates<Cell>;
  step.run_cut(rows.last - rows.first, blocks, true);
}

// Each of a member's panels of the input's weights packed when its turn comes.
template <class Cell>
void pack_and_project(const LayerForward<Cell>& layer, Index first_row, Index rows, RealOf<Cell>* gates, Range blocks) {
  using Real = RealOf<Cell>;
  LayerForward<Cell> here = layer;
  here.panels = layer.panels_of(blocks.first);
  for (Index u = blocks.first; u < blocks.last; ++u) {
    pack_gates<typename Cell::Input>(layer.weights.w_ih, layer.problem->H, layer.in, here.panels, 0, layer.K(), u, u + 1);
    here.bias = layer.bias + u * Cell::kSums * kLanes<Real>;
    project_rows(here, first_row, rows, gates + u * kPanelsOfGates<Cell> * rows * kRowOfGates<Cell>, {0, rows}, {0, 1});
  }
}

// The input projection of a block of steps: of a member's units, or, for all units, of its rows.
template <class Cell>
void project_block(const LayerForward<Cell>& layer, Index t0, Index t1, RealOf<Cell>* gates, Range rows, Range blocks,
                   const Group& group, bool together) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Range all{0, problem.row(t1) - first_row};
  if constexpr (kTiled<Cell>) {
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

}  // namespace fastlstm::FASTLSTM_ISA
