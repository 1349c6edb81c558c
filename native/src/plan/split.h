// How a team splits a step: by directions, by rows or by hidden units. The costs that decide it.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"
#include "plan/machine.h"

namespace fastlstm {

struct Split {
  bool by_direction;  // half of the threads for each direction; in each half (or in the one team):
  bool by_unit;       // every thread has its own hidden units (one barrier a step); else its own rows (none at all)
  int team;           // the threads of a direction
  double rows;        // of a step, on average
  bool far;           // no cache holds the weights from step to step
};

// Of a layer whose steps multiply `in` inputs and the hidden state. one_by_one: its directions, by the whole team.
Split split_steps(const Problem& problem, std::int64_t in, int threads, const Machine& machine, bool one_by_one = false);

}  // namespace fastlstm
