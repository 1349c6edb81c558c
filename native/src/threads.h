// A team of threads for one call: run a body on each, and let them wait for each other.
#pragma once
#include <atomic>
#include <cstdint>

namespace fastlstm {

// Where this thread is on the given processor, that of a thread it works beside, it moves to another one. Some kernels wake a
// thread on its waker's processor though another idles (seen in a virtual machine, at every third burst after a pause of 60 ms),
// and there libgomp's threads wait for each other by spinning through whole ticks: 8 ms for a call of 1 ms. To forbid a thread
// the processor it is on moves it at once, in 150 microseconds; what it is allowed is then again what it was.
void part_from(int processor);

// All `size` threads arrive before any leaves. Waits by spinning for 300 microseconds, then sleeps: a core is never burnt for
// longer while its peer has lost its processor. Not sooner: after a pause a peer is 50 to 350 late, and a sleeper that is woken
// on its waker's processor costs both two ticks. Not by sched_yield: with other processes about, a yield gives away a whole
// slice.
class Barrier {
 public:
  void reset(int size) { size_ = size; }
  std::int64_t wait();  // returns the nanoseconds of a long wait; 0: it was short, and the time was not asked (24 ns, twice)

 private:
  friend class Patience;
  int size_ = 1;
  std::atomic<std::int64_t> alone_from_{INT64_MAX};  // see Patience
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
  std::atomic<int> last_{-1};  // the processor of the last to arrive
};

// A member's way through the barriers of a time loop, one a step. A peer that has lost its processor to another process would
// hold up every step: where the long waits of a member are more than half of its time, the whole team
// learns so at the same barrier, and one goes on alone.
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
  std::int64_t waited_ = 0;  // nanoseconds of long waits: one that lost its processor is a tick late
};

// Whether teams are worth it just now. One whose member has lost its processor costs a tick or two (8 ms for a call of 1 ms):
// after such a call the next ones go alone for a while, for four times as long each time, less the time of calls that went well
// since: a peer that shares its processor has it for one tick in two, and calls in that tick prove nothing. A long call that
// shares its rows without a barrier a step is sooner together even so, and is measured to be.
class Turns {
 public:
  static constexpr std::int64_t kShortestRest = 8'000'000;   // nanoseconds
  static constexpr std::int64_t kLongestRest = 128'000'000;  // of which a try that fails takes a fifteenth

  bool alone(std::int64_t now) const { return now < until_.load(std::memory_order_relaxed); }
  void learn(bool held_up, std::int64_t start, std::int64_t end);  // of the call
  void forget();

 private:
  std::atomic<std::int64_t> until_{INT64_MIN};
  std::atomic<std::int64_t> rest_{kShortestRest};
};

// Those of run_team.
Turns& turns();

// Whether a call is worth waking threads for. To start one takes 200 microseconds, and one that has slept for 20 ms is as late in
// a virtual machine: a small call would take twice as long by it, and may be the only one for as long. So calls go alone until
// those of one stretch have lost about as much by it, or the next one would: nobody pays more than twice what he had to.
class Waking {
 public:
  static constexpr double kMicroseconds = 800;        // of work, by work_microseconds: measured, two threads save a quarter
  static constexpr std::int64_t kAwake = 10'000'000;  // nanoseconds after a team's end, and between the calls of a stretch

  bool worth(double microseconds, std::int64_t now);                                             // of the work of the next call
  void ended(std::int64_t now) { awake_until_.store(now + kAwake, std::memory_order_relaxed); }  // a team has
  void forget();                                                                                 // there is no team

 private:
  std::atomic<std::int64_t> awake_until_{INT64_MIN};
  std::atomic<std::int64_t> stretch_until_{INT64_MIN};
  std::atomic<double> alone_{0};  // microseconds of the work of the stretch's calls
};

// That of run_team.
Waking& waking();

// How many of so many threads a call of so much work should ask run_team for: all, or one.
int threads_awake(int threads, double microseconds);

struct Member {
  int rank;          // 0 .. size - 1
  int size;          // of the whole team
  Barrier* barrier;  // of the whole team
  Barrier* halves;   // two, of the even and the odd ranks, where size is even
};

// body(data, member) on up to `threads` threads at once, all of them truly concurrent; returns when all have ended.
void run_team(int threads, void (*body)(void* data, const Member& member), void* data);

}  // namespace fastlstm
