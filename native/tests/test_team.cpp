// The threaded paths: many callers at once, and teams larger than the machine. Run under the thread sanitizer too.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "calls.h"
#include "team/delay_watch.h"
#include "team/peer_watch.h"
#include "team/sleep_watch.h"
#include "team/team.h"

namespace {

Sizes sizes(std::int64_t N) { return {20, N, 33, 65, 0, 2, 1, true, true, false, {}}; }

}  // namespace

TEST_CASE("a team's barrier lets nobody through early") {
  for (const int threads : {1, 2, 5}) {
    fastlstm::delay_watch().forget();
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
  fastlstm::delay_watch().forget();
  fastlstm::run_team(
      3,
      [](void* p, const fastlstm::Member& member) {
        Data& d = *static_cast<Data*>(p);
        fastlstm::PeerWatch peers(*member.barrier);
        for (int step = 0; step < 1000; ++step) {
          if (member.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          ++d.calls[member.rank];
          if (peers.wait()) break;
        }
      },
      &data);
  CHECK(data.calls[0].load() < 100);
  CHECK(data.calls[1].load() == data.calls[0].load());
  CHECK(data.calls[2].load() == data.calls[0].load());
}

TEST_CASE("after a call that was held up the next ones go alone, for longer each time; calls that go well make it shorter") {
  constexpr std::int64_t ms = 1'000'000;
  fastlstm::DelayWatch delays;
  CHECK(!delays.alone(0));
  delays.learn(true, 0, 5 * ms);
  CHECK(delays.alone(5 * ms + delays.kShortestRest - 1));
  CHECK(!delays.alone(5 * ms + delays.kShortestRest));
  delays.learn(true, 20 * ms, 25 * ms);
  CHECK(delays.alone(25 * ms + 4 * delays.kShortestRest - 1));
  CHECK(!delays.alone(25 * ms + 4 * delays.kShortestRest));
  for (int k = 0; k < 9; ++k) delays.learn(true, 0, 0);
  CHECK(delays.alone(delays.kLongestRest - 1));
  CHECK(!delays.alone(delays.kLongestRest));
  delays.learn(false, 0, 100 * ms);
  delays.learn(true, 0, 0);
  CHECK(delays.alone(delays.kLongestRest - 100 * ms - 1));
  CHECK(!delays.alone(delays.kLongestRest - 100 * ms));
  delays.learn(false, 0, 900 * ms);
  delays.learn(true, 0, 0);
  CHECK(!delays.alone(delays.kShortestRest));
  delays.forget();
  CHECK(!delays.alone(0));
}

TEST_CASE(
    "small calls go alone until a stretch of them has lost what waking a team costs; a large one wakes it; then it is awake") {
  constexpr double all = fastlstm::SleepWatch::kMicroseconds;
  constexpr std::int64_t awake = fastlstm::SleepWatch::kAwake;
  fastlstm::SleepWatch sleep;
  CHECK(!sleep.worth(0.4 * all, 0));
  CHECK(!sleep.worth(0.4 * all, awake - 1));
  CHECK(sleep.worth(0.4 * all, 2 * awake - 2));
  sleep.ended(2 * awake);
  CHECK(sleep.worth(1, 3 * awake - 1));
  for (int k = 3; k < 9; ++k) CHECK(!sleep.worth(0.4 * all, k * awake));  // a call now and then: no stretch
  CHECK(sleep.worth(all, 20 * awake));
  sleep.ended(21 * awake);
  sleep.forget();  // as a child of fork does, which has no threads
  CHECK(!sleep.worth(0.4 * all, 21 * awake));
}

TEST_CASE("a member that holds up its team in a time loop or at the end makes the next call go alone") {
  struct Data {
    int where;
    int size;
  };
  const auto body = [](void* p, const fastlstm::Member& member) {
    Data& d = *static_cast<Data*>(p);
    if (member.rank == 0) d.size = member.size;
    if (d.where == 1) {
      fastlstm::PeerWatch peers(*member.barrier);
      for (int step = 0; step < 20; ++step) {
        if (member.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (peers.wait()) break;
      }
    }
    member.barrier->wait();
    if (d.where == 2 && member.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  const auto size_of_next = [&] {
    Data next{0, 0};
    fastlstm::run_team(2, body, &next);
    return next.size;
  };
  for (const int where : {1, 2}) {
    CAPTURE(where);
    bool held_up = false;  // on a busy machine the caller may be held up as well, which is no reason to go alone
    for (int k = 0; k < 20 && !held_up; ++k) {
      fastlstm::delay_watch().forget();
      Data held{where, 0};
      fastlstm::run_team(2, body, &held);
      CHECK(held.size == 2);
      held_up = fastlstm::delay_watch().alone(0);  // for some time after the call, whatever the time is now
    }
    CHECK(held_up);
  }
  fastlstm::delay_watch().forget();
  CHECK(size_of_next() == 2);
  fastlstm::delay_watch().forget();
  fastlstm::delay_watch().learn(true, 0, std::numeric_limits<std::int64_t>::max() / 2);
  CHECK(size_of_next() == 1);
  fastlstm::delay_watch().forget();
  CHECK(size_of_next() == 2);
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
