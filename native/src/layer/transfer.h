// The arrays at the ends of a call: brought here where their numbers are not Reals, or their rows stand elsewhere, and sent back
// there.
#pragma once
#include "batch/rows.h"
#include "memory/arena.h"
#include "product/elements.h"
#include "team/team.h"

namespace fastlstm::FASTLSTM_ISA {

struct Shape {
  Index rows;
  Index width;
  Index count() const { return rows * width; }
};

struct CallShapes {
  Shape x;
  Shape output;
  Shape h;
  Shape c;
  Shape steps;

  explicit CallShapes(const Problem& problem)
      : x{problem.rows(), problem.I},
        output{problem.rows(), problem.D * problem.out()},
        h{problem.layers * problem.D * problem.N, problem.out()},
        c{problem.layers * problem.D * problem.N, problem.H},
        steps{problem.rows(), problem.H} {}
};

// An array's row k, brought here or sent there; the row that comes four later is fetched meanwhile, as rows stand anywhere
// (copying 1.1 MB from L3: 1.3x).
template <class Element>
inline void fetch_ahead(const Element* array, const Index* rows, Index k, const Shape& shape) {
  constexpr Index kAhead = 4;
  if (k + kAhead >= shape.rows || rows[k + kAhead] < 0) return;
  const auto* const row = reinterpret_cast<const char*>(array + rows[k + kAhead] * shape.width);
  const Index bytes = shape.width * static_cast<Index>(sizeof(Element));
  for (Index at = 0; at < bytes; at += 64) __builtin_prefetch(row + at);
}
// Where its own width is larger, zeros follow.
template <class Element, class Own>
inline void bring_row(const Element* from, const Index* rows, Index k, const Shape& shape, Own* to, Index own_width) {
  if (rows != nullptr) fetch_ahead(from, rows, k, shape);
  const Index row = rows == nullptr ? k : rows[k];
  if (row >= 0) convert(from + row * shape.width, to, shape.width);
  for (Index j = row < 0 ? 0 : shape.width; j < own_width; ++j) to[j] = Own{};
}
template <class Element, class Own>
inline void send_row(const Own* own, const Index* rows, Index k, const Shape& shape, Element* to) {
  fetch_ahead(to, rows, k, shape);
  if (rows[k] >= 0) convert(own + k * shape.width, to + rows[k] * shape.width, shape.width);
}

// The rows [rows) of the steps [t0, t1); `own` begins with step t0, its rows `ld` apart.
template <class Real, class Own>
inline void bring_steps(const Source<Real>& array, Own* own, Index ld, const Problem& problem, Index width, Index t0, Index t1,
                        const Range& rows) {
  const Shape shape{problem.rows(), width};
  visit(array, [&](const auto* from) {
    for_steps(problem, t0, t1, rows,
              [&](Index k) { bring_row(from, array.rows, k, shape, own + (k - problem.row(t0)) * ld, ld); });
  });
}
template <class Real, class Own>
inline void send_steps(const Own* own, const Target<Real>& array, const Problem& problem, Index width, Index t0, Index t1,
                       const Range& rows) {
  const Shape shape{problem.rows(), width};
  const Own* const base = own - problem.row(t0) * width;
  visit(array, [&](auto* to) { for_steps(problem, t0, t1, rows, [&](Index k) { send_row(base, array.rows, k, shape, to); }); });
}

template <class Array>
inline bool as_it_is(const Array& array) {
  return array.element == Element::real && array.rows == nullptr;
}

// Room for an array as Reals, row after row, where it is not that already.
template <class Real, class Array>
inline Real* take_own(Arena& arena, const Array& array, const Shape& shape) {
  return array == nullptr || as_it_is(array) ? nullptr : arena.take<Real>(shape.count());
}

// An array as Reals, row after row: where it is or, a member's share of it brought, in `own`, complete after a barrier.
template <class Real>
inline const Real* brought(const Source<Real>& array, Real* own, const Shape& shape, const Member& member) {
  if (own == nullptr) return static_cast<const Real*>(array.data);
  visit(array, [&](const auto* from) {
    if (array.rows == nullptr) {
      const Range mine = share(shape.count(), member.rank, member.size);
      convert(from + mine.first, own + mine.first, mine.last - mine.first);
      return;
    }
    const Range mine = share(shape.rows, member.rank, member.size);
    for (Index k = mine.first; k < mine.last; ++k) bring_row(from, array.rows, k, shape, own + k * shape.width, shape.width);
  });
  return own;
}

// The same as elements of terms, whose own rows may be wider.
template <class Term, class Real>
inline const ElementOf<Term>* brought_as(const Source<Real>& array, ElementOf<Term>* own, const Shape& shape,
                                         const Member& member) {
  if constexpr (kNumbers<Term> == 1) {
    return brought(array, own, shape, member);
  } else {
    if (own == nullptr) return static_cast<const ElementOf<Term>*>(array.data);
    visit(array, [&](const auto* from) {
      const Range mine = share(shape.rows, member.rank, member.size);
      const Index width = padded<Term>(shape.width);
      for (Index k = mine.first; k < mine.last; ++k) bring_row(from, array.rows, k, shape, own + k * width, width);
    });
    return own;
  }
}

// to += an array, a member's share of it.
template <class Real>
inline void add_share(const Source<Real>& array, Real* to, const Shape& shape, const Member& member) {
  if (array == nullptr) return;
  const Range mine = share(shape.rows, member.rank, member.size);
  visit(array, [&](const auto* from) {
    for (Index k = mine.first; k < mine.last; ++k) {
      const Index row = array.rows == nullptr ? k : array.rows[k];
      if (row < 0) continue;
      for (Index j = 0; j < shape.width; j += kLanes<Real>) {
        Real* const at = to + k * shape.width + j;
        const Index rest = shape.width - j;
        store_columns(at, load_columns(at, rest) + load_columns(from + row * shape.width + j, rest), rest);
      }
    }
  });
}

// Where an array is written first, and then, after a barrier, a member's share of it sent.
template <class Real>
inline Real* own_or_there(const Target<Real>& array, Real* own) {
  return own == nullptr ? static_cast<Real*>(array.data) : own;
}
template <class Real, class Own>
inline void send_share(const Own* own, const Target<Real>& array, const Shape& shape, const Member& member) {
  if (own == nullptr || array == nullptr || own == array.data) return;
  visit(array, [&](auto* to) {
    if (array.rows == nullptr) {
      const Range mine = share(shape.count(), member.rank, member.size);
      convert(own + mine.first, to + mine.first, mine.last - mine.first);
      return;
    }
    const Range mine = share(shape.rows, member.rank, member.size);
    for (Index k = mine.first; k < mine.last; ++k) send_row(own, array.rows, k, shape, to);
  });
}

// Room for an array as elements of terms, where it is not rows of them already.
template <class Term, class Real>
inline ElementOf<Term>* take_own_as(Arena& arena, const Source<Real>& array, const Shape& shape) {
  if constexpr (kNumbers<Term> == 1) {
    return take_own<Real>(arena, array, shape);
  } else {
    const Index width = padded<Term>(shape.width);
    const bool as_they_are = array.element == Element::bfloat16 && array.rows == nullptr && width == shape.width;
    return array == nullptr || as_they_are ? nullptr : arena.take<ElementOf<Term>>(shape.rows * width);
  }
}

// x, h_0 and the state that goes on in float32: room for those that must be brought.
template <class Term>
struct OwnInputs {
  using Real = RealOf<Term>;
  ElementOf<Term>* x;
  ElementOf<Term>* h_0;
  Real* c_0;

  OwnInputs(Arena& arena, const Inputs<Real>& inputs, const Source<Real>& state, const Shape& x, const CallShapes& shapes)
      : x(take_own_as<Term>(arena, inputs.x, x)),
        h_0(take_own_as<Term>(arena, inputs.h_0, shapes.h)),
        c_0(take_own<Real>(arena, state, shapes.c)) {}
  bool any() const { return x != nullptr || h_0 != nullptr || c_0 != nullptr; }
};

}  // namespace fastlstm::FASTLSTM_ISA
