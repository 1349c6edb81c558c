// Threads and the processors they are on.
#pragma once
#include <chrono>
#include <cstdint>

namespace fastlstm {

extern const bool kHasThreads;  // more than the caller's own can be had

int processor();  // this thread's; -1: the system does not tell

// Where this thread is on the given processor, that of a thread it works beside, it moves to another one. Some kernels wake a
// thread on its waker's processor though another idles (seen in a virtual machine, at every third burst after a pause of 60 ms),
// and there libgomp's threads wait for each other by spinning through whole ticks: 8 ms for a call of 1 ms. To forbid a thread
// the processor it is on moves it at once, in 150 microseconds; what it is allowed is then again what it was.
void part_from(int processor);

// In nanoseconds.
inline std::int64_t wall_time() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
std::int64_t processor_time();  // this thread's; takes 300. Where the system does not tell it well: wall_time

// Around every fork of the process: in the parent before and after it, and in the child. nullptr: nothing to do. Returns 0.
int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

}  // namespace fastlstm
