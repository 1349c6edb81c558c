#include "team/barrier.h"

#include "platform/processor.h"
#include "platform/threads.h"

namespace fastlstm {

namespace {

constexpr std::int64_t kSpinning = 300'000;  // nanoseconds

thread_local Times waits{};

}  // namespace

Times& long_waits() { return waits; }

std::int64_t Barrier::wait() {
  if (size_ == 1) return 0;
  const std::uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    last_.store(processor(), std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return 0;
  }
  for (int spin = 0; spin < 1000; ++spin) {  // without asking the time; a pause is 10 to 50 ns
    if (phase_.load(std::memory_order_acquire) != phase) return 0;
    pause();
  }
  const Times from{wall_time(), processor_time()};
  while (phase_.load(std::memory_order_acquire) == phase) {
    if (wall_time() - from.wall < kSpinning) {
      pause();
    } else {
      phase_.wait(phase, std::memory_order_acquire);
    }
  }
  const std::int64_t waited = wall_time() - from.wall;
  waits.wall += waited;
  waits.processor += processor_time() - from.processor;
  part_from(last_.load(std::memory_order_relaxed));
  return waited;
}

}  // namespace fastlstm
