#include "team/clock.h"

#include <time.h>

#include <chrono>

namespace fastlstm {

std::int64_t wall_time() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t processor_time() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::int64_t{1'000'000'000} * spent.tv_sec + spent.tv_nsec;
}

}  // namespace fastlstm
