// The micro-kernel: R rows x (P panels of kVectors vectors), and products built from it. Included inside an ISA's namespace.
//
// A panel is [K][kPanel]: kPanel consecutive columns of the right operand for every k. Every element of a result is added up over
// k in order, one fused multiply-add a term, whatever the tile it falls in: the bits do not depend on how rows are grouped. What
// a Term is: terms.h.

// Gates side by side in a panel: 6 rows x 2 vectors fill 16 registers, 6 x 4 fill 32 (12 or 24 sums, the weights, one broadcast).
inline constexpr int kVectors = kRegisters >= 32 ? 4 : 2;
inline constexpr int kTileRows = 6;
inline constexpr int kHalves = 4 / kVectors;  // panels for the four gates of a block of units

template <class Real>
inline constexpr int kLanes = Vec<Real>::lanes;
template <class Real>
inline constexpr int kPanel = kVectors * kLanes<Real>;

// Few rows leave too few sums in flight (8 hide the latency of two FMA units): take more panels at once.
template <int R>
inline constexpr int kPanelsAtOnce = R == 1   ? 8 / kVectors
                                     : R == 2 ? (4 / kVectors > 1 ? 4 / kVectors : 1)
                                              : 1;

// One cut of the sum over k: a panel's cut of 512 x 64 bytes fills an L1 of 32 KiB with 16 registers; with 32, L2 is streamed
// anyway.
inline constexpr Index kCut = 512;
inline bool is_cut(Index K) { return K > kCut + kCut / 2; }

// Of P panels, the first V vectors of each.
template <class Real, int R, int P, int V = kVectors>
struct Sums {
  Vec<Real> at[R][P * V];
};

// sums[r][.] += sum over k < K of a[r * lda + k * STEP] * b[k][.]
template <int STEP, class Term, class Real, int R, int P, int V>
inline __attribute__((always_inline)) void accumulate(Sums<Real, R, P, V>& sums, const Term* a, Index lda, const Term* b,
                                                      Index panel_stride, Index K) {
#pragma GCC unroll 2  // 1.08x sooner at K = 64 to 256: half the loop, and its end is foreseen
  for (Index k = 0; k < K; ++k) {
    Vec<Term> w[P * V];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[p * V + v] = load(b + p * panel_stride + v * kLanes<Real>);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vec<Term> a_r = broadcast(a[r * lda + k * STEP]);
#pragma GCC unroll 16
      for (int v = 0; v < P * V; ++v) sums.at[r][v] = fma(a_r, w[v], sums.at[r][v]);
    }
    b += kPanel<Real>;
  }
}

// tile.template run<R>(row) over all rows, in tiles of nearly equal height: 7 rows are 4 + 3, not 6 + 1.
template <class Tile>
inline void for_tiles(Index rows, const Tile& tile) {
  const Index tiles = (rows + kTileRows - 1) / kTileRows;
  for (Index k = 0, row = 0; k < tiles; ++k) {
    const Index end = rows * (k + 1) / tiles;
    switch (end - row) {
      case 1:
        tile.template run<1>(row);
        break;
      case 2:
        tile.template run<2>(row);
        break;
      case 3:
        tile.template run<3>(row);
        break;
      case 4:
        tile.template run<4>(row);
        break;
      case 5:
        tile.template run<5>(row);
        break;
      default:
        tile.template run<6>(row);
        break;
    }
    row = end;
  }
}

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

// The left operand of a product, row-major within each segment of k: a[r][k] = base[k / length * stride + r * lda + k % length].
template <class Term>
struct Left {
  const Term* base;
  Index lda;
  Index length;
  Index stride;
  Index segments;
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
      const Left<Term>& a = product.a;
      const Index K = a.length * a.segments;
      Sums<Real, R, P, V> sums;
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < P * V; ++v) {
          const Index j = first_panel * kPanel<Real> + v * kLanes<Real>;
          sums.at[r][v] = add ? load_columns(product.c + (row + r) * product.ldc + j, product.columns - j) : broadcast(Real(0));
        }
      for (Index s = segment0; s < segment1; ++s)
        accumulate<1>(sums, a.base + s * a.stride + row * a.lda, a.lda,
                      product.panels + (first_panel * K + s * a.length) * kPanel<Real>, K * kPanel<Real>, a.length);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < P * V; ++v) {
          const Index j = first_panel * kPanel<Real> + v * kLanes<Real>;
          store_columns(product.c + (row + r) * product.ldc + j, sums.at[r][v], product.columns - j);
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
    const Index cut = a.length >= kCut ? 1 : kCut / a.length;
    for (Index p = p0; p < p1;) {
      const bool wide = (rows == 1 && p + kPanelsAtOnce<1> <= p1) || (rows == 2 && p + kPanelsAtOnce<2> <= p1);
      for (Index s = 0; s < a.segments || (s == 0 && !add); s += cut) {
        const Tile tile{*this, p, s, s + cut < a.segments ? s + cut : a.segments, add || s > 0};
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
