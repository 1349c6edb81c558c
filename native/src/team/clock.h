// The times that a team is judged by, in nanoseconds.
#pragma once
#include <cstdint>

namespace fastlstm {

std::int64_t wall_time();

struct Times {
  std::int64_t wall;
  std::int64_t processor;  // processor_time of platform/threads.h
};

}  // namespace fastlstm
