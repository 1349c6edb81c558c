// A call's plan in words.
#pragma once
#include <vector>

#include "fastlstm/engine.h"
#include "plan/machine.h"

namespace fastlstm {

// threads: as many as the caller lets work.
std::vector<Decision> plan_in_words(const Problem& problem, int threads, bool training, bool rows_elsewhere,
                                    const Machine& machine);

}  // namespace fastlstm
