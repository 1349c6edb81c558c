#include "plan/backward.h"

#include "plan/forward.h"
#include "plan/split.h"
#include "product/parts.h"

namespace fastlstm {
namespace {

using Index = std::int64_t;

// Whether products go to matrix tiles: the gradients' bits may depend on N.
bool uses_tiles(const Problem& problem, const Machine& machine) {
  return machine.has_tiles && problem.T > 1 && problem.H >= kTiledSize && problem.rows() >= 4 * kTiledRows;
}

// Whether that of a step does: fewer rows do not fill them once they are shared. By N alone, or the gradients' bits would depend
// on the number of threads.
bool fills_tiles(const Problem& problem) { return problem.N >= 2 * kTiledRows; }

// With one set of gate gradients and sums for all, a member reads what the others wrote for its share of the weights, and writes
// the next step's into lines that they have read: where two threads are far apart (two of a server's L3), backward took as long
// as one thread at (512, 64, 7, 64). There are two halves whatever the number of threads: the order of additions, so the bits,
// follow them. Two sets of larger sums would cost more than they save, as they do where there are few rows to sum. Few rows a
// step would not fill tiles. Nor on matrix tiles, which share a block by units; nor with a projection, nor of pairs.
constexpr Index kMostHalved = Index{1} << 20;  // bytes of sums
constexpr Index kFewestHalved = 2 * Problem::kBlockRows;

bool in_halves(const Problem& problem, const Machine& machine) {
  if (machine.products > 1 || problem.P > 0 || problem.N < 16 || problem.rows() < kFewestHalved) return false;
  if (uses_tiles(problem, machine)) return false;
  const Index sums = (widest_input(problem) + problem.out() + 1) * machine.sums * machine.padded(problem.H);
  return sums * machine.real_bytes() <= kMostHalved;
}

}  // namespace

BackwardPlan plan_backward(const Problem& problem, int threads, const Machine& machine, const BackwardFacts& facts) {
  BackwardPlan plan{};
  plan.one_step = problem.T == 1 && problem.N <= kFewRows && !facts.step_gradients;
  plan.tiled = uses_tiles(problem, machine);
  plan.tiled_steps = plan.tiled && fills_tiles(problem);
  plan.halves = in_halves(problem, machine);
  plan.parted = plan.halves && threads % 2 == 0;
  if (plan.tiled_steps) {
    // A tile of one row costs what one of sixteen does, so the rows of a step stay together: with two threads up to 1.3x in
    // packed batches, 1.0 to 1.1x in dense ones.
    plan.by_unit = threads > 1 && problem.H >= 16 * threads;
  } else {
    plan.by_unit = !plan.halves && split_steps(problem, 0, threads, machine).by_unit;
  }
  plan.restores_hidden = machine.states > 1 && problem.P == 0 && problem.T > 1;  // a single step reads h_0 alone
  // Not on tiles: whether they hold x and doutput is seen before the first block.
  plan.by_block = brings_by_block(problem, facts.rows_elsewhere) && !plan.tiled;
  return plan;
}

}  // namespace fastlstm
