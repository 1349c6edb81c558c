// Weights into panels, and gradients out of them.
//
// The columns of gates stand in "gate order": block of kLanes units, then sum, then unit. Which gate of the weights a sum adds
// up, a cell says (GateOrder). Units past H are zeros.
#pragma once
#include "product/micro_kernel.h"
#include "product/transpose.h"

namespace fastlstm::FASTLSTM_ISA {

// For each sum of a unit the gate of a matrix of weights, a block of H of its rows, that it adds up; -1: none.
template <Index... GATES>
struct GateOrder {
  static constexpr Index kSums = sizeof...(GATES);
  static constexpr Index kGates = ((GATES >= 0 ? 1 : 0) + ...);
  static constexpr Index gates[kSums] = {GATES...};
  // The sums from the first that adds up a gate to the last: products are of these alone (a GRU's in three quarters of the time
  // that all four would take).
  static constexpr Index kFirst = [] {
    Index sum = 0;
    while (gates[sum] < 0) ++sum;
    return sum;
  }();
  static constexpr Index kSpan = [] {
    Index last = kSums - 1;
    while (gates[last] < 0) --last;
    return last + 1 - kFirst;
  }();
};

// Panels of weights whose columns are the sums of a block of units: of kVectors vectors, where so many divide them (an LSTM's
// four), else one of as many as they are (a GRU's three).
template <class Order>
inline constexpr int kPanelVectors = Order::kSpan % kVectors == 0 ? kVectors : static_cast<int>(Order::kSpan);
template <class Order>
inline constexpr int kBlockPanels = static_cast<int>(Order::kSpan) / kPanelVectors<Order>;
template <class Order, class Real>
inline constexpr int kGatePanel = kPanelVectors<Order> * kLanes<Real>;

inline Index rounded_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

template <class Real>
inline Index unit_blocks(Index H) {
  return (H + kLanes<Real> - 1) / kLanes<Real>;
}

// to[k][0 .. width) = w[0 .. rows)[k] for k < K, and zeros from rows on: w's rows lie K apart, those of `to` ld_to.
template <class Real, class Element>
void pack_rows(const Element* w, Index rows, Index K, Real* to, Index width, Index ld_to) {
  transpose(w, K, rows, K, to, ld_to);
  if (rows == width) return;
  for (Index k = 0; k < K; ++k)
    for (Index r = rows; r < width; ++r) to[k * ld_to + r] = Real(0);
}
// use(gate, its place among panels that are K_all deep and begin with block u0) for the sums of the unit blocks [u0, u1).
template <class Order, class Term, class Use>
void for_panel_sums(Term* panels, Index K_all, Index u0, Index u1, const Use& use) {
  constexpr Index vectors = kPanelVectors<Order>;
  for (Index u = u0; u < u1; ++u)
    for (Index k = 0; k < Order::kSpan; ++k)
      use(u, Order::gates[Order::kFirst + k],
          panels + ((u - u0) * kBlockPanels<Order> + k / vectors) * K_all * kGatePanel<Order, Term> + k % vectors * kLanes<Term>);
}

// panels[.][k0 + k][.] = w[gate * H + unit][k] for the unit blocks [u0, u1), whose panels they are: w is (gates * H, K), the
// panels are K_all deep.
template <class Order, class Real>
void pack_gates(const Source<Real>& weights, Index H, Index K, Real* panels, Index k0, Index K_all, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  constexpr Index width = kGatePanel<Order, Real>;
  for_panel_sums<Order>(panels + k0 * width, K_all, u0, u1, [&](Index u, Index gate, Real* to) {
    const Index units = gate < 0 ? 0 : H - u * lanes < lanes ? H - u * lanes : lanes;
    visit(weights, [&](const auto* w) { pack_rows(w + (gate < 0 ? 0 : gate * H + u * lanes) * K, units, K, to, lanes, width); });
  });
}

// bias[gate order] = b_ih + b_hh
template <class Input, class Hidden, class Real>
void pack_bias(const Weights<Real>& weights, Index H, Real* bias, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  for (Index u = u0; u < u1; ++u)
    for (Index sum = 0; sum < Input::kSums; ++sum) {
      const auto read = [&](const Source<Real>& source, Index gate) {
        if (source == nullptr || gate < 0) return broadcast(Real(0));
        return visit(source, [&](const auto* b) { return load_columns(b + gate * H + u * lanes, H - u * lanes); });
      };
      store(bias + (u * Input::kSums + sum) * lanes,
            read(weights.b_ih, Input::gates[sum]) + read(weights.b_hh, Hidden::gates[sum]));
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

// The same, its rows in gate order: panels[p][(block, gate, unit)][.] = w[gate * H + unit][p * kPanel + .], w being
// (gates * H, columns).
template <class Order, class Real>
void pack_gate_rows(const Source<Real>& weights, Index H, Index columns, Real* panels, Index p0, Index p1) {
  constexpr Index lanes = kLanes<Real>;
  const Index blocks = unit_blocks<Real>(H);
  visit(weights, [&](const auto* w) {
    for (Index p = p0; p < p1; ++p) {
      Real* out = panels + p * blocks * Order::kSpan * lanes * kPanel<Real>;
      for (Index u = 0; u < blocks; ++u)
        for (Index sum = Order::kFirst; sum < Order::kFirst + Order::kSpan; ++sum)
          for (Index lane = 0; lane < lanes; ++lane, out += kPanel<Real>)
            for (Index v = 0; v < kVectors; ++v) {
              const Index gate = Order::gates[sum];
              const Index unit = u * lanes + lane;
              const Index j = p * kPanel<Real> + v * lanes;
              store(out + v * lanes,
                    gate >= 0 && unit < H ? load_columns(w + (gate * H + unit) * columns + j, columns - j) : broadcast(Real(0)));
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
                kPanel<Real>, kPanel<Real>);
    }
  });
}

// dw[gate * H + unit][feature] = sums[feature][gate order], for the rows of the unit blocks [u0, u1): sums is (features, sums of
// Hp).
template <class Order, class Real>
void unpack_gates(const Real* sums, Index H, Index features, const Target<Real>& gradient, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Real>;
  const Index ld = unit_blocks<Real>(H) * Order::kSums * lanes;
  for (Index u = u0; u < u1; ++u)
    for (Index sum = 0; sum < Order::kSums; ++sum) {
      const Index gate = Order::gates[sum];
      if (gate < 0) continue;
      const Index units = H - u * lanes < lanes ? H - u * lanes : lanes;
      visit(gradient, [&](auto* dw) {
        transpose(sums + (u * Order::kSums + sum) * lanes, ld, features, units, dw + (gate * H + u * lanes) * features, features);
      });
    }
}

}  // namespace fastlstm::FASTLSTM_ISA
