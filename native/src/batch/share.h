// Who of a team takes which part.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"

namespace fastlstm {

struct Range {
  std::int64_t first;
  std::int64_t last;
};

// The part of `count` that thread `rank` of `size` takes.
Range share(std::int64_t count, int rank, int size);
// The rows of the batch that it takes of the steps [t0, t1), with nearly equal work: in a packed batch the first rows are the
// longest.
Range share_rows(const Problem& problem, std::int64_t t0, std::int64_t t1, int rank, int size);

}  // namespace fastlstm
