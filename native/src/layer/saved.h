// What forward keeps for backward, and where.
#pragma once
#include "batch/rows.h"
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

// What forward keeps for backward: for every layer and direction its gates and cells, and the output of every layer but the last:
// that is the caller's, who may change it. h_t is had again from o and c (hidden.h); projected, that would take a product, so
// that then the last layer's output is kept, too. In place of gates and cells the checkpoints, where the problem has such
// (recompute.h): the states between two spans.
template <class Cell>
struct Saved {
  using Real = RealOf<Cell>;
  const Problem& problem;
  Real* base;

  Index Hp() const { return unit_blocks<Real>(problem.H) * kLanes<Real>; }
  Index per_direction() const {
    if (problem.checkpoints()) return (problem.spans() - 1) * checkpoint_size(problem, Hp());
    return problem.rows() * (Cell::kSums + 1) * Hp();
  }
  Index per_output() const { return problem.rows() * problem.D * problem.out(); }
  bool has_output(Index layer) const { return problem.P > 0 || layer + 1 < problem.layers; }
  Index size() const {
    return problem.layers * problem.D * per_direction() + (problem.layers - (problem.P > 0 ? 0 : 1)) * per_output();
  }
  Real* gates(Index layer, Index direction) const { return base + (layer * problem.D + direction) * per_direction(); }
  Real* c(Index layer, Index direction) const { return gates(layer, direction) + problem.rows() * Cell::kSums * Hp(); }
  Real* checkpoints(Index layer, Index direction) const { return gates(layer, direction); }
  Real* output(Index layer) const { return base + problem.layers * problem.D * per_direction() + layer * per_output(); }
};

template <class Cell>
Index saved_size(const Problem& problem) {
  return Saved<Cell>{problem, nullptr}.size();
}

}  // namespace fastlstm::FASTLSTM_ISA
