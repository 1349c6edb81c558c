// What forward saved, read out: every layer's cells and gates at every step, and the hidden states in between.
#pragma once
#include <type_traits>

#include "cell/gate_buffer.h"
#include "isa/kernels.h"
#include "layer/saved.h"
#include "layer/transfer.h"

namespace fastlstm::FASTLSTM_ISA {

// Row k of an array of steps; nullptr: not wanted, or its rows stand nowhere.
template <class Element, class Real>
inline Element* row_of(const Target<Real>& array, Index k, Index width) {
  if (array == nullptr || (array.rows != nullptr && array.rows[k] < 0)) return nullptr;
  return static_cast<Element*>(array.data) + (array.rows == nullptr ? k : array.rows[k]) * width;
}

template <class Cell>
void read_steps(const Problem& problem, const Saved<Cell>& saved, Index layer, Index direction, const Target<RealOf<Cell>>* to,
                Range rows) {
  using Real = RealOf<Cell>;
  const Index H = problem.H;
  const Index Hp = saved.Hp();
  visit(*to, [&](auto* data) {
    using Element = std::remove_pointer_t<decltype(data)>;
    for (Index b = 0; b < problem.blocks(); ++b) {
      const Index first = problem.row(problem.block(b));
      const Index end = problem.row(problem.block(b + 1));
      const Index stride = (end - first) * kRowOfGates<Cell>;
      const Real* const gates = saved.gates(layer, direction) + first * Cell::kSums * Hp;
      for (Index k = first > rows.first ? first : rows.first; k < end && k < rows.last; ++k) {
        Element* c = nullptr;
        Element* gate_rows[Cell::kSums] = {};
        for (Index step = 0; step < kStepArrays<Cell>; ++step)
          (Cell::kSteps[step] == kStateStep ? c : gate_rows[Cell::kSteps[step]]) = row_of<Element>(to[step], k, H);
        const Real* const kept_c = saved.c(layer, direction) + k * Hp;
        for (Index unit = 0; unit < H; unit += kLanes<Real>) {
          const Index u = unit / kLanes<Real>;
          const Real* const at = gates + u * kPanelsOfGates<Cell> * stride + (k - first) * kRowOfGates<Cell>;
          const Index columns = H - unit;
          if (c != nullptr) store_columns(c + unit, load(kept_c + unit), columns);
          const typename Cell::Gates kept = load_gates<Cell>(at, stride);
          Cell::each(kept, [&](Index sum, const auto& gate) {
            if (gate_rows[sum] != nullptr) store_columns(gate_rows[sum] + unit, gate, columns);
          });
        }
      }
    }
  });
}

template <class Cell>
void trace_layers(const TraceCall<RealOf<Cell>>& call, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Saved<Cell> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const CallShapes shapes(problem);
  for (Index k = 0; k < problem.layers; ++k) {
    for (Index d = 0; d < problem.D; ++d)
      read_steps(problem, saved, k, d, call.steps + (k * problem.D + d) * kStepArrays<Cell>,
                 share(problem.rows(), member.rank, member.size));
    if (k + 1 < problem.layers) send_share<Real>(saved.output(k), call.hidden[k], shapes.output, member);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
