// Weights into panels, and gradients out of them.
//
// Gate columns stand in "gate order": block of kLanes units, then gate i, f, g, o, then unit. A block of units is kBlockPanels
// panels. Units past H are zeros.
#pragma once
#include "product/micro_kernel.h"
#include "product/transpose.h"

namespace fastlstm::FASTLSTM_ISA {

inline constexpr int kBlockPanels = 4 / kVectors;  // of the four gates of a block of units

inline Index rounded_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

template <class Real>
inline Index unit_blocks(Index H) {
  return (H + kLanes<Real> - 1) / kLanes<Real>;
}

// to[k][0 .. width) = w[0 .. rows)[k] for k < K, and zeros from rows on: w's rows lie K apart, those of `to` kPanel.
template <class Real, class Element>
void pack_rows(const Element* w, Index rows, Index K, Real* to, Index width) {
  transpose(w, K, rows, K, to, kPanel<Real>);
  if (rows == width) return;
  for (Index k = 0; k < K; ++k)
    for (Index r = rows; r < width; ++r) to[k * kPanel<Real> + r] = Real(0);
}

// panels[.][k0 + k][.] = w[gate * H + unit][k] for the unit blocks [u0, u1), whose panels they are: w is (4H, K), the
// panels are K_all deep.
template <class Real>
void pack_gates(const Source<Real>& weights, Index H, Index K, Real* panels, Index k0, Index K_all, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  for (Index u = u0; u < u1; ++u)
    for (Index gate = 0; gate < 4; ++gate) {
      Real* const panel =
          panels + (((u - u0) * kBlockPanels + gate / kVectors) * K_all + k0) * kPanel<Real> + gate % kVectors * lanes;
      const Index units = H - u * lanes < lanes ? H - u * lanes : lanes;
      visit(weights, [&](const auto* w) { pack_rows(w + (gate * H + u * lanes) * K, units, K, panel, lanes); });
    }
}

// bias[gate order] = b_ih + b_hh
template <class Real>
void pack_bias(const Weights<Real>& weights, Index H, Real* bias, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  for (Index u = u0; u < u1; ++u)
    for (Index gate = 0; gate < 4; ++gate) {
      const auto read = [&](const Source<Real>& source) {
        if (source == nullptr) return broadcast(Real(0));
        return visit(source, [&](const auto* b) { return load_columns(b + gate * H + u * lanes, H - u * lanes); });
      };
      store(bias + (u * 4 + gate) * lanes, read(weights.b_ih) + read(weights.b_hh));
    }
}

// panels[p][k][.] = w[k][p * kPanel + .] for the column panels [p0, p1): w is (K, columns).
template <class Real>
void pack_columns(const Source<Real>& weights, Index K, Index columns, Real* panels, Index p0, Index p1) {
  visit(weights, [&](const auto* w) {
    for (Index p = p0; p < p1; ++p)
      for (Index k = 0; k < K; ++k)
        for (Index v = 0; v < kVectors; ++v) {
          const Index j = p * kPanel<Real> + v * kLanes<Real>;
          store(panels + (p * K + k) * kPanel<Real> + v * kLanes<Real>, load_columns(w + k * columns + j, columns - j));
        }
  });
}

// The same, its rows in gate order: panels[p][(block, gate, unit)][.] = w[gate * H + unit][p * kPanel + .], w being (4H,
// columns).
template <class Real>
void pack_gate_rows(const Source<Real>& weights, Index H, Index columns, Real* panels, Index p0, Index p1) {
  constexpr Index lanes = kLanes<Real>;
  const Index blocks = unit_blocks<Real>(H);
  visit(weights, [&](const auto* w) {
    for (Index p = p0; p < p1; ++p) {
      Real* out = panels + p * blocks * 4 * lanes * kPanel<Real>;
      for (Index u = 0; u < blocks; ++u)
        for (Index gate = 0; gate < 4; ++gate)
          for (Index lane = 0; lane < lanes; ++lane, out += kPanel<Real>)
            for (Index v = 0; v < kVectors; ++v) {
              const Index unit = u * lanes + lane;
              const Index j = p * kPanel<Real> + v * lanes;
              store(out + v * lanes,
                    unit < H ? load_columns(w + (gate * H + unit) * columns + j, columns - j) : broadcast(Real(0)));
            }
    }
  });
}

// panels[p][k][.] = w[p * kPanel + .][k] for the column panels [p0, p1): w is (columns, K), so this transposes.
template <class Real>
void pack_transposed(const Source<Real>& weights, Index columns, Index K, Real* panels, Index p0, Index p1) {
  visit(weights, [&](const auto* w) {
    for (Index p = p0; p < p1; ++p) {
      const Index rest = columns - p * kPanel<Real>;
      pack_rows(w + p * kPanel<Real> * K, rest < kPanel<Real> ? rest : kPanel<Real>, K, panels + p * K * kPanel<Real>,
                kPanel<Real>);
    }
  });
}

// dw[gate * H + unit][feature] = sums[feature][gate order], for the rows of the unit blocks [u0, u1): sums is (features, 4 Hp).
template <class Real>
void unpack_gates(const Real* sums, Index H, Index features, const Target<Real>& gradient, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  const Index ld = unit_blocks<Real>(H) * 4 * lanes;
  for (Index u = u0; u < u1; ++u)
    for (Index gate = 0; gate < 4; ++gate) {
      const Index units = H - u * lanes < lanes ? H - u * lanes : lanes;
      visit(gradient, [&](auto* dw) {
        transpose(sums + (u * 4 + gate) * lanes, ld, features, units, dw + (gate * H + u * lanes) * features, features);
      });
    }
}

}  // namespace fastlstm::FASTLSTM_ISA
