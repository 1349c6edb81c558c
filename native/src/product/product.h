// Products of a left operand's rows and panels, built from the micro-kernel.
#pragma once
#include "product/micro_kernel.h"
#include "product/parts.h"

namespace fastlstm::FASTLSTM_ISA {

// The left operand of a product, row-major within each segment of k: a[r][k] = base[k / length * stride + r * lda + k % length].
// A segment is a part of the sum, or some make one.
template <class Term>
struct Left {
  const Term* base;
  Index lda;
  Index length;
  Index stride;
  Index K;
  Index part = kPart;

  Index segments() const { return (K + length - 1) / length; }
  Index depth(Index segment) const { return K - segment * length < length ? K - segment * length : length; }
  // How many segments are a part or a cut of so many terms.
  Index segments_in(Index terms) const { return length >= terms ? 1 : terms / length; }
};

// c[r][j] (+)= sum over k of a[r][k] * panels[j / kPanel][k][j % kPanel], for rows r < rows and panels [p0, p1); only columns
// j < columns of c are touched.
template <class Term>
struct Product {
  using Real = RealOf<Term>;
  Left<Term> a;
  const Term* panels;
  Real* c;
  Index ldc;
  Index columns;
  bool add;

  struct Tile {
    const Product& product;
    Index panel;     // the first column panel
    Index segment0;  // a cut of the sum: these segments
    Index segment1;
    bool add;

    template <int R, int P, int V = kVectors>
    inline void columns(Index row, Index first_panel) const {
      static_assert(P == 1 || V == kVectors);
      constexpr int lanes = kLanes<Real>;
      const Index part = product.a.segments_in(product.a.part);
      alignas(64) Real total[R][P * V * lanes];
      Index s = segment0;
      for (; s + part < segment1; s += part) {
        Sums<Real, R, P, V> sums = part_of<R, P, V>(row, first_panel, s, s + part);
        if (s > segment0) add_parked(sums, &total[0][0], P * V * lanes);
        park(sums, &total[0][0], P * V * lanes);
      }
      Sums<Real, R, P, V> sums = part_of<R, P, V>(row, first_panel, s, segment1);
      if (s > segment0) add_parked(sums, &total[0][0], P * V * lanes);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < P * V; ++v) {
          const Index j = first_panel * kPanel<Real> + v * lanes;
          Real* const to = product.c + (row + r) * product.ldc + j;
          const Vec<Real> sum = sums.at[r][v];
          store_columns(to, add ? load_columns(to, product.columns - j) + sum : sum, product.columns - j);
        }
    }

    // The sum over some segments, from zero.
    template <int R, int P, int V>
    inline __attribute__((always_inline)) Sums<Real, R, P, V> part_of(Index row, Index first_panel, Index s, Index end) const {
      const Left<Term>& a = product.a;
      const auto left = [&](Index k) { return a.base + k * a.stride + row * a.lda; };
      const auto right = [&](Index k) { return product.panels + (first_panel * a.K + k * a.length) * kPanel<Real>; };
      if constexpr (P * V == 1) {
        Sums<Real, R, kApart, 1> sums;
        clear(sums);
        for (; s < end; ++s) accumulate_apart(sums, left(s), a.lda, right(s), a.depth(s));
        return together(sums);
      } else {
        Sums<Real, R, P, V> sums;
        clear(sums);
        for (; s < end; ++s) accumulate<1>(sums, left(s), a.lda, right(s), a.K * kPanel<Real>, a.depth(s));
        return sums;
      }
    }

    // Only the vectors that hold columns: dx of 7 features is one of a panel's four.
    template <int R>
    inline void run(Index row) const {
      constexpr auto at_most = [](int vectors) { return vectors < kVectors ? vectors : kVectors; };
      const Index left = product.columns - panel * kPanel<Real>;
      if (left <= kLanes<Real>) {
        columns<R, 1, 1>(row, panel);
      } else if (left <= 2 * kLanes<Real>) {
        columns<R, 1, at_most(2)>(row, panel);
      } else if (left <= 3 * kLanes<Real>) {
        columns<R, 1, at_most(3)>(row, panel);
      } else {
        columns<R, 1>(row, panel);
      }
    }
  };

  void run(Index rows, Index p0, Index p1) const {
    if (rows <= 0) return;
    const Index segments = a.segments();
    const Index cut = a.segments_in(kCut);
    for (Index p = p0; p < p1;) {
      // A panel of one vector has sums of its own, whoever's it is: never among others.
      const auto all_wide = [&](Index count) {
        return p + count <= p1 && columns - (p + count - 1) * kPanel<Real> > kLanes<Real>;
      };
      const bool wide = (rows == 1 && all_wide(kPanelsAtOnce<1>)) || (rows == 2 && all_wide(kPanelsAtOnce<2>));
      for (Index s = 0; s < segments || (s == 0 && !add); s += cut) {
        const Tile tile{*this, p, s, s + cut < segments ? s + cut : segments, add || s > 0};
        if (wide && rows == 1) {
          tile.template columns<1, kPanelsAtOnce<1>>(0, p);
        } else if (wide) {
          tile.template columns<2, kPanelsAtOnce<2>>(0, p);
        } else {
          for_tiles(rows, tile);
        }
      }
      p += wide ? (rows == 1 ? kPanelsAtOnce<1> : kPanelsAtOnce<2>) : 1;
    }
  }
};

}  // namespace fastlstm::FASTLSTM_ISA
