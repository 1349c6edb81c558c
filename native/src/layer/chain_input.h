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
  Index K;  // of the panels
  Real* panels;
  Real* bias;
  std::size_t bytes;

  ChainInputScratch(const Problem& problem, Index in, void* memory) : K(in + problem.H), panels{}, bias{}, bytes{} {
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    Arena arena(memory);
    panels = arena.take<Real>(Cell::Input::kSpan * Hp * K);
    bias = arena.take<Real>(Cell::kSums * Hp);
    bytes = arena.used();
  }
};

template <class Cell>
std::size_t chain_input_bytes(const Problem& problem, Index in) {
  return ChainInputScratch<Cell>(problem, in, nullptr).bytes;
}

// All rows and blocks of units of a step, tile by tile: as Step::run.
template <class Cell, class Tiled>
void run_tiles(const Tiled& step, Index rows, Index blocks) {
  constexpr int some = (8 + Cell::Input::kSpan - 1) / Cell::Input::kSpan;
  for (Index block = 0; block < blocks;) {
    const typename Tiled::Tile tile{step, block};
    if (rows == 1 && block + some <= blocks) {
      tile.template units<1, some>(0);
      block += some;
    } else {
      for_tiles<kRowsAtOnce<kPanelVectors<typename Cell::Input>>>(rows, tile);
      ++block;
    }
  }
}

// A step of some rows, whose gates stand in rows like its states.
template <class Cell>
struct ChainStep {
  using Real = RealOf<Cell>;
  using Sums = Step<Cell>;
  Sums sums;
  const Real* before;  // c, of a GRU h, a step before; rows H apart, as those below
  Real* h;
  Real* c;      // nullptr: it is h
  Real* gates;  // rows S * H apart
  Index H;

  struct Tile {
    const ChainStep& step;
    Index block;

    template <int R, int U>
    inline void units(Index row) const {
      constexpr int lanes = kLanes<Real>;
      constexpr Index each = Cell::kSums * lanes;
      alignas(64) Real parked[R][U * each];
      // From the bias: what stands for a gate buffer is not read.
      typename Sums::Tile{step.sums, block}.template add_up<R, U>(row, &parked[0][0], &parked[0][0]);
      // All rows to their state first, then all to their h: as in Step.
      Vec<Real> states[R][U];
      Vec<Real> shown[R][U];
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u)
          states[r][u] = step.state(Sums::Tile::parked_gates(&parked[r][u * each]), row + r, (block + u) * lanes, shown[r][u]);
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u) step.output(shown[r][u], states[r][u], row + r, (block + u) * lanes);
    }
    template <int R>
    inline void run(Index row) const {
      units<R, 1>(row);
    }
  };

  inline __attribute__((always_inline)) Vec<Real> state(const typename Cell::Gates& pre, Index row, Index unit,
                                                        Vec<Real>& shown) const {
    const typename Cell::Gates all = Cell::activate(pre);
    Cell::each(all,
               [&](Index sum, const auto& gate) { store_columns(gates + (row * Cell::kSums + sum) * H + unit, gate, H - unit); });
    shown = Cell::shown(all);
    return Cell::next_state(all, load_columns(before + row * H + unit, H - unit));
  }
  inline __attribute__((always_inline)) void output(Vec<Real> shown, Vec<Real> state, Index row, Index unit) const {
    if constexpr (Cell::kStates > 1) store_columns(c + row * H + unit, state, H - unit);
    store_columns(h + row * H + unit, Cell::output(shown, state).h, H - unit);
  }
};

template <class Cell>
void chain_of_input(const ChainCall<RealOf<Cell>>& call, const ChainOfInput<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.chain.problem;
  const bool reverse = call.chain.reverse;
  const ChainInputScratch<Cell> scratch(problem, of.in, call.scratch);
  const Index H = problem.H;
  const Range rows = share_rows(problem, 0, problem.T, member.rank, member.size);
  pack_chain<Cell>(of.weights, of.in, H, scratch.panels, 0, scratch.K, scratch.bias, member);
  member.barrier->wait();

  ChainStep<Cell> step{};
  step.sums.panels = scratch.panels;
  step.sums.K = scratch.K;
  step.sums.bias = scratch.bias;
  step.sums.segment_count = 2;
  step.H = H;
  Real* const states = Cell::kStates > 1 ? of.c : of.h;
  const Real* const first = Cell::kStates > 1 ? of.c_0 : of.h_0;
  for (Index k = 0; k < problem.T; ++k) {
    Run runs[2];
    const int count = step_runs(problem, reverse ? 1 : 0, reverse ? problem.T - 1 - k : k, rows, runs);
    for (int r = 0; r < count; ++r) {
      const Run& run = runs[r];
      const auto a_step_before = [&](const Real* all, const Real* initial) {
        return run.previous < 0 ? initial + run.first * H : all + run.previous * H;
      };
      step.sums.segments[0] = {of.x + run.row * of.in, of.in, 0, of.in, false};
      step.sums.segments[1] = {a_step_before(of.h, of.h_0), H, of.in, H, true};
      step.before = a_step_before(states, first);
      step.h = of.h + run.row * H;
      step.c = Cell::kStates > 1 ? of.c + run.row * H : nullptr;
      step.gates = of.gates + run.row * Cell::kSums * H;
      run_tiles<Cell>(step, run.last - run.first, unit_blocks<Real>(H));
    }
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
