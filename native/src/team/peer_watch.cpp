#include "team/peer_watch.h"

#include "platform/threads.h"

namespace fastlstm {

namespace {

constexpr std::int64_t kTrial = 200'000;  // nanoseconds, before anybody judges

}  // namespace

PeerWatch::PeerWatch(Barrier& barrier) : barrier_(barrier), start_(wall_time()) {}

bool PeerWatch::wait() {
  const std::int64_t waited = barrier_.wait();
  ++calls_;
  // Announced for a later barrier than this one, so that no member can see it before another.
  if (barrier_.alone_from_.load(std::memory_order_relaxed) <= calls_) return true;
  if (waited == 0) return false;
  waited_ += waited;
  const std::int64_t so_far = wall_time() - start_;
  if (so_far > kTrial && 2 * waited_ > so_far) {
    std::int64_t none = INT64_MAX;
    barrier_.alone_from_.compare_exchange_strong(none, calls_ + 1, std::memory_order_relaxed);
  }
  return false;
}

void PeerWatch::forget() { barrier_.alone_from_.store(INT64_MAX, std::memory_order_relaxed); }

}  // namespace fastlstm
