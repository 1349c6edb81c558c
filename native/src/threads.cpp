#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "fastlstm/engine.h"

namespace fastlstm {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// All times in nanoseconds.
constexpr std::int64_t kTrial = 200'000;  // before anybody judges
constexpr std::int64_t kSpinning = 300'000;
constexpr std::int64_t kLate = 1'000'000;  // and no loss: to wake a thread on an idle processor takes 50'000 to 350'000

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::int64_t processor_time() {  // of this thread; takes 300
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return std::int64_t{1'000'000'000} * spent.tv_sec + spent.tv_nsec;
}

struct Times {
  std::int64_t wall;
  std::int64_t processor;
};

thread_local Times waits{};  // the long ones, at barriers

int processor() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

std::atomic<std::int64_t> teams{0};  // of several threads, so far

struct Team {
  void (*body)(void*, const Member&);
  void* data;
  Barrier barrier;
  Barrier halves[2];
  std::atomic<int> ready{0};
  const int caller_processor = processor();
  const std::int64_t start = now();
  std::atomic<std::int64_t> work{0};  // of all members, on a processor and not in long waits
  Times caller{};                     // of its work

  Team(void (*body)(void*, const Member&), void* data) : body(body), data(data) {}

  void prepare(int size) {
    barrier.reset(size);
    for (Barrier& half : halves) half.reset(size / 2);
  }
  void run(int rank, int size) {
    if (size == 1) return body(data, Member{0, 1, &barrier, halves});
    if (rank > 0) part_from(caller_processor);
    waits = {};
    const Times from{now(), processor_time()};
    body(data, Member{rank, size, &barrier, halves});
    const std::int64_t mine = processor_time() - from.processor - waits.processor;
    work.fetch_add(mine, std::memory_order_relaxed);
    if (rank == 0) caller = {now() - from.wall - waits.wall, mine};
  }
  // To be asked when all have ended. Was the team slower than the caller alone, at the share of a processor that it had?
  void learn() const {
    const std::int64_t end = now();
    waking().ended(end);
    if (caller.wall == 0) return;  // OpenMP gave one thread
    teams.fetch_add(1, std::memory_order_relaxed);
    const double slowness = static_cast<double>(caller.wall) / static_cast<double>(caller.processor > 0 ? caller.processor : 1);
    const double alone = slowness * static_cast<double>(work.load(std::memory_order_relaxed));
    turns().learn(static_cast<double>(end - start - kLate) > alone, start, end);
  }
};

// One team at a time; a caller who finds the pool busy works alone.
class Pool {
 public:
  bool try_run(int threads, Team& team) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(workers_.size()) < threads - 1) {
        const int rank = static_cast<int>(workers_.size()) + 1;
        workers_.emplace_back([this, rank] { work(rank); });
        workers_.back().detach();  // they outlive main: joining at exit could wait for a thread that exit has stopped
      }
      team_ = &team;
      size_ = threads;
      running_ = threads - 1;
      ++call_;
    }
    start_.notify_all();
    team.run(0, threads);
    std::unique_lock<std::mutex> lock(mutex_);
    end_.wait(lock, [this] { return running_ == 0; });
    return true;
  }

 private:
  void work(int rank) {
    std::uint64_t seen = 0;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      start_.wait(lock, [&] { return call_ != seen; });
      seen = call_;
      if (rank >= size_) continue;
      Team* team = team_;
      const int size = size_;
      lock.unlock();
      team->run(rank, size);
      lock.lock();
      if (--running_ == 0) end_.notify_one();
    }
  }

  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable end_;
  std::vector<std::thread> workers_;
  Team* team_ = nullptr;
  int size_ = 0;
  int running_ = 0;
  std::uint64_t call_ = 0;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<bool> forked{false};
OpenMP openmp{};

Pool& own_pool() {
  Pool* current = pool.load();
  if (current == nullptr) {
    Pool* fresh = new Pool;  // never destroyed: its threads use it until the process ends
    if (pool.compare_exchange_strong(current, fresh)) return *fresh;
    delete fresh;
  }
  return *current;
}

// A child of fork has none of its parent's threads, and perhaps a locked mutex: leave the parent's pool behind.
const int at_fork = pthread_atfork(nullptr, nullptr, [] {
  pool.store(nullptr);
  forked.store(true);
  waking().forget();
});

void openmp_body(void* data) {
  Team& team = *static_cast<Team*>(data);
  const int size = openmp.num_threads();  // may be fewer than asked for
  const int rank = openmp.thread_num();
  if (rank == 0) {
    team.prepare(size);
    team.ready.store(1, std::memory_order_release);
    team.ready.notify_all();
  } else {
    team.ready.wait(0, std::memory_order_acquire);
  }
  team.run(rank, size);
}

}  // namespace

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

std::int64_t Barrier::wait() {
  if (size_ == 1) return 0;
  const std::uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    last_.store(processor(), std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return 0;
  }
  for (int spin = 0; spin < 1000; ++spin) {  // without asking the time; a pause is 10 to 50 ns
    if (phase_.load(std::memory_order_acquire) != phase) return 0;
    pause();
  }
  const Times from{now(), processor_time()};
  while (phase_.load(std::memory_order_acquire) == phase) {
    if (now() - from.wall < kSpinning) {
      pause();
    } else {
      phase_.wait(phase, std::memory_order_acquire);
    }
  }
  const std::int64_t waited = now() - from.wall;
  waits.wall += waited;
  waits.processor += processor_time() - from.processor;
  part_from(last_.load(std::memory_order_relaxed));
  return waited;
}

Patience::Patience(Barrier& barrier) : barrier_(barrier), start_(now()) {}

bool Patience::wait() {
  const std::int64_t waited = barrier_.wait();
  ++calls_;
  // Announced for a later barrier than this one, so that no member can see it before another.
  if (barrier_.alone_from_.load(std::memory_order_relaxed) <= calls_) return true;
  if (waited == 0) return false;
  waited_ += waited;
  const std::int64_t so_far = now() - start_;
  if (so_far > kTrial && 2 * waited_ > so_far) {
    std::int64_t none = INT64_MAX;
    barrier_.alone_from_.compare_exchange_strong(none, calls_ + 1, std::memory_order_relaxed);
  }
  return false;
}

void Patience::forget() { barrier_.alone_from_.store(INT64_MAX, std::memory_order_relaxed); }

void Turns::learn(bool held_up, std::int64_t start, std::int64_t end) {
  const std::int64_t rest = rest_.load(std::memory_order_relaxed);
  if (held_up) {
    until_.store(end + rest, std::memory_order_relaxed);
    rest_.store(4 * rest < kLongestRest ? 4 * rest : kLongestRest, std::memory_order_relaxed);
  } else if (rest > kShortestRest) {
    const std::int64_t shorter = rest - (end - start);
    rest_.store(shorter > kShortestRest ? shorter : kShortestRest, std::memory_order_relaxed);
  }
}

void Turns::forget() {
  until_.store(INT64_MIN, std::memory_order_relaxed);
  rest_.store(kShortestRest, std::memory_order_relaxed);
}

Turns& turns() {
  static Turns all;
  return all;
}

bool Waking::worth(double microseconds, std::int64_t now) {
  if (now < awake_until_.load(std::memory_order_relaxed)) return true;
  const bool goes_on = now < stretch_until_.load(std::memory_order_relaxed);
  const double alone = (goes_on ? alone_.load(std::memory_order_relaxed) : 0) + microseconds;
  alone_.store(alone, std::memory_order_relaxed);
  stretch_until_.store(now + kAwake, std::memory_order_relaxed);
  return alone >= kMicroseconds;
}

void Waking::forget() {
  awake_until_.store(INT64_MIN, std::memory_order_relaxed);
  stretch_until_.store(INT64_MIN, std::memory_order_relaxed);
}

Waking& waking() {
  static Waking one;
  return one;
}

std::int64_t let_teams_run() {
  turns().forget();
  waking().ended(std::numeric_limits<std::int64_t>::max() / 2);
  return teams.load(std::memory_order_relaxed);
}

int threads_awake(int threads, double microseconds) { return threads == 1 || waking().worth(microseconds, now()) ? threads : 1; }

void run_team(int threads, void (*body)(void*, const Member&), void* data) {
  Team team(body, data);
  if (threads > 1 && !turns().alone(team.start)) {
    bool ran = true;
    if (openmp.parallel != nullptr && !forked.load()) {
      openmp.parallel(openmp_body, &team, static_cast<unsigned>(threads), 0);
    } else {
      team.prepare(threads);
      ran = own_pool().try_run(threads, team);
    }
    if (ran) {
      team.learn();
      return;
    }
  }
  team.prepare(1);
  team.run(0, 1);
}

void use_openmp(const OpenMP& functions) { openmp = functions; }

}  // namespace fastlstm
