// Threads and processes of Linux: which processor, how much of it, and fork.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <thread>

#include "calls.h"
#include "platform/threads.h"
#include "team/barrier.h"

TEST_CASE("a thread leaves the processor it shares with another, and may run where it might before") {
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  int parted = 0;
  for (int k = 0; k < 20; ++k) {  // the kernel may move it at any time, too
    const int here = sched_getcpu();
    fastlstm::part_from(here);
    parted += sched_getcpu() != here;
  }
  CHECK(parted >= (CPU_COUNT(&before) > 1 ? 10 : 0));
  cpu_set_t after;
  REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));

  cpu_set_t one;  // nowhere else to go
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  fastlstm::part_from(sched_getcpu());
  REQUIRE(sched_getaffinity(0, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&one, &after));
  REQUIRE(sched_setaffinity(0, sizeof before, &before) == 0);
}

TEST_CASE("who waits at a barrier does not burn a core while a peer is away") {
  fastlstm::Barrier barrier;
  barrier.reset(2);
  std::int64_t burnt = 0;
  std::thread waiter([&] {
    barrier.wait();
    burnt = fastlstm::processor_time();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  barrier.wait();
  waiter.join();
  CHECK(burnt > 0);
  CHECK(burnt < 100'000'000);
}

TEST_CASE("a forked child works after its parent has used the engine") {
  Call<float> call(Sizes{20, 16, 33, 65, 0, 2, 1, true, true, false, {}}, 2);
  call.forward(2);
  const auto expected = call.output;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);  // a hang is a failure
    call.forward(2);
    _exit(call.output == expected ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
