// A single step (T = 1), forward: it reads the weights where they are.
#pragma once
#include "layer/forward_arrays.h"
#include "layer/group.h"
#include "product/one_row.h"

namespace fastlstm::FASTLSTM_ISA {

// pre[b][lane] for A units of one gate and B rows of the batch: W x + R h.
template <int A, int B, class Real>
inline void preactivations(const LayerForward<Real>& layer, Index weight_row, Index n, Real* pre, Index ld_pre) {
  const Index out = layer.problem->out();
  Vec<Real> sums[A][B];
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) sums[w][b] = broadcast(Real(0));
  // First the recurrent terms: mostly the smaller ones, they would be rounded at the size of the others.
  if (layer.h_0 != nullptr)
    visit(layer.weights.w_hh,
          [&](const auto* w) { dot<Real, A, B>(sums, w + weight_row * out, out, layer.h_0 + n * out, out, out); });
  visit(layer.weights.w_ih, [&](const auto* w) {
    dot<Real, A, B>(sums, w + weight_row * layer.in, layer.in, layer.x + n * layer.in, layer.in, layer.in);
  });
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) pre[b * ld_pre + w] = sum_of_lanes(sums[w][b]);
}

// One block of units, B rows: the cell, as in Step::finish.
template <int B, class Real>
inline void single_block(const LayerForward<Real>& layer, Index u, Index n) {
  constexpr int lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const int units = static_cast<int>(H - u * lanes < lanes ? H - u * lanes : lanes);
  Real pre[B][4 * lanes] = {};
  for (int gate = 0; gate < 4; ++gate) {
    const Index weight_row = gate * H + u * lanes;
    Real* const to = &pre[0][gate * lanes];
    constexpr int wide = B == 1 ? 8 : 4;  // sums in flight: 8 hide the latency, 4 x 3 fill 16 registers
    int lane = 0;
    for (; lane + wide <= units; lane += wide) preactivations<wide, B>(layer, weight_row + lane, n, to + lane, 4 * lanes);
    for (; lane < units; ++lane) preactivations<1, B>(layer, weight_row + lane, n, to + lane, 4 * lanes);
  }
  const Real* const bias = layer.bias + u * 4 * lanes;
  for (int b = 0; b < B; ++b) {
    const auto sum = [&](int gate) { return load(&pre[b][gate * lanes]) + load(bias + gate * lanes); };
    const Gates<Real> gates = activate(Gates<Real>{sum(0), sum(1), sum(2), sum(3)});
    const Index row = n + b;
    const Vec<Real> c_prev =
        layer.c_0 == nullptr ? broadcast(Real(0)) : load_columns(layer.c_0 + row * H + u * lanes, H - u * lanes);
    const Vec<Real> c = cell(gates, c_prev);
    if (layer.gates != nullptr) {
      store_gates(layer.gates + u * kBlockPanels * problem.N * kPanel<Real> + row * kPanel<Real>, problem.N * kPanel<Real>,
                  gates);
      store(layer.c + row * Hp + u * lanes, c);
    }
    store_columns(layer.c_n + row * H + u * lanes, c, H - u * lanes);
    const Vec<Real> h = gates.o * tanh(c);
    Real* const to = problem.P > 0 ? layer.h_full + row * Hp : layer.output + row * problem.D * H;
    store_columns(to + u * lanes, h, H - u * lanes);
  }
}

// A projected h: P is small beside H, one dot product each.
template <class Real>
void single_projection(const LayerForward<Real>& layer, Range columns) {
  const Problem& problem = *layer.problem;
  for (Index n = 0; n < problem.N; ++n)
    for (Index j = columns.first; j < columns.last; ++j) {
      Vec<Real> sums[1][1] = {{broadcast(Real(0))}};
      visit(layer.weights.w_hr, [&](const auto* w) {
        dot<Real, 1, 1>(sums, w + j * problem.H, problem.H, layer.h_full + n * layer.Hp(), layer.Hp(), problem.H);
      });
      layer.output[n * problem.D * problem.P + j] = sum_of_lanes(sums[0][0]);
    }
}

template <class Real>
void forward_single(const LayerForward<Real>& layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const Range blocks = share(unit_blocks<Real>(problem.H), group.rank, group.size);
  pack_bias(layer.weights, problem.H, layer.bias, blocks.first, blocks.last);
  for (Index u = blocks.first; u < blocks.last; ++u) {
    Index n = 0;
    for (; n + 3 <= problem.N; n += 3) single_block<3>(layer, u, n);
    for (; n < problem.N; ++n) single_block<1>(layer, u, n);
  }
  if (problem.P > 0) {
    group.barrier->wait();
    single_projection(layer, share(problem.P, group.rank, group.size));
  }
  group.barrier->wait();
  const Index out = problem.out();
  const Range mine = share(problem.N, group.rank, group.size);
  for (Index n = mine.first; n < mine.last; ++n)
    for (Index j = 0; j < out; ++j) layer.h_n[n * out + j] = layer.output[n * problem.D * out + j];
}

}  // namespace fastlstm::FASTLSTM_ISA
