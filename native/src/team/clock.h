// The times that a team is judged by, in nanoseconds.
#pragma once
#include <cstdint>

namespace fastlstm {

std::int64_t wall_time();
std::int64_t processor_time();  // of this thread; takes 300

struct Times {
  std::int64_t wall;
  std::int64_t processor;
};

}  // namespace fastlstm
