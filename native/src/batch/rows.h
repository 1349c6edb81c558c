// Which rows of a sequence the steps of a batch have, and where their previous states stand.
#pragma once
#include "batch/index.h"
#include "batch/share.h"
#include "isa/vec.h"

namespace fastlstm::FASTLSTM_ISA {

// The rows of a step whose previous state stands in one place, as arrays with a fixed distance between rows.
struct Run {
  Index first;  // row of the batch
  Index last;
  Index row;       // of the sequence, for `first`
  Index previous;  // row of the sequence with its previous state; -1: the state is the initial one
};

// The rows [range) of step t: those that have a previous step in this direction, then those that start at t.
inline int step_runs(const Problem& problem, int direction, Index t, Range range, Run (&runs)[2]) {
  const Index before = direction == 0 ? t - 1 : t + 1;
  const Index last = range.last < problem.batch(t) ? range.last : problem.batch(t);
  Index started = before >= 0 && before < problem.T ? problem.batch(before) : 0;
  if (started > last) started = last;
  int count = 0;
  if (range.first < started)
    runs[count++] = {range.first, started, problem.row(t) + range.first, problem.row(before) + range.first};
  const Index start = started > range.first ? started : range.first;
  if (start < last) runs[count++] = {start, last, problem.row(t) + start, -1};
  return count;
}

inline Index largest_block(const Problem& problem) {
  Index rows = 0;
  for (Index b = 0; b < problem.blocks(); ++b) {
    const Index here = problem.row(problem.block(b + 1)) - problem.row(problem.block(b));
    if (here > rows) rows = here;
  }
  return rows;
}

inline Index largest_span(const Problem& problem) {
  Index rows = 0;
  for (Index s = 0; s < problem.spans(); ++s) {
    const Index here = problem.row(problem.block(problem.span(s + 1))) - problem.row(problem.block(problem.span(s)));
    if (here > rows) rows = here;
  }
  return rows;
}

// How many Reals a checkpoint has: h (N, out), then c (N, Hp).
inline Index checkpoint_size(const Problem& problem, Index Hp) { return problem.N * (problem.out() + Hp); }

// Which checkpoint a direction comes to after its steps of a block; -1: none.
inline Index checkpoint_after(const Problem& problem, int direction, Index block) {
  const Index edge = direction == 0 ? block + 1 : block;
  Index first = 1;
  for (Index last = problem.spans(); first < last;) {
    const Index middle = (first + last) / 2;
    if (problem.span(middle) < edge) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first < problem.spans() && problem.span(first) == edge ? first - 1 : -1;
}

// Whether the block [t0, t1) of a dense batch has as many steps as the one that ran before it.
inline bool same_shape(const Problem& problem, Index t0, Index t1, int direction) {
  if (problem.rows() != problem.T * problem.N) return false;
  for (Index b = 0; b < problem.blocks(); ++b)
    if (direction == 0 ? problem.block(b + 1) == t0 : problem.block(b) == t1)
      return problem.block(b + 1) - problem.block(b) == t1 - t0;
  return false;
}

// The rows of the sequence that the steps of a block have; of a block that is none, none.
struct BlockRows {
  Index first;
  Index count;

  BlockRows(const Problem& problem, Index block) : first(0), count(0) {
    if (block < 0 || block >= problem.blocks()) return;
    first = problem.row(problem.block(block));
    count = problem.row(problem.block(block + 1)) - first;
  }
  bool has(Index row) const { return row >= first && row < first + count; }
};

// use(k) for the rows [rows) of the steps [t0, t1)
template <class Use>
inline void for_steps(const Problem& problem, Index t0, Index t1, const Range& rows, const Use& use) {
  for (Index t = t0; t < t1; ++t) {
    const Index last = rows.last < problem.batch(t) ? rows.last : problem.batch(t);
    for (Index n = rows.first; n < last; ++n) use(problem.row(t) + n);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
