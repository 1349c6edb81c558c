#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "platform/threads.h"

namespace fastlstm {

const bool kHasThreads = true;

int processor() { return static_cast<int>(GetCurrentProcessorNumber()); }

void part_from(int) {}  // whether this scheduler wakes a thread on its waker's processor is not known

std::int64_t processor_time() { return wall_time(); }  // GetThreadTimes counts in steps of 15.6 ms

int at_fork(void (*)(), void (*)(), void (*)()) { return 0; }  // there is no fork

}  // namespace fastlstm
