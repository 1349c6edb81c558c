// What forward saved, read out: every layer's cells and gates at every step, and the hidden states in between.
#pragma once
#include <type_traits>

#include "cell/gate_buffer.h"
#include "isa/kernels.h"
#include "layer/saved.h"
#include "layer/transfer.h"

namespace fastlstm::FASTLSTM_ISA {

// Row k of an array of steps; nullptr: not wanted, or its rows stand nowhere.
template <class Element, class Real>
inline Element* row_of(const Target<Real>& array, Index k, Index width) {
  if (array == nullptr || (array.rows != nullptr && array.rows[k] < 0)) return nullptr;
  return static_cast<Element*>(array.data) + (array.rows == nullptr ? k : array.rows[k]) * width;
}

template <class Real>
void read_steps(const Problem& problem, const Saved<Real>& saved, Index layer, Index direction, const Steps<Target<Real>>& to,
                Range rows) {
  const Index H = problem.H;
  const Index Hp = saved.Hp();
  visit(to.c, [&](auto* c_data) {
    using Element = std::remove_pointer_t<decltype(c_data)>;
    for (Index b = 0; b < problem.blocks(); ++b) {
      const Index first = problem.row(problem.block(b));
      const Index end = problem.row(problem.block(b + 1));
      const Index stride = (end - first) * kPanel<Real>;
      const Real* const gates = saved.gates(layer, direction) + first * 4 * Hp;
      for (Index k = first > rows.first ? first : rows.first; k < end && k < rows.last; ++k) {
        Element* const c = row_of<Element>(to.c, k, H);
        Element* const i = row_of<Element>(to.i, k, H);
        Element* const f = row_of<Element>(to.f, k, H);
        Element* const g = row_of<Element>(to.g, k, H);
        Element* const o = row_of<Element>(to.o, k, H);
        const Real* const kept_c = saved.c(layer, direction) + k * Hp;
        for (Index unit = 0; unit < H; unit += kLanes<Real>) {
          const Index u = unit / kLanes<Real>;
          const Gates<Real> kept = load_gates(gates + u * kBlockPanels * stride + (k - first) * kPanel<Real>, stride);
          const Index columns = H - unit;
          if (c != nullptr) store_columns(c + unit, load(kept_c + unit), columns);
          if (i != nullptr) store_columns(i + unit, kept.i, columns);
          if (f != nullptr) store_columns(f + unit, kept.f, columns);
          if (g != nullptr) store_columns(g + unit, kept.g, columns);
          if (o != nullptr) store_columns(o + unit, kept.o, columns);
        }
      }
    }
  });
}

template <class Real>
void trace_layers(const TraceCall<Real>& call, const Member& member) {
  const Problem& problem = call.problem;
  const Saved<Real> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const Ends ends(problem);
  for (Index k = 0; k < problem.layers; ++k) {
    for (Index d = 0; d < problem.D; ++d)
      read_steps(problem, saved, k, d, call.steps[k * problem.D + d], share(problem.rows(), member.rank, member.size));
    if (k + 1 < problem.layers) send_share<Real>(saved.output(k), call.hidden[k], ends.output, member);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
