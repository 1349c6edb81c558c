// A single step (T = 1) of few rows, backward: it reads the weights where they are.
#pragma once
#include "cell/lstm.h"
#include "layer/backward_arrays.h"
#include "product/one_row.h"

namespace fastlstm::FASTLSTM_ISA {

// The gate gradients of a single step into dgates, here (N, 4H) in the order of the weights' rows; dc_0; and h before its
// projection.
template <class Real>
void single_gate_gradients(const LayerBackward<Real>& layer, Range blocks) {
  constexpr Index lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index N = problem.N;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index stride = N * kPanel<Real>;
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index n = 0; n < N; ++n) {
      const Index unit = u * lanes;
      const Index rest = H - unit;
      const Gates<Real> kept = load_gates(layer.gates + u * kBlockPanels * stride + n * kPanel<Real>, stride);
      const Vec<Real> tanh_c = tanh(load(layer.c + n * Hp + unit));
      const Vec<Real> zero = broadcast(Real(0));
      const Vec<Real> c_prev = layer.c_0 == nullptr ? zero : load_columns(layer.c_0 + n * H + unit, rest);
      Vec<Real> dh = zero;
      if (problem.P > 0) {
        dh = load(layer.dh_full + n * Hp + unit);
        store(layer.h_full + n * layer.H_padded() + unit, kept.o * tanh_c);
      } else {
        if (layer.dh_n != nullptr) dh = load_columns(layer.dh_n + n * H + unit, rest);
        if (layer.doutput != nullptr) dh = dh + load_columns(layer.doutput + n * problem.D * H + unit, rest);
      }
      Vec<Real> dc = layer.dc_n == nullptr ? zero : load_columns(layer.dc_n + n * H + unit, rest);
      const Gates<Real> d = cell_backward(kept, c_prev, tanh_c, dh, dc);
      if (layer.dc_0 != nullptr) store_columns(layer.dc_0 + n * H + unit, dc, rest);
      Real* const to = layer.dgates + n * 4 * H + unit;
      store_columns(to, d.i, rest);
      store_columns(to + H, d.f, rest);
      store_columns(to + 2 * H, d.g, rest);
      store_columns(to + 3 * H, d.o, rest);
    }
}

template <class Real>
void backward_single(const LayerBackward<Real>& layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const Index N = problem.N;
  const Index H = problem.H;
  const Index P = problem.P;
  const Index out = problem.out();
  const Range blocks = share(unit_blocks<Real>(H), group.rank, group.size);
  const auto mine = [&](Index count) { return share(count, group.rank, group.size); };
  if (P > 0) {
    const Range columns = mine(P);
    for (Index n = 0; n < N; ++n)
      for (Index j = columns.first; j < columns.last; ++j) {
        Real d = layer.dh_n == nullptr ? Real(0) : layer.dh_n[n * P + j];
        if (layer.doutput != nullptr) d += layer.doutput[n * problem.D * P + j];
        layer.dh_projected[n * P + j] = d;
      }
    group.barrier->wait();
    const Index last = blocks.last * kLanes<Real> < H ? blocks.last * kLanes<Real> : H;
    for (Index n = 0; n < N; ++n)
      for (Index j = blocks.first * kLanes<Real>; j < last; j += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        visit(layer.weights.w_hr, [&](const auto* w) {
          for (Index p = 0; p < P;) {
            Vec<Real> part = broadcast(Real(0));
            for (const Index end = end_of(p, kPart, P); p < end; ++p)
              part = fma(broadcast(layer.dh_projected[n * P + p]), load_columns(w + p * H + j, H - j), part);
            sum = sum + part;
          }
        });
        store(layer.dh_full + n * layer.Hp() + j, sum);
      }
  }
  single_gate_gradients(layer, blocks);
  group.barrier->wait();
  const Index K = 4 * H;
  if (layer.dx != nullptr)
    add_all_rows(N, layer.dgates, K, layer.weights.w_ih, K, layer.in, mine(layer.in), layer.dx, layer.in, layer.add_dx);
  if (layer.dh_0 != nullptr) add_all_rows(N, layer.dgates, K, layer.weights.w_hh, K, out, mine(out), layer.dh_0, out, false);
  const WeightGradients<Real>& d = layer.dweights;
  const Range rows = mine(K);
  if (d.w_ih != nullptr) outer_product(N, layer.dgates, K, layer.x, layer.in, layer.in, rows, d.w_ih);
  if (d.w_hh != nullptr) outer_product(N, layer.dgates, K, layer.h_0, out, out, rows, d.w_hh);
  for (const Target<Real>* const bias : {&d.b_ih, &d.b_hh}) {
    if (*bias == nullptr) continue;
    visit(*bias, [&](auto* db) {
      for (Index m = rows.first; m < rows.last; m += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        for (Index n = 0; n < N; ++n) sum = sum + load_columns(layer.dgates + n * K + m, rows.last - m);
        store_columns(db + m, sum, rows.last - m);
      }
    });
  }
  if (d.w_hr != nullptr) outer_product(N, layer.dh_projected, P, layer.h_full, layer.H_padded(), H, mine(P), d.w_hr);
}

}  // namespace fastlstm::FASTLSTM_ISA
