// A team of threads for one call: run a body on each, and let them wait for each other.
#pragma once
#include <atomic>
#include <cstdint>

namespace fastlstm {

// All `size` threads arrive before any leaves. Waits by spinning for about 20 microseconds, then sleeps: a core is never burnt
// for longer while its peer has lost its processor.
class Barrier {
 public:
  void reset(int size) { size_ = size; }
  void wait();

 private:
  friend class Patience;
  int size_ = 1;
  std::atomic<std::int64_t> alone_from_{INT64_MAX};  // see Patience
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
};

// A member's way through the barriers of a time loop, one a step. A peer that has lost its processor to another process would
// hold up every step: where a member has waited longer than it worked, the whole team learns so at the same barrier, and one goes
// on alone.
class Patience {
 public:
  explicit Patience(Barrier& barrier);
  // Waits for all. True, for all members from the same call on: rank 0 takes everything, the others stop calling this.
  bool wait();
  // For one member, after the last wait() of all and before the first of the next loop: that one judges for itself.
  void forget();

 private:
  Barrier& barrier_;
  std::int64_t calls_ = 0;
  std::int64_t start_;
  std::int64_t waited_ = 0;  // nanoseconds, of the waits that did not end at once
};

struct Member {
  int rank;          // 0 .. size - 1
  int size;          // of the whole team
  Barrier* barrier;  // of the whole team
  Barrier* halves;   // two, of the even and the odd ranks, where size is even
};

// body(data, member) on up to `threads` threads at once, all of them truly concurrent; returns when all have ended.
void run_team(int threads, void (*body)(void* data, const Member& member), void* data);

}  // namespace fastlstm
