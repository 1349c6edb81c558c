// Who computes what, backward: a pure function of the sizes, the number of threads and the machine. The kernels obey it. Both
// directions add to dx, so they go one after the other, the whole team at each: the order of additions is fixed.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"
#include "plan/machine.h"

namespace fastlstm {

// Of all layers. What sums depend on (all but by_unit and parted) is the same for any number of threads.
struct BackwardPlan {
  bool one_step;         // T = 1 and few rows: the weights are read where they are, not packed; nothing else counts
  bool by_unit;          // every thread has its own hidden units; else its own rows
  bool tiled;            // what a block gives to dx and the weights goes to matrix tiles
  bool tiled_steps;      // and the product of each step
  bool halves;           // each half of the batch has gate gradients and sums of its own
  bool parted;           // and half of the team
  bool restores_hidden;  // h_t is had again from o and c
  bool by_block;         // x, doutput and dx, whose rows stand elsewhere, are brought and sent a block of steps at a time
};

// What decides beside sizes, threads and machine.
struct BackwardFacts {
  bool rows_elsewhere = false;  // those of x, output and their gradients
  bool step_gradients = false;  // there are gradients of single gates and cells
};

BackwardPlan plan_backward(const Problem& problem, int threads, const Machine& machine, const BackwardFacts& facts = {});

inline constexpr std::int64_t kTiledRows = 16;  // of a matrix tile: as many cost what one does

}  // namespace fastlstm
