#include "team/clock.h"

#include <chrono>

namespace fastlstm {

std::int64_t wall_time() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace fastlstm
