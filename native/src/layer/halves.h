// A batch in two halves of its rows, backward: each has gate gradients, features and sums of the weights' gradients of its own,
// which are added up at the end (plan/backward.cpp says why).
#pragma once
#include "layer/backward_arrays.h"

namespace fastlstm::FASTLSTM_ISA {

inline bool is_whole(const Problem& problem, const Range& of) { return of.first == 0 && of.last == problem.N; }

// A member's own of the rows `of` the batch, in the steps [t0, t1): of all, so that each has as much to do in these.
inline Range own_rows(const Problem& problem, Index t0, Index t1, const Range& of, const Group& group) {
  if (is_whole(problem, of)) return share_rows(problem, t0, t1, group.rank, group.size);
  const Range mine = share(of.last - of.first, group.rank, group.size);
  return {of.first + mine.first, of.first + mine.last};
}

inline Range half_of(const Problem& problem, int half) { return share_rows(problem, 0, problem.T, half, 2); }

// The layer as a half of the batch has it.
template <class Cell>
LayerBackward<Cell> half_layer(LayerBackward<Cell> layer, int half) {
  if (half == 1) {
    layer.dgates = layer.second.dgates;
    layer.features = layer.second.features;
    layer.dsums = layer.second.dsums;
    layer.h = layer.second.h;
    layer.brought_x = layer.second.brought_x;
    layer.brought_doutput = layer.second.brought_doutput;
    if (layer.send_dx.data != nullptr) layer.dx = layer.second.dx;
  }
  return layer;
}

}  // namespace fastlstm::FASTLSTM_ISA
