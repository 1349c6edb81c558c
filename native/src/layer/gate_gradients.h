// The gradients of the gates of a step.
#pragma once
#include "cell/gate_buffer.h"
#include "layer/backward_arrays.h"
#include "layer/hidden.h"

namespace fastlstm::FASTLSTM_ISA {

// Of a sum after its activation, or of the state: what the caller's gradients of single steps say.
template <class Cell>
inline Vec<RealOf<Cell>> step_gradient(const LayerBackward<Cell>& layer, Index sum, Index at, Index columns) {
  for (Index k = 0; k < kStepArrays<Cell>; ++k)
    if (Cell::kSteps[k] == sum && layer.dsteps[k] != nullptr) return load_columns(layer.dsteps[k] + at, columns);
  return broadcast(RealOf<Cell>(0));
}

// The gate gradients of one run of rows and the blocks of units [blocks); `next`: the block whose turn comes after this one. h:
// the hidden states of the block, written, or nullptr.
template <class Cell>
void gate_gradients(const LayerBackward<Cell>& layer, const Run& run, Range blocks, const BlockRows& here, const BlockRows& next,
                    RealOf<Cell>* h) {
  using Real = RealOf<Cell>;
  constexpr Index lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index ld_output = problem.D * problem.out();
  const Index stride = here.count * kRowOfGates<Cell>;
  const Index row0 = run.row - here.first;
  const Real* const gates = layer.gates + here.first * Cell::kSums * Hp;
  // What the next step will read comes meanwhile; of cells, this one has read c_prev for it. Where batch sizes differ, the row of
  // the cells after that is a guess.
  const bool fetch = run.previous >= 0;
  const BlockRows& from = fetch && !here.has(run.previous) ? next : here;
  const Index fetched_stride = from.count * kRowOfGates<Cell>;
  const Real* const fetched_gates = layer.gates + from.first * Cell::kSums * Hp + (run.previous - from.first) * kRowOfGates<Cell>;
  const Index after = 2 * run.previous - run.row;
  const Real* const fetched_c = layer.c + (after >= 0 && after < problem.rows() ? after : run.row) * Hp;
  const Real* const fetched_doutput =
      problem.P > 0 || layer.doutput == nullptr ? nullptr : layer.doutput + run.previous * ld_output;
  for (Index u = blocks.first; u < blocks.last; ++u) {
    const Index unit = u * lanes;
    const Index columns = H - unit;
    for (Index r = 0; r < run.last - run.first; ++r) {
      const Index n = run.first + r;
      const Index row = run.row + r;
      const Index at = u * kPanelsOfGates<Cell> * stride + (row0 + r) * kRowOfGates<Cell>;
      if (fetch) {
        fetch_gates<Cell>(fetched_gates + u * kPanelsOfGates<Cell> * fetched_stride + r * kRowOfGates<Cell>, fetched_stride);
        __builtin_prefetch(fetched_c + r * Hp + unit, 0, 2);
        if (fetched_doutput != nullptr) __builtin_prefetch(fetched_doutput + r * ld_output + unit, 0, 2);
      }
      const typename Cell::Gates kept = load_gates<Cell>(gates + at, stride);
      const auto out = Cell::output(Cell::shown(kept), load(layer.c + row * Hp + unit));
      if (h != nullptr) store(h + (row0 + r) * Hp + unit, out.h);
      Vec<Real> c_prev = broadcast(Real(0));
      if (run.previous >= 0) {
        c_prev = load(layer.c + (run.previous + r) * Hp + unit);
      } else if (layer.c_0 != nullptr) {
        c_prev = load_columns(layer.c_0 + n * H + unit, columns);
      }
      Vec<Real> dh;
      if (problem.P > 0) {
        dh = load(layer.dh_full + n * Hp + unit);
        const Index panel = unit / kPanel<Real>;
        store(layer.h_full + (panel * here.count + row0 + r) * kPanel<Real> + unit % kPanel<Real>, out.h);
      } else {
        dh = load(layer.dh + n * layer.out_padded() + unit);
        if (layer.doutput != nullptr) dh = dh + load_columns(layer.doutput + row * ld_output + unit, columns);
      }
      Vec<Real> dc = load(layer.dc + n * Hp + unit);
      if (layer.any_dsteps) dc = dc + step_gradient<Cell>(layer, kStateStep, row * H + unit, columns);
      typename Cell::Gates d = Cell::backward(kept, c_prev, out, dh, dc);
      if (layer.any_dsteps) {
        typename Cell::Gates of_gates;
        Cell::each(of_gates, [&](Index sum, auto& gate) { gate = step_gradient<Cell>(layer, sum, row * H + unit, columns); });
        Cell::add_gradients(kept, of_gates, d);
      }
      store(layer.dc + n * Hp + unit, dc);
      put_gates<Cell>(layer.dgates + at, stride, d, [&](ElementOf<Cell>* to, Vec<Real> a) {
        // The lanes past H may hold NaN (0 * inf): they would spread through the products.
        if (columns < lanes) store_elements(to, broadcast(Real(0)), lanes);
        store_elements(to, a, columns);
      });
    }
  }
}

// dh_projected of the rows [rows) at step t: what arrives at h_t after its projection.
template <class Cell>
void projected_gradients(const LayerBackward<Cell>& layer, Index t, Range rows, Range columns, Index first_row) {
  const Problem& problem = *layer.problem;
  const Index P = problem.P;
  for (Index n = rows.first; n < rows.last; ++n) {
    const Index row = problem.row(t) + n;
    for (Index j = columns.first; j < columns.last; ++j) {
      RealOf<Cell> d = layer.dh[n * layer.out_padded() + j];
      if (layer.doutput != nullptr) d += layer.doutput[row * problem.D * P + j];
      layer.dh_projected[(row - first_row) * P + j] = d;
    }
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
