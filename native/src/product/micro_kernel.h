// The micro-kernel: R rows x (P panels of V vectors).
//
// A panel is [K][kPanel]: kPanel consecutive columns of the right operand for every k. (Those of a cell's gates may have another
// width: pack.h.) Every element of a result is added up over
// k in the same parts, whose ends depend on sizes alone, whatever the tile it falls in: the bits do not depend on how rows are
// grouped. What a Term is: isa/terms.h.
#pragma once
#include "isa/columns.h"

namespace fastlstm::FASTLSTM_ISA {

// Gates side by side in a panel: 6 rows x 2 vectors fill 16 registers, 6 x 4 fill 32 (12 or 24 sums, the weights, one broadcast).
inline constexpr int kVectors = kRegisters >= 32 ? 4 : 2;
inline constexpr int kTileRows = 6;
// As many sums of panels of V vectors are as many rows; of a feature's or a step's rows no tile has more.
inline constexpr int kMostRows = 8;
template <int V>
inline constexpr int kRowsAtOnce = kTileRows * kVectors / V < kMostRows ? kTileRows * kVectors / V : kMostRows;

template <class Real>
inline constexpr int kPanel = kVectors * kLanes<Real>;

// Few rows leave too few sums in flight (8 hide the latency of two FMA units): take more panels at once.
template <int R>
inline constexpr int kPanelsAtOnce = R == 1   ? 8 / kVectors
                                     : R == 2 ? (4 / kVectors > 1 ? 4 / kVectors : 1)
                                              : 1;

// Of P panels, the first V vectors of each.
template <class Real, int R, int P, int V = kVectors>
struct Sums {
  Vec<Real> at[R][P * V];
};

template <int APART, int V>
inline constexpr Index parked_at(int v) {
  return v / V * (APART == 0 ? V : APART) + v % V;
}

template <class Real, int R, int P, int V>
inline __attribute__((always_inline)) void clear(Sums<Real, R, P, V>& sums) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < P * V; ++v) sums.at[r][v] = broadcast(Real(0));
}

// The sums of a tile somewhere else, each row `ld` apart, each panel APART vectors (0: V). Aligned, or every other store of 64
// bytes would be two.
template <int APART = 0, class Real, int R, int P, int V>
inline __attribute__((always_inline)) void park(const Sums<Real, R, P, V>& sums, Real* to, Index ld) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < P * V; ++v) store(to + r * ld + parked_at<APART, V>(v) * kLanes<Real>, sums.at[r][v]);
  // Or the compiler keeps them in registers that it does not have: it copied all of them twice a part.
  asm volatile("" : : "r"(to) : "memory");
}
template <int APART = 0, class Real, int R, int P, int V>
inline __attribute__((always_inline)) void add_parked(Sums<Real, R, P, V>& sums, const Real* from, Index ld) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < P * V; ++v) sums.at[r][v] = load(from + r * ld + parked_at<APART, V>(v) * kLanes<Real>) + sums.at[r][v];
}

// sums[r][.] += sum over k < K of a[r * lda + k * STEP] * b[k][.]; rows of b are WIDTH vectors.
template <int STEP, int WIDTH = kVectors, class Term, class Real, int R, int P, int V>
inline __attribute__((always_inline)) void accumulate(Sums<Real, R, P, V>& sums, const Term* a, Index lda, const Term* b,
                                                      Index panel_stride, Index K) {
#pragma GCC unroll 2  // 1.08x faster at K = 64 to 256: half the loop, and its end is foreseen
  for (Index k = 0; k < K; ++k) {
    Vec<Term> w[P * V];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[p * V + v] = load(b + p * panel_stride + v * kLanes<Real>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<Term> a_r = broadcast(a[r * lda + k * STEP]);
#pragma GCC unroll 16
      for (int v = 0; v < P * V; ++v) sums.at[r][v] = fma(a_r, w[v], sums.at[r][v]);
    }
    b += WIDTH * kLanes<Real>;
  }
}

// The same for one vector of a panel, the terms dealt out among the sums of kApart tiles: rows alone are too few sums in flight,
// and shorter chains are the more exact. nn.LSTM's gradient of one feature is a dot product, computed lane by lane.
inline constexpr int kApart = kRegisters >= 32 ? 4 : 2;
template <class Term, class Real, int R>
inline __attribute__((always_inline)) void accumulate_apart(Sums<Real, R, kApart, 1>& sums, const Term* a, Index lda,
                                                            const Term* b, Index K) {
  const auto add = [&](Index k, int j) {
    const Vec<Term> w = load(b + (k + j) * kPanel<Real>);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) sums.at[r][j] = fma(broadcast(a[r * lda + k + j]), w, sums.at[r][j]);
  };
  Index k = 0;
  for (; k + kApart <= K; k += kApart)
#pragma GCC unroll 4
    for (int j = 0; j < kApart; ++j) add(k, j);
#pragma GCC unroll 4
  for (int j = 0; j < kApart; ++j)
    if (k + j < K) add(k, j);
}
template <class Real, int R>
inline __attribute__((always_inline)) Sums<Real, R, 1, 1> together(const Sums<Real, R, kApart, 1>& apart) {
  Sums<Real, R, 1, 1> sums;
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    sums.at[r][0] = apart.at[r][0] + apart.at[r][1];
    if constexpr (kApart == 4) sums.at[r][0] = sums.at[r][0] + (apart.at[r][2] + apart.at[r][3]);
  }
  return sums;
}

// tile.template run<R>(row) over all rows, in tiles of nearly equal height, at most MOST: 7 rows are 4 + 3, not 6 + 1.
template <int MOST = kTileRows, class Tile>
inline void for_tiles(Index rows, const Tile& tile) {
  static_assert(MOST <= kMostRows);
  constexpr auto up_to = [](int height) { return height < MOST ? height : MOST; };
  const Index tiles = (rows + MOST - 1) / MOST;
  for (Index k = 0, row = 0; k < tiles; ++k) {
    const Index end = rows * (k + 1) / tiles;
    switch (end - row) {
      case 1:
        tile.template run<1>(row);
        break;
      case 2:
        tile.template run<up_to(2)>(row);
        break;
      case 3:
        tile.template run<up_to(3)>(row);
        break;
      case 4:
        tile.template run<up_to(4)>(row);
        break;
      case 5:
        tile.template run<up_to(5)>(row);
        break;
      case 6:
        tile.template run<up_to(6)>(row);
        break;
      case 7:
        tile.template run<up_to(7)>(row);
        break;
      default:
        tile.template run<MOST>(row);
        break;
    }
    row = end;
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
