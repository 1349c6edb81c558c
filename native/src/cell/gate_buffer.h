// Where a gate buffer keeps the sums of a unit, or what becomes of them: its panels are [panel][row][kRowOfGates], in gate order.
// A cell's own names for them are in its Gates.
#pragma once
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

// Of a cell's kSteps: the state, not a sum.
inline constexpr Index kStateStep = -1;
template <class Cell>
inline constexpr Index kStepArrays = static_cast<Index>(sizeof Cell::kSteps / sizeof *Cell::kSteps);

// Whether products are of some sums of a unit alone: those of x are others than those of h.
template <class Cell>
inline constexpr bool kSomeSums = Cell::Input::kSpan < Cell::kSums || Cell::Hidden::kSpan < Cell::kSums;
// The panels of a block of units: kVectors sums in each; or all in one, where a product's are any neighbours among them.
template <class Cell>
inline constexpr Index kSumsInPanel = kSomeSums<Cell> ? Cell::kSums : kVectors;
template <class Cell>
inline constexpr Index kPanelsOfGates = Cell::kSums / kSumsInPanel<Cell>;
// A row of a panel.
template <class Cell>
inline constexpr Index kRowOfGates = kSumsInPanel<Cell> * kLanes<RealOf<Cell>>;

// Vector `sum` of a row and a block of units; `at` is the row in the block's first panel.
template <class Cell, class Element>
inline __attribute__((always_inline)) Element* gate_at(Element* at, Index panel_stride, Index sum) {
  return at + sum / kSumsInPanel<Cell> * panel_stride + sum % kSumsInPanel<Cell> * kLanes<RealOf<Cell>>;
}

template <class Cell>
inline __attribute__((always_inline)) typename Cell::Gates load_gates(const RealOf<Cell>* at, Index panel_stride) {
  typename Cell::Gates gates;
  Cell::each(gates, [&](Index sum, auto& gate) { gate = load(gate_at<Cell>(at, panel_stride, sum)); });
  return gates;
}
// put(to, a) for each
template <class Cell, class Element, class Put>
inline __attribute__((always_inline)) void put_gates(Element* at, Index panel_stride, const typename Cell::Gates& gates,
                                                     const Put& put) {
  Cell::each(gates, [&](Index sum, const auto& gate) { put(gate_at<Cell>(at, panel_stride, sum), gate); });
}
template <class Cell>
inline __attribute__((always_inline)) void store_gates(RealOf<Cell>* at, Index panel_stride, const typename Cell::Gates& gates) {
  put_gates<Cell>(at, panel_stride, gates, [](auto* to, const auto& a) { store(to, a); });
}
template <class Cell>
inline __attribute__((always_inline)) void stream_gates(RealOf<Cell>* at, Index panel_stride, const typename Cell::Gates& gates) {
  put_gates<Cell>(at, panel_stride, gates, [](auto* to, const auto& a) { stream(to, a); });
}

// Asks for the gates of a row and a block of units, to come into L2.
template <class Cell>
inline __attribute__((always_inline)) void fetch_gates(const RealOf<Cell>* at, Index panel_stride) {
  constexpr Index line = 64 / static_cast<Index>(sizeof(RealOf<Cell>));
#pragma GCC unroll 2
  for (Index panel = 0; panel < kPanelsOfGates<Cell>; ++panel)
#pragma GCC unroll 8
    for (Index k = 0; k < kRowOfGates<Cell>; k += line) __builtin_prefetch(at + panel * panel_stride + k, 0, 2);
}

}  // namespace fastlstm::FASTLSTM_ISA
