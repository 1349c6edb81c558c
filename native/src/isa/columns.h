// Vectors of which only the first columns are there, and what a vector holds.
#pragma once
#include "batch/index.h"
#include "isa/terms.h"
#include "isa/vec.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Real>
inline constexpr int kLanes = Vec<Real>::lanes;

template <class Element>  // float, double, or 16 bits
inline auto load_columns(const Element* p, Index columns) {
  return columns >= decltype(load(p))::lanes ? load(p) : load_first(p, static_cast<int>(columns > 0 ? columns : 0));
}
template <class Element, class Real>
inline void store_columns(Element* p, Vec<Real> a, Index columns) {
  if (columns >= kLanes<Real>) {
    store(p, a);
  } else if (columns > 0) {
    store_first(p, a, static_cast<int>(columns));
  }
}

// Numbers as elements of terms: as they are. Pairs have their own (isa/avx512_bf16.h).
template <class Real>
inline void store_elements(Real* p, Vec<Real> a, Index columns) {
  store_columns(p, a, columns);
}

}  // namespace fastlstm::FASTLSTM_ISA
