#include "team/team.h"

#include <atomic>
#include <cstdint>
#include <limits>

#include "fastlstm/engine.h"
#include "platform/threads.h"
#include "team/delay_watch.h"
#include "team/openmp.h"
#include "team/pool.h"
#include "team/sleep_watch.h"

namespace fastlstm {

namespace {

constexpr std::int64_t kLate =
    1'000'000;  // nanoseconds, and no loss: to wake a thread on an idle processor takes 50'000 to 350'000

std::atomic<std::int64_t> teams{0};  // of several threads, so far

struct Team {
  void (*body)(void*, const Member&);
  void* data;
  Barrier barrier;
  Barrier half_teams[2];
  std::atomic<int> ready{0};
  const int caller_processor = processor();
  const std::int64_t start = wall_time();
  std::atomic<std::int64_t> work{0};  // of all members, on a processor and not in long waits
  Times caller{};                     // of its work

  Team(void (*body)(void*, const Member&), void* data) : body(body), data(data) {}

  void prepare(int size) {
    barrier.reset(size);
    for (Barrier& half : half_teams) half.reset(size / 2);
  }
  // In a team whose size nobody knows before it runs.
  void run_with_first(int rank, int size) {
    if (rank == 0) {
      prepare(size);
      ready.store(1, std::memory_order_release);
      ready.notify_all();
    } else {
      ready.wait(0, std::memory_order_acquire);
    }
    run(rank, size);
  }
  void run(int rank, int size) {
    if (size == 1) return body(data, Member{0, 1, &barrier, half_teams});
    if (rank > 0) part_from(caller_processor);
    long_waits() = {};
    const Times from{wall_time(), processor_time()};
    body(data, Member{rank, size, &barrier, half_teams});
    const std::int64_t mine = processor_time() - from.processor - long_waits().processor;
    work.fetch_add(mine, std::memory_order_relaxed);
    if (rank == 0) caller = {wall_time() - from.wall - long_waits().wall, mine};
  }
  // To be asked when all have ended. Was the team slower than the caller alone, at the share of a processor that it had?
  void learn() const {
    const std::int64_t end = wall_time();
    sleep_watch().ended(end);
    if (caller.wall == 0) return;  // OpenMP gave one thread
    teams.fetch_add(1, std::memory_order_relaxed);
    const double slowness = static_cast<double>(caller.wall) / static_cast<double>(caller.processor > 0 ? caller.processor : 1);
    const double alone = slowness * static_cast<double>(work.load(std::memory_order_relaxed));
    delay_watch().learn(static_cast<double>(end - start - kLate) > alone, start, end);
  }
};

// A child of fork has no team whose threads are awake.
const int forks = at_fork(nullptr, nullptr, [] { sleep_watch().forget(); });

}  // namespace

std::int64_t let_teams_run() {
  delay_watch().forget();
  sleep_watch().ended(std::numeric_limits<std::int64_t>::max() / 2);
  return teams.load(std::memory_order_relaxed);
}

void run_team(int threads, void (*body)(void*, const Member&), void* data) {
  Team team(body, data);
  if (threads > 1 && !delay_watch().alone(team.start)) {
    bool ran =
        run_in_openmp(threads, [](void* p, int rank, int size) { static_cast<Team*>(p)->run_with_first(rank, size); }, &team);
    if (!ran) {
      team.prepare(threads);
      ran = run_in_pool(threads, [](void* p, int rank, int size) { static_cast<Team*>(p)->run(rank, size); }, &team);
    }
    if (ran) {
      team.learn();
      return;
    }
  }
  team.prepare(1);
  team.run(0, 1);
}

}  // namespace fastlstm
