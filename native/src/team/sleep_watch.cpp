#include "team/sleep_watch.h"

#include "platform/threads.h"

namespace fastlstm {

bool SleepWatch::worth(double microseconds, std::int64_t now) {
  if (now < awake_until_.load(std::memory_order_relaxed)) return true;
  const bool goes_on = now < stretch_until_.load(std::memory_order_relaxed);
  const double alone = (goes_on ? alone_.load(std::memory_order_relaxed) : 0) + microseconds;
  alone_.store(alone, std::memory_order_relaxed);
  stretch_until_.store(now + kAwake, std::memory_order_relaxed);
  return alone >= kMicroseconds;
}

void SleepWatch::forget() {
  awake_until_.store(INT64_MIN, std::memory_order_relaxed);
  stretch_until_.store(INT64_MIN, std::memory_order_relaxed);
}

SleepWatch& sleep_watch() {
  static SleepWatch one;
  return one;
}

int threads_awake(int threads, double microseconds) {
  return threads == 1 || sleep_watch().worth(microseconds, wall_time()) ? threads : 1;
}

}  // namespace fastlstm
