// What a sum of products adds up: numbers, or pairs of them.
#pragma once
#include "batch/index.h"
#include "fastlstm/engine.h"

namespace fastlstm::FASTLSTM_ISA {

// Two neighbouring terms of a sum, which some processors multiply and add at once: see FASTLSTM_PAIRS. Where a sum has an odd
// number of them, a zero follows.
struct Pair {
  BFloat16 first;
  BFloat16 second;
};

template <class Term>
struct TermTraits {
  using Real = Term;     // what sums are
  using Element = Term;  // what a term consists of
  static constexpr Index numbers = 1;
};
template <>
struct TermTraits<Pair> {
  using Real = float;
  using Element = BFloat16;
  static constexpr Index numbers = 2;
};
// Of a cell (cell/lstm.h): of its terms.
template <class Cell>
  requires requires { typename Cell::Term; }
struct TermTraits<Cell> : TermTraits<typename Cell::Term> {};

template <class Term>
using RealOf = typename TermTraits<Term>::Real;
template <class Term>
using ElementOf = typename TermTraits<Term>::Element;
template <class Term>
inline constexpr Index kNumbers = TermTraits<Term>::numbers;

template <class Cell>
using TermOf = typename Cell::Term;

// How many terms so many numbers are.
template <class Term>
inline Index terms(Index numbers) {
  return (numbers + kNumbers<Term> - 1) / kNumbers<Term>;
}
// How many elements a row of so many numbers takes where it is read as terms.
template <class Term>
inline Index padded(Index numbers) {
  return terms<Term>(numbers) * kNumbers<Term>;
}
// Elements, of which a row is an even number, as terms.
template <class Term>
inline const Term* as_terms(const ElementOf<Term>* elements) {
  return reinterpret_cast<const Term*>(elements);
}

}  // namespace fastlstm::FASTLSTM_ISA
