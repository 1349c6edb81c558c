// Where the members of a team wait for each other.
#pragma once
#include <atomic>
#include <cstdint>

namespace fastlstm {

// What a team is judged by, in nanoseconds: wall_time and processor_time of platform/threads.h.
struct Times {
  std::int64_t wall;
  std::int64_t processor;
};

// All `size` threads arrive before any leaves. Waits by spinning for 300 microseconds, then sleeps: a core is never burnt for
// longer while its peer has lost its processor. Not earlier: after a pause a peer is 50 to 350 late, and a sleeper that is woken
// on its waker's processor costs both two ticks. Not by sched_yield: with other processes about, a yield gives away a whole
// slice.
class Barrier {
 public:
  void reset(int size) { size_ = size; }
  std::int64_t wait();  // returns the nanoseconds of a long wait; 0: it was short, and the time was not asked (24 ns, twice)

 private:
  friend class PeerWatch;
  int size_ = 1;
  std::atomic<std::int64_t> alone_from_{INT64_MAX};  // PeerWatch's
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
  std::atomic<int> last_{-1};  // the processor of the last to arrive
};

// This thread's long waits so far: none after a team begins (Team::run).
Times& long_waits();

}  // namespace fastlstm
