// What the layers of a call ask, forward (forward_layers.h) and backward (backward_layers.h).
#pragma once
#include "batch/share.h"
#include "plan/machine.h"
#include "platform/processor.h"
#include "product/matrix_tiles.h"
#include "team/team.h"

namespace fastlstm::FASTLSTM_ISA {

// What goes on in float32: c_0, or h_0 where there is no other state.
template <class Cell>
inline const Source<RealOf<Cell>>& initial_state(const Inputs<RealOf<Cell>>& inputs) {
  return Cell::kStates > 1 ? inputs.c_0 : inputs.h_0;
}

template <class Real>
inline Source<Real> mask_of(const Inputs<Real>& inputs, Index layer) {
  return inputs.masks == nullptr ? Source<Real>{} : inputs.masks[layer];
}

template <class Real>
inline bool any_mask(const Problem& problem, const Inputs<Real>& inputs) {
  for (Index layer = 0; layer + 1 < problem.layers; ++layer)
    if (mask_of(inputs, layer) != nullptr) return true;
  return false;
}

// y = x * mask over a thread's share; y may be x.
template <class Real, class Element>
inline void apply_mask(const Element* x, const Source<Real>& factors, Element* y, Index count, const Member& member) {
  const Range mine = share(count, member.rank, member.size);
  visit(factors, [&](const auto* mask) {
    for (Index k = mine.first; k < mine.last; k += kLanes<Real>) {
      const Index rest = mine.last - k;
      store_columns(y + k, load_columns(x + k, rest) * load_columns(mask + k, rest), rest);
    }
  });
}

template <class Cell>
inline Machine machine() {
  return {sizeof(ElementOf<Cell>),
          static_cast<double>(kNumbers<Cell>),
          kTiled<Cell>,
          l2_bytes(),
          kLanes<RealOf<Cell>>,
          Cell::Input::kGates,
          Cell::kSums,
          Cell::kStates};
}

}  // namespace fastlstm::FASTLSTM_ISA
