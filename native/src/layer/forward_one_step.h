// A single step (T = 1), forward: it reads the weights where they are.
#pragma once
#include "layer/forward_arrays.h"
#include "layer/group.h"
#include "product/one_row.h"

namespace fastlstm::FASTLSTM_ISA {

// pre[b][lane] for A units of one sum and B rows of the batch: W x + R h, from these rows of the weights on; -1: not of them.
template <int A, int B, class Cell>
inline void preactivations(const LayerForward<Cell>& layer, Index input_row, Index hidden_row, Index n, RealOf<Cell>* pre) {
  using Real = RealOf<Cell>;
  constexpr Index ld_pre = Cell::kSums * kLanes<Real>;
  const Index out = layer.problem->out();
  Vec<Real> sums[A][B];
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) sums[w][b] = broadcast(Real(0));
  // First the recurrent terms: mostly the smaller ones, they would be rounded at the size of the others.
  if (layer.h_0 != nullptr && hidden_row >= 0)
    visit(layer.weights.w_hh,
          [&](const auto* w) { dot<Real, A, B>(sums, w + hidden_row * out, out, layer.h_0 + n * out, out, out); });
  if (input_row >= 0)
    visit(layer.weights.w_ih, [&](const auto* w) {
      dot<Real, A, B>(sums, w + input_row * layer.in, layer.in, layer.x + n * layer.in, layer.in, layer.in);
    });
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) pre[b * ld_pre + w] = sum_of_lanes(sums[w][b]);
}

// One block of units, B rows: the cell, as in Step.
template <int B, class Cell>
inline void one_step_block(const LayerForward<Cell>& layer, Index u, Index n) {
  using Real = RealOf<Cell>;
  constexpr int lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const int units = static_cast<int>(H - u * lanes < lanes ? H - u * lanes : lanes);
  Real pre[B][Cell::kSums * lanes] = {};
  for (Index sum = 0; sum < Cell::kSums; ++sum) {
    const auto row = [&](Index gate, int lane) { return gate < 0 ? -1 : gate * H + u * lanes + lane; };
    const auto add = [&]<int A>(int lane) {
      preactivations<A, B>(layer, row(Cell::Input::gates[sum], lane), row(Cell::Hidden::gates[sum], lane), n,
                           &pre[0][sum * lanes + lane]);
    };
    constexpr int wide = B == 1 ? 8 : 4;  // sums in flight: 8 hide the latency, 4 x 3 fill 16 registers
    int lane = 0;
    for (; lane + wide <= units; lane += wide) add.template operator()<wide>(lane);
    for (; lane < units; ++lane) add.template operator()<1>(lane);
  }
  const Real* const bias = layer.bias + u * Cell::kSums * lanes;
  for (int b = 0; b < B; ++b) {
    typename Cell::Gates sums;
    Cell::each(sums, [&](Index sum, auto& gate) { gate = load(&pre[b][sum * lanes]) + load(bias + sum * lanes); });
    const typename Cell::Gates gates = Cell::activate(sums);
    const Index row = n + b;
    const Vec<Real> c_prev =
        layer.c_0 == nullptr ? broadcast(Real(0)) : load_columns(layer.c_0 + row * H + u * lanes, H - u * lanes);
    const Vec<Real> c = Cell::next_state(gates, c_prev);
    if (layer.gates != nullptr) {
      store_gates<Cell>(layer.gates + u * kPanelsOfGates<Cell> * problem.N * kRowOfGates<Cell> + row * kRowOfGates<Cell>,
                        problem.N * kRowOfGates<Cell>, gates);
      store(layer.c + row * Hp + u * lanes, c);
    }
    if constexpr (Cell::kStates > 1) store_columns(layer.c_n + row * H + u * lanes, c, H - u * lanes);
    const Vec<Real> h = Cell::output(Cell::shown(gates), c).h;
    Real* const to = problem.P > 0 ? layer.h_full + row * Hp : layer.output + row * problem.D * H;
    store_columns(to + u * lanes, h, H - u * lanes);
  }
}

// A projected h: P is small beside H, one dot product each.
template <class Cell>
void one_step_projection(const LayerForward<Cell>& layer, Range columns) {
  using Real = RealOf<Cell>;
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

template <class Cell>
void forward_one_step(const LayerForward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Range blocks = share(unit_blocks<Real>(problem.H), group.rank, group.size);
  pack_bias<typename Cell::Input, typename Cell::Hidden>(layer.weights, problem.H, layer.bias, blocks.first, blocks.last);
  for (Index u = blocks.first; u < blocks.last; ++u) {
    Index n = 0;
    for (; n + 3 <= problem.N; n += 3) one_step_block<3>(layer, u, n);
    for (; n < problem.N; ++n) one_step_block<1>(layer, u, n);
  }
  if (problem.P > 0) {
    group.barrier->wait();
    one_step_projection(layer, share(problem.P, group.rank, group.size));
  }
  group.barrier->wait();
  const Index out = problem.out();
  const Range mine = share(problem.N, group.rank, group.size);
  for (Index n = mine.first; n < mine.last; ++n)
    for (Index j = 0; j < out; ++j) layer.h_n[n * out + j] = layer.output[n * problem.D * out + j];
}

}  // namespace fastlstm::FASTLSTM_ISA
