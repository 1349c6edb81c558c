// 16-bit arrays: who reads or writes one here, widens or rounds as it goes. Included inside an ISA's namespace.

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

template <class Narrow>
inline void widen(const Narrow* from, float* to, Index count) {
  for (Index k = 0; k < count; k += kLanes<float>) store_columns(to + k, load_columns(from + k, count - k), count - k);
}
template <class Narrow>
inline void narrow(const float* from, Narrow* to, Index count) {
  for (Index k = 0; k < count; k += kLanes<float>) store_columns(to + k, load_columns(from + k, count - k), count - k);
}
