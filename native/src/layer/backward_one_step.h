// A single step (T = 1) of few rows, backward: it reads the weights where they are.
#pragma once
#include "cell/gate_buffer.h"
#include "layer/backward_arrays.h"
#include "product/one_row.h"

namespace fastlstm::FASTLSTM_ISA {

// use(first sum, its gate, how many, whether there were some before) for the sums of gates that follow each other: what products
// with the weights as they stand can have at once.
template <class Order, class Use>
inline void for_gate_runs(const Use& use) {
  bool before = false;
  for (Index sum = 0; sum < Order::kSums;) {
    const Index gate = Order::gates[sum];
    Index count = 1;
    while (gate >= 0 && sum + count < Order::kSums && Order::gates[sum + count] == gate + count) ++count;
    if (gate >= 0) use(sum, gate, count, before);
    before = before || gate >= 0;
    sum += count;
  }
}

// db[m] = sum over n < N of a[n][m] for the rows [mine)
template <class Real>
void sum_of_rows(Index N, const Real* a, Index lda, Range mine, const Target<Real>& gradient) {
  visit(gradient, [&](auto* db) {
    for (Index m = mine.first; m < mine.last; m += kLanes<Real>) {
      Vec<Real> sum = broadcast(Real(0));
      for (Index n = 0; n < N; ++n) sum = sum + load_columns(a + n * lda + m, mine.last - m);
      store_columns(db + m, sum, mine.last - m);
    }
  });
}

// The gate gradients of a single step into dgates, here (N, kSums * H), sum by sum; dc_0, or the
// same part of dh_0 where h is the only state; and h before its projection.
template <class Cell>
void one_step_gate_gradients(const LayerBackward<Cell>& layer, Range blocks) {
  using Real = RealOf<Cell>;
  constexpr Index lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index N = problem.N;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index stride = N * kRowOfGates<Cell>;
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index n = 0; n < N; ++n) {
      const Index unit = u * lanes;
      const Index rest = H - unit;
      const typename Cell::Gates kept =
          load_gates<Cell>(layer.gates + u * kPanelsOfGates<Cell> * stride + n * kRowOfGates<Cell>, stride);
      const auto out = Cell::output(Cell::shown(kept), load(layer.c + n * Hp + unit));
      const Vec<Real> zero = broadcast(Real(0));
      const Vec<Real> c_prev = layer.c_0 == nullptr ? zero : load_columns(layer.c_0 + n * H + unit, rest);
      Vec<Real> dh = zero;
      if (problem.P > 0) {
        dh = load(layer.dh_full + n * Hp + unit);
        store(layer.h_full + n * layer.H_padded() + unit, out.h);
      } else {
        if (layer.dh_n != nullptr) dh = load_columns(layer.dh_n + n * H + unit, rest);
        if (layer.doutput != nullptr) dh = dh + load_columns(layer.doutput + n * problem.D * H + unit, rest);
      }
      Vec<Real> dc = layer.dc_n == nullptr ? zero : load_columns(layer.dc_n + n * H + unit, rest);
      const typename Cell::Gates d = Cell::backward(kept, c_prev, out, dh, dc);
      Real* const to_dc = Cell::kStates > 1 ? layer.dc_0 : layer.dh_0;
      if (to_dc != nullptr) store_columns(to_dc + n * H + unit, dc, rest);
      Real* const to = layer.dgates + n * Cell::kSums * H + unit;
      Cell::each(d, [&](Index sum, const auto& gate) { store_columns(to + sum * H, gate, rest); });
    }
}

template <class Cell>
void backward_one_step(const LayerBackward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
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
  one_step_gate_gradients(layer, blocks);
  group.barrier->wait();
  const Index K = Cell::kSums * H;
  // The gate gradients of sums that follow each other, and the rows of the weights that they belong to.
  const WeightGradients<Real>& d = layer.dweights;
  for_gate_runs<typename Cell::Input>([&](Index sum, Index gate, Index count, bool add) {
    const Real* const dgates = layer.dgates + sum * H;
    const Range rows = mine(count * H);
    if (layer.dx != nullptr)
      add_all_rows(N, dgates, K, rows_from(layer.weights.w_ih, gate * H * layer.in), count * H, layer.in, mine(layer.in),
                   layer.dx, layer.in, layer.add_dx || add);
    if (d.w_ih != nullptr) outer_product(N, dgates, K, layer.x, layer.in, layer.in, rows, rows_from(d.w_ih, gate * H * layer.in));
    if (d.b_ih != nullptr) sum_of_rows(N, dgates, K, rows, rows_from(d.b_ih, gate * H));
  });
  for_gate_runs<typename Cell::Hidden>([&](Index sum, Index gate, Index count, bool add) {
    const Real* const dgates = layer.dgates + sum * H;
    const Range rows = mine(count * H);
    if (layer.dh_0 != nullptr)
      add_all_rows(N, dgates, K, rows_from(layer.weights.w_hh, gate * H * out), count * H, out, mine(out), layer.dh_0, out,
                   Cell::kStates == 1 || add);
    if (d.w_hh != nullptr) outer_product(N, dgates, K, layer.h_0, out, out, rows, rows_from(d.w_hh, gate * H * out));
    if (d.b_hh != nullptr) sum_of_rows(N, dgates, K, rows, rows_from(d.b_hh, gate * H));
  });
  if (d.w_hr != nullptr) outer_product(N, layer.dh_projected, P, layer.h_full, layer.H_padded(), H, mine(P), d.w_hr);
}

}  // namespace fastlstm::FASTLSTM_ISA
