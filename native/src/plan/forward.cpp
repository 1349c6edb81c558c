#include "plan/forward.h"

#include <algorithm>

#include "plan/split.h"
#include "product/parts.h"

namespace fastlstm {
namespace {

using Index = std::int64_t;

// So many saved gates will have left most of the caches before backward comes, and no step reads them.
constexpr Index kStreamedBytes = Index{16} << 20;

bool streams(const Problem& problem, Index in, const Machine& machine) {
  const Index terms = machine.terms(in) + machine.terms(problem.out());
  if (is_cut(terms)) return false;  // a step reads what its sums were after the cut before
  return problem.rows() * machine.sums * machine.padded(problem.H) * machine.real_bytes() >= kStreamedBytes;
}

}  // namespace

ForwardPlan plan_forward(const Problem& problem, Index in, int threads, const Machine& machine, const ForwardFacts& facts) {
  ForwardPlan plan{};
  plan.one_step = problem.T == 1;
  plan.tiled = machine.has_tiles && problem.T > 1 && in >= kTiledSize && problem.H >= kTiledSize;
  const Split split = split_steps(problem, plan.tiled ? 0 : in, threads, machine, facts.one_by_one);
  plan.by_direction = split.by_direction;
  plan.by_unit = split.by_unit;
  // Where a step's own rows would not fill tiles, but those of all steps of a block do. Or where half of the weights then come
  // from memory once a block, not once a step, and the buffer in between is small beside them: 2 N numbers a gate, not `in`. Not
  // by rows: they stand apart in the block.
  const bool worth = split.rows < 12 || (split.far && 8 * split.rows <= static_cast<double>(in));
  const bool together = plan.by_unit || split.team == 1;
  plan.project = plan.tiled || (problem.T > 1 && worth && together);
  // The panels stay in L2, all in one place, where they meet all rows they ever will in one block: (5, 1, 512, 512) 1.1 to 1.4x,
  // at 100 steps 1.05x.
  plan.packed = facts.packed && !plan.one_step && !(split.team > 1 && !plan.by_unit && packs_anyway(problem, threads));
  plan.pack_late = !plan.packed && plan.project && !plan.tiled && problem.blocks() == 1 && together;
  plan.stream = facts.saves && !plan.project && streams(problem, in, machine);
  plan.by_block = brings_by_block(problem, facts.rows_elsewhere);
  return plan;
}

bool packs_anyway(const Problem& problem, int threads) { return threads > 1 && problem.rows() > kRowsToPack; }

bool brings_by_block(const Problem& problem, bool rows_elsewhere) { return rows_elsewhere && problem.D == 1 && problem.T > 1; }

Index widest_input(const Problem& problem) { return std::max(problem.I, problem.layers > 1 ? problem.layer_input(1) : 0); }

}  // namespace fastlstm
