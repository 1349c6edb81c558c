// The threaded paths: many callers at once, fork, and teams larger than the machine. Run under the thread sanitizer too.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "calls.h"
#include "threads.h"

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

namespace {

Sizes sizes(std::int64_t N) { return {20, N, 33, 65, 0, 2, 1, true, true, false, {}}; }

}  // namespace

TEST_CASE("a team's barrier lets nobody through early") {
  for (const int threads : {1, 2, 5}) {
    struct Data {
      std::atomic<int> arrived[50] = {};
      std::atomic<int> errors{0};
    } data;
    fastlstm::run_team(
        threads,
        [](void* p, const fastlstm::Member& member) {
          Data& d = *static_cast<Data*>(p);
          for (std::atomic<int>& arrived : d.arrived) {
            ++arrived;
            member.barrier->wait();
            if (arrived.load() != member.size) ++d.errors;
          }
        },
        &data);
    CHECK(data.errors.load() == 0);
  }
}

TEST_CASE("where a peer holds up every step, all members learn at the same barrier that one goes on alone") {
  struct Data {
    std::atomic<int> calls[3] = {};
  } data;
  fastlstm::run_team(
      3,
      [](void* p, const fastlstm::Member& member) {
        Data& d = *static_cast<Data*>(p);
        fastlstm::Patience patience(*member.barrier);
        for (int step = 0; step < 1000; ++step) {
          if (member.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          ++d.calls[member.rank];
          if (patience.wait()) break;
        }
      },
      &data);
  CHECK(data.calls[0].load() < 100);
  CHECK(data.calls[1].load() == data.calls[0].load());
  CHECK(data.calls[2].load() == data.calls[0].load());
}

TEST_CASE("eight callers at once each get their own results") {
  Call<float> alone(sizes(16), 1);
  alone.forward(1);
  alone.backward(1);
  const auto expected = alone.results();
  std::vector<int> wrong(8);
  std::vector<std::thread> callers;
  for (std::size_t k = 0; k < wrong.size(); ++k)
    callers.emplace_back([&, k] {
      Call<float> call(sizes(16), 1);
      for (int repeat = 0; repeat < 5; ++repeat) {
        call.forward(1 + static_cast<int>(k) % 3);
        call.backward(1 + static_cast<int>(k) % 3);
        if (call.results() != expected) ++wrong[k];
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == std::vector<int>(8, 0));
}

TEST_CASE("a forked child works after its parent has used the engine") {
  if (kThreadSanitizer) return;  // it does not support new threads after a fork
  Call<float> call(sizes(16), 2);
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
