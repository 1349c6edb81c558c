// Gates, and where a gate buffer keeps them: its panels are [panel][row][kPanel], in gate order.
#pragma once
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Real>
struct Gates {
  Vec<Real> i, f, g, o;
};

// The four gates of a row in a gate buffer, whose panels are [panel][row][kPanel]: `at` is the row in the block's first panel.
template <class Real>
inline Gates<Real> load_gates(const Real* at, Index panel_stride) {
  constexpr Index lanes = kLanes<Real>;
  const Real* const second = kBlockPanels == 1 ? at + 2 * lanes : at + panel_stride;
  return {load(at), load(at + lanes), load(second), load(second + lanes)};
}
template <class Element, class Real, class Put>
inline __attribute__((always_inline)) void put_gates(Element* at, Index panel_stride, const Gates<Real>& gates, const Put& put) {
  constexpr Index lanes = kLanes<Real>;
  Element* const second = kBlockPanels == 1 ? at + 2 * lanes : at + panel_stride;
  put(at, gates.i);
  put(at + lanes, gates.f);
  put(second, gates.g);
  put(second + lanes, gates.o);
}
template <class Real>
inline void store_gates(Real* at, Index panel_stride, const Gates<Real>& gates) {
  put_gates(at, panel_stride, gates, [](Real* to, Vec<Real> a) { store(to, a); });
}
template <class Real>
inline void stream_gates(Real* at, Index panel_stride, const Gates<Real>& gates) {
  put_gates(at, panel_stride, gates, [](Real* to, Vec<Real> a) { stream(to, a); });
}

// Asks for the gates of a row and a block of units, to come into L2.
template <class Real>
inline __attribute__((always_inline)) void fetch_gates(const Real* at, Index panel_stride) {
  constexpr Index line = 64 / static_cast<Index>(sizeof(Real));
#pragma GCC unroll 2
  for (Index half = 0; half < kBlockPanels; ++half)
#pragma GCC unroll 8
    for (Index k = 0; k < kPanel<Real>; k += line) __builtin_prefetch(at + half * panel_stride + k, 0, 2);
}

}  // namespace fastlstm::FASTLSTM_ISA
