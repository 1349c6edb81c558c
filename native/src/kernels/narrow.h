// 16-bit arrays at the ends of a call: who reads or writes one here, widens or rounds as it goes. Included inside an ISA's
// namespace.

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

// Room for an array's numbers as Real, where they are not.
template <class Real, class Array>
inline Real* take_wide(Arena& arena, const Array& array, Index count) {
  return array == nullptr || array.element == Element::real ? nullptr : arena.take<Real>(count);
}

// The numbers of an array: where they are or, a member's share of them widened, in `wide`, complete after a barrier.
template <class Real>
inline const Real* widened(const Source<Real>& array, Real* wide, Index count, const Member& member) {
  if (wide == nullptr) return static_cast<const Real*>(array.data);
  if constexpr (sizeof(Real) == sizeof(float)) {
    const Range mine = share(count, member.rank, member.size);
    visit(array, [&](const auto* from) { widen(from + mine.first, wide + mine.first, mine.last - mine.first); });
  }
  return wide;
}

// Where an array's numbers are written first, and then, after a barrier, a member's share of them rounded.
template <class Real>
inline Real* unrounded(const Target<Real>& array, Real* wide) {
  return wide == nullptr ? static_cast<Real*>(array.data) : wide;
}
template <class Real>
inline void round_share(const Real* wide, const Target<Real>& array, Index count, const Member& member) {
  if (wide == nullptr || array == nullptr) return;
  if constexpr (sizeof(Real) == sizeof(float)) {
    const Range mine = share(count, member.rank, member.size);
    visit(array, [&](auto* to) { narrow(wide + mine.first, to + mine.first, mine.last - mine.first); });
  }
}
