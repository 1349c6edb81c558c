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
  int size_ = 1;
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
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
