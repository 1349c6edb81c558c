// The hidden states that the gradients of w_hh read: h_{t-1} of every row of a block. Without a projection they are computed
// again from o and c, of the same bits, as the caller's output may have been changed since; or are the state that forward kept.
#pragma once
#include "cell/gate_buffer.h"
#include "layer/backward_arrays.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Real>
struct HiddenRows {
  const Real* at;  // nullptr: zeros
  Index ld;
};

// Feature j of h_{t-1} of a run's rows, once its block, of `rows` rows, is complete.
template <class Cell>
inline HiddenRows<RealOf<Cell>> hidden_of(const LayerBackward<Cell>& layer, const Run& run, Index first_row, Index rows,
                                          Index j) {
  const Problem& problem = *layer.problem;
  const Index out = problem.out();
  if (run.previous < 0) return {layer.h_0 == nullptr ? nullptr : layer.h_0 + run.first * out + j, out};
  if (problem.P > 0) return {layer.output + run.previous * problem.D * out + j, problem.D * out};
  if constexpr (Cell::kStates == 1) return {layer.c + run.previous * layer.Hp() + j, layer.Hp()};
  const bool in_block = run.previous >= first_row && run.previous < first_row + rows;
  return {layer.h + (in_block ? run.previous - first_row : rows + run.first) * layer.Hp() + j, layer.Hp()};
}

// Whether h of step t is read in its block: that of the block's last step is the business of the block after.
template <class Cell>
inline bool hidden_read_in(const LayerBackward<Cell>& layer, Index t, const BlockRows& block) {
  const Problem& problem = *layer.problem;
  if (layer.h == nullptr || layer.dweights.w_hh == nullptr) return false;
  return layer.direction == 0 ? problem.row(t + 1) < block.first + block.count : problem.row(t) > block.first;
}

// h_{t-1} of the block's first step t, for the rows and blocks of units given: it stands in the block `before` or, where that is
// another span's, in a checkpoint.
template <class Cell>
void hidden_before(const LayerBackward<Cell>& layer, Index t, const Range& rows, const Range& blocks, const BlockRows& here,
                   const BlockRows& before, bool of_checkpoint) {
  using Real = RealOf<Cell>;
  if (layer.h == nullptr || layer.dweights.w_hh == nullptr) return;
  Run runs[2];
  const int count = step_runs(*layer.problem, layer.direction, t, rows, runs);
  if (count == 0 || runs[0].previous < 0) return;
  const Run& run = runs[0];
  const Index Hp = layer.Hp();
  if (of_checkpoint) {
    for (Index n = run.first; n < run.last; ++n)
      for (Index unit = blocks.first * kLanes<Real>; unit < blocks.last * kLanes<Real>; unit += kLanes<Real>)
        store(layer.h + (here.count + n) * Hp + unit,
              load_columns(layer.h_before + n * layer.problem->H + unit, layer.problem->H - unit));
    return;
  }
  const Index stride = before.count * kRowOfGates<Cell>;
  const Real* const gates = layer.gates + before.first * Cell::kSums * Hp + (run.previous - before.first) * kRowOfGates<Cell>;
  const Real* const c = layer.c + run.previous * Hp;
  Real* const h = layer.h + (here.count + run.first) * Hp;
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index r = 0; r < run.last - run.first; ++r) {
      const typename Cell::Gates kept =
          load_gates<Cell>(gates + u * kPanelsOfGates<Cell> * stride + r * kRowOfGates<Cell>, stride);
      const Index at = r * Hp + u * kLanes<Real>;
      store(h + at, Cell::output(Cell::shown(kept), load(c + at)).h);
    }
}

}  // namespace fastlstm::FASTLSTM_ISA
