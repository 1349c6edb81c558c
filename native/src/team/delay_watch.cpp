#include "team/delay_watch.h"

namespace fastlstm {

void DelayWatch::learn(bool held_up, std::int64_t start, std::int64_t end) {
  const std::int64_t rest = rest_.load(std::memory_order_relaxed);
  if (held_up) {
    until_.store(end + rest, std::memory_order_relaxed);
    rest_.store(4 * rest < kLongestRest ? 4 * rest : kLongestRest, std::memory_order_relaxed);
  } else if (rest > kShortestRest) {
    const std::int64_t shorter = rest - (end - start);
    rest_.store(shorter > kShortestRest ? shorter : kShortestRest, std::memory_order_relaxed);
  }
}

void DelayWatch::forget() {
  until_.store(INT64_MIN, std::memory_order_relaxed);
  rest_.store(kShortestRest, std::memory_order_relaxed);
}

DelayWatch& delay_watch() {
  static DelayWatch all;
  return all;
}

}  // namespace fastlstm
