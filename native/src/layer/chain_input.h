// A chain from its input: what `chain_forward` is given added up on the way, over the same panels as R h_{t-1}, where it is not
// written and read again (fastlstm/chain.h).
#pragma once
#include "batch/rows.h"
#include "isa/kernels.h"
#include "layer/step.h"
#include "memory/arena.h"
#include "product/pack.h"

namespace fastlstm::FASTLSTM_ISA {

// The panels of a chain's weights, W above R, and its biases: of a member's share of the units. K: how deep the panels are; k0:
// where these begin in them.
template <class Cell>
void pack_chain(const Weights<RealOf<Cell>>& weights, Index in, Index H, RealOf<Cell>* panels, Index k0, Index K,
                RealOf<Cell>* bias, const Member& member) {
  using Real = RealOf<Cell>;
  using Input = typename Cell::Input;
  using Hidden = typename Cell::Hidden;
  const Range blocks = share(unit_blocks<Real>(H), member.rank, member.size);
  Real* const mine = panels + blocks.first * kBlockPanels<Input> * K * kGatePanel<Input, Real>;
  pack_gates<Input>(weights.w_ih, H, in, mine, k0, K, blocks.first, blocks.last);
  pack_gates<Hidden>(weights.w_hh, H, H, mine, k0 + in, K, blocks.first, blocks.last);
  pack_bias<Input, Hidden>(weights, H, bias, blocks.first, blocks.last);
}

template <class Cell>
struct ChainInputScratch {
  using Real = RealOf<Cell>;
  Index Hp;
  Index K;  // of the panels
  Real* panels;
  Real* bias;
  Real* state;  // c, of a GRU h, (N, Hp)
  Real* gates;  // of a step: a gate buffer for each run
  std::size_t bytes;

  ChainInputScratch(const Problem& problem, Index in, void* memory)
      : Hp(rounded_up(problem.H, kLanes<Real>)), K(in + problem.H), panels{}, bias{}, state{}, gates{}, bytes{} {
    Arena arena(memory);
    panels = arena.take<Real>(Cell::Input::kSpan * Hp * K);
    bias = arena.take<Real>(Cell::kSums * Hp);
    state = arena.take<Real>(problem.N * Hp);
    gates = arena.take<Real>(problem.N * Cell::kSums * Hp);
    bytes = arena.used();
  }
};

template <class Cell>
std::size_t chain_input_bytes(const Problem& problem, Index in) {
  return ChainInputScratch<Cell>(problem, in, nullptr).bytes;
}

// The initial states of some rows, as steps read them; nullptr: zeros.
template <class Real>
void load_states(const Real* from, Real* to, Range rows, Index H, Index Hp) {
  for (Index n = rows.first; n < rows.last; ++n)
    for (Index j = 0; j < Hp; ++j) to[n * Hp + j] = from == nullptr || j >= H ? Real(0) : from[n * H + j];
}

// What a step of a run's rows left in scratch, in rows.
template <class Cell>
void unload_step(const Step<Cell>& step, const ChainOfInput<RealOf<Cell>>& of, const Run& run) {
  using Real = RealOf<Cell>;
  const Index H = step.H;
  for (Index r = 0; r < run.last - run.first; ++r) {
    const Index row = run.row + r;
    for (Index block = 0; block < unit_blocks<Real>(H); ++block) {
      const Index unit = block * kLanes<Real>;
      const Real* const at = step.gates + block * kPanelsOfGates<Cell> * step.gates_panel_stride + r * kRowOfGates<Cell>;
      const typename Cell::Gates gates = load_gates<Cell>(at, step.gates_panel_stride);
      Cell::each(gates, [&](Index sum, const auto& gate) {
        store_columns(of.gates + (row * Cell::kSums + sum) * H + unit, gate, H - unit);
      });
      if constexpr (Cell::kStates > 1) store_columns(of.c + row * H + unit, load(step.c + r * step.Hp + unit), H - unit);
    }
  }
}

// By the steps of the layer itself, which keep their gates: written out while they are in a cache. Tiles of its own, which wrote
// rows at once, took nine tenths of the time, and 0.35 MB of code.
template <class Cell>
void chain_of_input(const ChainCall<RealOf<Cell>>& call, const ChainOfInput<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.chain.problem;
  const bool reverse = call.chain.reverse;
  const ChainInputScratch<Cell> scratch(problem, of.in, call.scratch);
  const Index H = problem.H;
  const Range rows = share_rows(problem, 0, problem.T, member.rank, member.size);
  load_states(Cell::kStates > 1 ? of.c_0 : of.h_0, scratch.state, rows, H, scratch.Hp);
  pack_chain<Cell>(of.weights, of.in, H, scratch.panels, 0, scratch.K, scratch.bias, member);
  member.barrier->wait();

  Step<Cell> step{};
  step.panels = scratch.panels;
  step.K = scratch.K;
  step.bias = scratch.bias;
  step.segment_count = 2;
  step.keep_gates = Step<Cell>::Keep::stored;
  step.Hp = scratch.Hp;
  step.H = step.ldh = H;
  for (Index k = 0; k < problem.T; ++k) {
    Run runs[2];
    const int count = step_runs(problem, reverse ? 1 : 0, reverse ? problem.T - 1 - k : k, rows, runs);
    for (int r = 0; r < count; ++r) {
      const Run& run = runs[r];
      const Real* const h_before = run.previous < 0 ? of.h_0 + run.first * H : of.h + run.previous * H;
      step.segments[0] = {of.x + run.row * of.in, of.in, 0, of.in, false};
      step.segments[1] = {h_before, H, of.in, H, true};
      step.gates = scratch.gates + run.first * Cell::kSums * scratch.Hp;
      step.gates_panel_stride = (run.last - run.first) * kRowOfGates<Cell>;
      step.c = scratch.state + run.first * scratch.Hp;
      step.c_prev = step.c;
      step.h = of.h + run.row * H;
      step.run(run.last - run.first, {0, unit_blocks<Real>(H)});
      unload_step<Cell>(step, of, run);
    }
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
