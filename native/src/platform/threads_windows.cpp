#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <chrono>

#include "platform/threads.h"

namespace fastlstm {

const bool kHasThreads = true;

int processor() { return static_cast<int>(GetCurrentProcessorNumber()); }

void part_from(int) {}  // this scheduler was not seen to wake a thread on its waker's processor

std::int64_t processor_time() {  // GetThreadTimes counts in steps of 15.6 ms
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int at_fork(void (*)(), void (*)(), void (*)()) { return 0; }  // there is no fork

}  // namespace fastlstm
