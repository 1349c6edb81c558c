// Where a gate buffer keeps the sums of a unit, or what becomes of them: its panels are [panel][row][kPanel], in gate order. A
// cell's own names for them are in its Gates.
#pragma once
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

// Of a cell's kSteps: the state, not a sum.
inline constexpr Index kStateStep = -1;
template <class Cell>
inline constexpr Index kStepArrays = static_cast<Index>(sizeof Cell::kSteps / sizeof *Cell::kSteps);

// Vector `sum` of a row and a block of units; `at` is the row in the block's first panel.
template <class Cell, class Element>
inline __attribute__((always_inline)) Element* gate_at(Element* at, Index panel_stride, Index sum) {
  return at + sum / kVectors * panel_stride + sum % kVectors * kLanes<RealOf<Cell>>;
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
  for (Index panel = 0; panel < kBlockPanels<typename Cell::Input>; ++panel)
#pragma GCC unroll 8
    for (Index k = 0; k < kPanel<RealOf<Cell>>; k += line) __builtin_prefetch(at + panel * panel_stride + k, 0, 2);
}

}  // namespace fastlstm::FASTLSTM_ISA
