// Products of a few rows with weights that stand as torch keeps them: packing would cost more than using them once. Both operands
// of a dot product lie along k, so vectors run along k, too.
#pragma once
#include "batch/share.h"
#include "product/elements.h"
#include "product/parts.h"

namespace fastlstm::FASTLSTM_ISA {

// sums[w][b] = sum over k of a[w * lda + k] * x[b * ldx + k], added to what is there, lane by lane.
template <class Real, int A, int B, class Element>
inline void dot(Vec<Real> (&sums)[A][B], const Element* a, Index lda, const Real* x, Index ldx, Index K) {
  constexpr Index lanes = kLanes<Real>;
  const auto add = [&](auto&& read, Index k) {
    Vec<Real> x_k[B];
#pragma GCC unroll 3
    for (int b = 0; b < B; ++b) x_k[b] = read(x + b * ldx + k);
#pragma GCC unroll 8
    for (int w = 0; w < A; ++w) {
      const Vec<Real> a_k = read(a + w * lda + k);
#pragma GCC unroll 3
      for (int b = 0; b < B; ++b) sums[w][b] = fma(a_k, x_k[b], sums[w][b]);
    }
  };
  Index k = 0;
  for (; k + lanes <= K; k += lanes) add([](const auto* p) { return load(p); }, k);
  if (k < K) {
    const int rest = static_cast<int>(K - k);
    add([rest](const auto* p) { return load_first(p, rest); }, k);
  }
}

template <class Real>
inline Real sum_of_lanes(Vec<Real> a) {
  Real lane[kLanes<Real>];
  store(lane, a);
  for (int step = kLanes<Real> / 2; step > 0; step /= 2)
    for (int k = 0; k < step; ++k) lane[k] += lane[k + step];
  return lane[0];
}

// part[n][j] = sum over k < K of a[n][k] * w[k][j] for the columns j < count of w, four rows of w at a time. The rows of `part`
// hold whole Vecs.
template <int B, class Real, class Element>
inline void sum_rows(const Real* a, Index lda, const Element* w, Index K, Index columns, Index count, Real* part, Index ld_part) {
  const auto add = [&]<int ROWS>(Index k) {
    Vec<Real> a_k[B][ROWS];
    for (int b = 0; b < B; ++b)
      for (int i = 0; i < ROWS; ++i) a_k[b][i] = broadcast(a[b * lda + k + i]);
    for (Index j = 0; j < count; j += kLanes<Real>) {
      const Index rest = count - j;
      Vec<Real> sums[B];
      for (int b = 0; b < B; ++b) sums[b] = k > 0 ? load(part + b * ld_part + j) : broadcast(Real(0));
      for (int i = 0; i < ROWS; ++i) {
        const Vec<Real> w_k = load_columns(w + (k + i) * columns + j, rest);
        for (int b = 0; b < B; ++b) sums[b] = fma(a_k[b][i], w_k, sums[b]);
      }
      for (int b = 0; b < B; ++b) store(part + b * ld_part + j, sums[b]);
    }
  };
  Index k = 0;
  for (; k + 4 <= K; k += 4) add.template operator()<4>(k);
  for (; k < K; ++k) add.template operator()<1>(k);
}

// y[n][j] (+)= sum over k < K of a[n][k] * w[k][j], for the columns [range) of y and w, part by part.
template <int B, class Real, class Element>
inline void add_rows(const Real* a, Index lda, const Element* w, Index K, Index columns, Range range, Real* y, Index ldy,
                     bool add) {
  if (columns == 1) {  // both lie along k
    constexpr Index length = 32 * kLanes<Real>;
    for (Index k = 0; k < K && range.first < range.last; k += length) {
      Vec<Real> sums[1][B];
      for (int b = 0; b < B; ++b) sums[0][b] = broadcast(Real(0));
      dot<Real, 1, B>(sums, w + k, K, a + k, lda, K - k < length ? K - k : length);
      for (int b = 0; b < B; ++b) y[b * ldy] = (k > 0 || add ? y[b * ldy] : Real(0)) + sum_of_lanes(sums[0][b]);
    }
    return;
  }
  constexpr Index at_once = 2048;  // columns: two rows of them stay in L1, and are whole pages of w
  alignas(64) Real part[B * at_once];
  for (Index j0 = range.first; j0 < range.last; j0 += at_once) {
    const Index count = range.last - j0 < at_once ? range.last - j0 : at_once;
    for (Index k = 0, end = 0; k < K; k = end) {
      end = end_of(k, kPart, K);
      sum_rows<B>(a + k, lda, w + k * columns + j0, end - k, columns, count, part, at_once);
      for (int b = 0; b < B; ++b)
        for (Index j = 0; j < count; j += kLanes<Real>) {
          Real* const to = y + b * ldy + j0 + j;
          const Vec<Real> sum = load(part + b * at_once + j);
          store_columns(to, k > 0 || add ? load_columns(to, count - j) + sum : sum, count - j);
        }
    }
  }
}

template <class Real>
void add_all_rows(Index N, const Real* a, Index lda, const Source<Real>& weights, Index K, Index columns, Range range, Real* y,
                  Index ldy, bool add) {
  visit(weights, [&](const auto* w) {
    Index n = 0;
    for (; n + 2 <= N; n += 2) add_rows<2>(a + n * lda, lda, w, K, columns, range, y + n * ldy, ldy, add);
    for (; n < N; ++n) add_rows<1>(a + n * lda, lda, w, K, columns, range, y + n * ldy, ldy, add);
  });
}

// dw[m][j] = sum over n < N of a[n][m] * x[n][j] for the rows [mine); x may be nullptr: zeros.
template <class Real>
void outer_product(Index N, const Real* a, Index lda, const Real* x, Index ldx, Index columns, Range mine,
                   const Target<Real>& gradient) {
  visit(gradient, [&](auto* dw) {
    for (Index m = mine.first; m < mine.last; ++m) {
      Vec<Real> a_m[kFewRows];
      for (Index n = 0; n < N; ++n) a_m[n] = broadcast(a[n * lda + m]);
      for (Index j = 0; j < columns; j += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        if (x != nullptr)
          for (Index n = 0; n < N; ++n) sum = fma(a_m[n], load_columns(x + n * ldx + j, columns - j), sum);
        store_columns(dw + m * columns + j, sum, columns - j);
      }
    }
  });
}

}  // namespace fastlstm::FASTLSTM_ISA
