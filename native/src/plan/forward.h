// Who computes what, forward: a pure function of the sizes, the number of threads and the machine. The kernels obey it.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"
#include "plan/machine.h"

namespace fastlstm {

// Of one layer.
struct ForwardPlan {
  bool one_step;      // T = 1: the weights are read where they are, not packed; of what follows only by_direction counts
  bool by_direction;  // half of the threads for each direction; in each half (or in the one team):
  bool by_unit;       // every thread has its own hidden units (one barrier a step); else its own rows (none at all)
  bool project;       // the input projection of a whole block of steps goes ahead of the recurrence; else it is part of each step
  bool packed;        // the weights are packed already; else
  bool pack_late;     // a member packs its panels of the input's weights one by one, each just before its only use
  bool tiled;         // that projection, on matrix tiles: this must not depend on N, since a row's bits depend on it
  bool stream;        // saved gates go past the caches
  bool by_block;      // x and output, whose rows stand elsewhere, are brought and sent a block of steps at a time
};

// What decides beside sizes, threads and machine.
struct ForwardFacts {
  bool saves = false;           // gates and cells, for backward
  bool rows_elsewhere = false;  // those of x and output
  bool packed = false;          // the weights are, before the call
  bool one_by_one = false;      // the directions, by the whole team: as backward computes them again
};

// `in`: the layer's input size; `threads`: of the team.
ForwardPlan plan_forward(const Problem& problem, std::int64_t in, int threads, const Machine& machine,
                         const ForwardFacts& facts = {});

// Weights that are packed already are packed again for so many rows of a team that splits rows, where all members read all
// panels: then each has half of them in its cache as its own. (T, N, I, H) = (128, 16, 64, 256) on two threads took 5.1 to 5.4 ms
// and takes 4.85 so; (16, 16, 64, 256) 0.74 and would, so it reads them as they are, 0.58.
inline constexpr std::int64_t kRowsToPack = 1024;
bool packs_anyway(const Problem& problem, int threads);

// x, output and their gradients are brought and sent a block of steps at a time where their rows stand elsewhere, through memory
// that stays in L2: all at once took 1.1 to 1.2x the time of a call. Of one direction only: of two, each would do it.
bool brings_by_block(const Problem& problem, bool rows_elsewhere);

// Inputs and hidden sizes from which matrix tiles pay: at 128, splitting numbers into parts takes what the products save.
inline constexpr std::int64_t kTiledSize = 256;

std::int64_t widest_input(const Problem& problem);  // of all layers

}  // namespace fastlstm
