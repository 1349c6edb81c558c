// A chain and its tangent, step by step side by side (fastlstm/chain.h): both are sums over the same panels of weights, which are
// read once for the two, and a cell takes both at once. With tangents of the weights the panels have those below, and the
// tangent's sums are over all of them.
#pragma once
#include "batch/rows.h"
#include "isa/kernels.h"
#include "layer/chain_input.h"
#include "memory/arena.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Cell>
struct DualScratch {
  using Real = RealOf<Cell>;
  Index Hp;
  Index K;  // of the panels
  Real* panels;
  Real* bias[2];   // of the chain, and of its tangent
  Real* state[2];  // c, of a GRU h, (N, Hp)
  Real* zeros;     // where there is no h_0_t
  std::size_t bytes;

  DualScratch(const Problem& problem, Index in, bool weights, void* memory)
      : Hp(rounded_up(problem.H, kLanes<Real>)),
        K((in + problem.H) * (weights ? 2 : 1)),
        panels{},
        bias{},
        state{},
        zeros{},
        bytes{} {
    Arena arena(memory);
    panels = arena.take<Real>(Cell::Input::kSpan * Hp * K);
    for (Real*& each : bias) each = arena.take<Real>(Cell::kSums * Hp);
    for (Real*& each : state) each = arena.take<Real>(problem.N * Hp);
    zeros = arena.take<Real>(problem.N * problem.H);
    bytes = arena.used();
  }
};

template <class Cell>
std::size_t dual_bytes(const Problem& problem, Index in, bool weights) {
  return DualScratch<Cell>(problem, in, weights, nullptr).bytes;
}

// A step of some rows: the chain's sums and the tangent's, and the cell of both.
template <class Cell>
struct DualStep {
  using Real = RealOf<Cell>;
  using Sums = Step<Cell, 4>;
  Sums chain;
  Sums tangent;

  struct Tile {
    const DualStep& step;
    Index block;

    template <int R, int U>
    inline void units(Index row) const {
      constexpr int lanes = kLanes<Real>;
      constexpr Index ld = U * Cell::kSums * lanes;
      alignas(64) Real sums[R][ld];
      alignas(64) Real sums_t[R][ld];
      // From the bias: what stands for a gate buffer is not read.
      typename Sums::Tile{step.chain, block}.template add_up<R, U>(row, &sums[0][0], &sums[0][0]);
      typename Sums::Tile{step.tangent, block}.template add_up<R, U>(row, &sums[0][0], &sums_t[0][0]);
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u)
          step.cell(&sums[r][u * Cell::kSums * lanes], &sums_t[r][u * Cell::kSums * lanes], row + r, (block + u) * lanes);
    }
    template <int R>
    inline void run(Index row) const {
      units<R, 1>(row);
    }
  };

  inline __attribute__((always_inline)) void cell(const Real* sums, const Real* sums_t, Index row, Index unit) const {
    using Gates = typename Cell::Gates;
    const Gates gates = Cell::activate(Sums::Tile::parked_gates(sums));
    const Gates s = Sums::Tile::parked_gates(sums_t);
    const Index at = row * chain.Hp + unit;
    const Vec<Real> before = load(chain.c + at);
    const Vec<Real> c = Cell::next_state(gates, before);
    const Vec<Real> zero = broadcast(Real(0));
    const auto next = Cell::tangent(Cell::slopes(gates, before, c), s, load(tangent.c + at), zero, zero);
    store(chain.c + at, c);
    if constexpr (Cell::kStates > 1) {
      store(tangent.c + at, next.c);
    } else {
      store(tangent.c + at, next.h);
    }
    store_columns(chain.h + row * chain.ldh + unit, Cell::output(Cell::shown(gates), c).h, chain.H - unit);
    store_columns(tangent.h + row * chain.ldh + unit, next.h, chain.H - unit);
  }

  void run(Index rows, Index blocks) const {
    constexpr int some = (8 + Cell::Input::kSpan - 1) / Cell::Input::kSpan;  // as Step::run
    for (Index block = 0; block < blocks;) {
      const Tile tile{*this, block};
      if (rows == 1 && block + some <= blocks) {
        tile.template units<1, some>(0);
        block += some;
      } else {
        for_tiles<kRowsAtOnce<kPanelVectors<typename Cell::Input>>>(rows, tile);
        ++block;
      }
    }
  }
};

template <class Cell>
void dual_chain(const ChainCall<RealOf<Cell>>& call, const ChainDual<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.chain.problem;
  const bool weights = of.weights_t != nullptr;
  const DualScratch<Cell> scratch(problem, of.in, weights, call.scratch);
  const Index H = problem.H;
  const Index Hp = scratch.Hp;
  const Range rows = share_rows(problem, 0, problem.T, member.rank, member.size);
  const Real* const firsts[] = {Cell::kStates > 1 ? of.c_0 : of.h_0, Cell::kStates > 1 ? of.c_0_t : of.h_0_t};
  for (Index k = 0; k < 2; ++k) load_states(firsts[k], scratch.state[k], rows, H, Hp);
  for (Index j = rows.first * H; j < rows.last * H; ++j) scratch.zeros[j] = Real(0);
  pack_chain<Cell>(of.weights, of.in, H, scratch.panels, 0, scratch.K, scratch.bias[0], member);
  if (weights) {
    pack_chain<Cell>(*of.weights_t, of.in, H, scratch.panels, of.in + H, scratch.K, scratch.bias[1], member);
  } else {
    const Range blocks = share(unit_blocks<Real>(H), member.rank, member.size);
    for (Index j = blocks.first * Cell::kSums * kLanes<Real>; j < blocks.last * Cell::kSums * kLanes<Real>; ++j)
      scratch.bias[1][j] = Real(0);
  }
  member.barrier->wait();

  DualStep<Cell> step{};
  step.chain.panels = step.tangent.panels = scratch.panels;
  step.chain.K = step.tangent.K = scratch.K;
  step.chain.Hp = step.tangent.Hp = Hp;
  step.chain.H = step.chain.ldh = H;
  step.chain.bias = scratch.bias[0];
  step.tangent.bias = scratch.bias[1];
  for (Index k = 0; k < problem.T; ++k) {
    Run runs[2];
    const int count = step_runs(problem, call.chain.reverse ? 1 : 0, call.chain.reverse ? problem.T - 1 - k : k, rows, runs);
    for (int r = 0; r < count; ++r) {
      const Run& run = runs[r];
      const bool first = run.previous < 0;
      const Real* const h_0_t = of.h_0_t == nullptr ? scratch.zeros : of.h_0_t;
      const Real* const h = first ? of.h_0 + run.first * H : of.h + run.previous * H;
      const Real* const h_t = first ? h_0_t + run.first * H : of.h_t + run.previous * H;
      const Real* const x = of.x + run.row * of.in;
      step.chain.segments[0] = {x, of.in, 0, of.in, false};
      step.chain.segments[1] = {h, H, of.in, H, true};
      step.chain.segment_count = 2;
      int s = 0;
      if (of.x_t != nullptr) step.tangent.segments[s++] = {of.x_t + run.row * of.in, of.in, 0, of.in, false};
      step.tangent.segments[s++] = {h_t, H, of.in, H, true};
      if (weights) {
        step.tangent.segments[s++] = {x, of.in, of.in + H, of.in, false};
        step.tangent.segments[s++] = {h, H, 2 * of.in + H, H, true};
      }
      step.tangent.segment_count = s;
      step.chain.c = scratch.state[0] + run.first * Hp;
      step.tangent.c = scratch.state[1] + run.first * Hp;
      step.chain.h = of.h + run.row * H;
      step.tangent.h = of.h_t + run.row * H;
      step.run(run.last - run.first, unit_blocks<Real>(H));
    }
  }
  if constexpr (Cell::kStates > 1)
    for (Index n = rows.first; n < rows.last; ++n)
      for (Index j = 0; j < H; ++j) {
        of.c_n[n * H + j] = scratch.state[0][n * Hp + j];
        of.c_n_t[n * H + j] = scratch.state[1][n * Hp + j];
      }
}

}  // namespace fastlstm::FASTLSTM_ISA
