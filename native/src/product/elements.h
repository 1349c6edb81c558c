// Arrays whose elements may be of 16 bits: who reads or writes one here, widens or rounds as it goes.
#pragma once
#include <cstring>
#include <type_traits>

#include "fastlstm/engine.h"
#include "isa/columns.h"

namespace fastlstm::FASTLSTM_ISA {

// use(pointer to the elements that an array has)
template <class Real, class Use>
inline __attribute__((always_inline)) auto visit(const Source<Real>& array, const Use& use) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (array.element == Element::bfloat16) return use(static_cast<const BFloat16*>(array.data));
    if (array.element == Element::float16) return use(static_cast<const Float16*>(array.data));
  }
  return use(static_cast<const Real*>(array.data));
}
template <class Real, class Use>
inline __attribute__((always_inline)) auto visit(const Target<Real>& array, const Use& use) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (array.element == Element::bfloat16) return use(static_cast<BFloat16*>(array.data));
    if (array.element == Element::float16) return use(static_cast<Float16*>(array.data));
  }
  return use(static_cast<Real*>(array.data));
}

// The same array from element `first` on.
template <class Array>
inline Array rows_from(const Array& array, Index first) {
  Array rest = array;
  visit(array, [&](auto* elements) { rest.data = elements + first; });
  return rest;
}

template <class Bits16>
inline void widen(const Bits16* from, float* to, Index count) {
  for (Index k = 0; k < count; k += kLanes<float>) store_columns(to + k, load_columns(from + k, count - k), count - k);
}
template <class Bits16>
inline void round_to_16(const float* from, Bits16* to, Index count) {
  for (Index k = 0; k < count; k += kLanes<float>) store_columns(to + k, load_columns(from + k, count - k), count - k);
}

inline void convert(const float* from, float* to, Index count) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
}
inline void convert(const double* from, double* to, Index count) {
  std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(double));
}
template <class Bits16>
inline void convert(const Bits16* from, float* to, Index count) {
  widen(from, to, count);
}
template <class Bits16>
inline void convert(const float* from, Bits16* to, Index count) {
  round_to_16(from, to, count);
}

template <class From, class To>
  requires(sizeof(From) == 2 && sizeof(To) == 2)
inline void convert(const From* from, To* to, Index count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(From));
  } else {
    for (Index k = 0; k < count; k += kLanes<float>) store_columns(to + k, load_columns(from + k, count - k), count - k);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
