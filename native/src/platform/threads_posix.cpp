#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <cstddef>

#include "platform/threads.h"

namespace fastlstm {

const bool kHasThreads = true;

int processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

void part_from([[maybe_unused]] int other) {
#if defined(__linux__)
  if (other < 0 || other != processor()) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<std::size_t>(other), &others);
  if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

std::int64_t processor_time() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::int64_t{1'000'000'000} * spent.tv_sec + spent.tv_nsec;
}

int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) { return pthread_atfork(before, in_parent, in_child); }

}  // namespace fastlstm
