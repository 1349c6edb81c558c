#include "threads.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
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

struct Team {
  void (*body)(void*, const Member&);
  void* data;
  Barrier barrier;
  Barrier halves[2];
  std::atomic<int> ready{0};

  Team(void (*body)(void*, const Member&), void* data) : body(body), data(data) {}

  void prepare(int size) {
    barrier.reset(size);
    for (Barrier& half : halves) half.reset(size / 2);
  }
  void run(int rank, int size) { body(data, Member{rank, size, &barrier, halves}); }
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

void Barrier::wait() {
  if (size_ == 1) return;
  const std::uint32_t phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  for (int spin = 0; spin < 1000; ++spin) {  // a pause is 10 to 40 ns
    if (phase_.load(std::memory_order_acquire) != phase) return;
    pause();
  }
  while (phase_.load(std::memory_order_acquire) == phase) phase_.wait(phase, std::memory_order_acquire);
}

namespace {

constexpr std::int64_t kTrial = 200'000;  // nanoseconds before anybody judges

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Patience::Patience(Barrier& barrier) : barrier_(barrier), start_(now()) {}

bool Patience::wait() {
  const std::int64_t before = now();
  barrier_.wait();
  const std::int64_t after = now();
  ++calls_;
  // Announced for a later barrier than this one, so that no member can see it before another.
  if (barrier_.alone_from_.load(std::memory_order_relaxed) <= calls_) return true;
  waited_ += after - before;
  if (after - start_ > kTrial && 2 * waited_ > after - start_) {
    std::int64_t none = INT64_MAX;
    barrier_.alone_from_.compare_exchange_strong(none, calls_ + 1, std::memory_order_relaxed);
  }
  return false;
}

void Patience::forget() { barrier_.alone_from_.store(INT64_MAX, std::memory_order_relaxed); }

void run_team(int threads, void (*body)(void*, const Member&), void* data) {
  Team team(body, data);
  if (threads > 1 && openmp.parallel != nullptr && !forked.load()) {
    openmp.parallel(openmp_body, &team, static_cast<unsigned>(threads), 0);
    return;
  }
  if (threads > 1) {
    team.prepare(threads);
    if (own_pool().try_run(threads, team)) return;
  }
  team.prepare(1);
  team.run(0, 1);
}

void use_openmp(const OpenMP& functions) { openmp = functions; }

}  // namespace fastlstm
