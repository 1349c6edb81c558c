#include "team/pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "platform/threads.h"

namespace fastlstm {

namespace {

// One team at a time; a caller who finds the pool busy works alone.
class Pool {
 public:
  bool try_run(int threads, void (*body)(void*, int, int), void* data) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(workers_.size()) < threads - 1) {
        const int rank = static_cast<int>(workers_.size()) + 1;
        workers_.emplace_back([this, rank] { work(rank); });
        workers_.back().detach();  // they outlive main: joining at exit could wait for a thread that exit has stopped
      }
      body_ = body;
      data_ = data;
      size_ = threads;
      running_ = threads - 1;
      ++call_;
    }
    start_.notify_all();
    body(data, 0, threads);
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
      const auto body = body_;
      void* const data = data_;
      const int size = size_;
      lock.unlock();
      body(data, rank, size);
      lock.lock();
      if (--running_ == 0) end_.notify_one();
    }
  }

  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable end_;
  std::vector<std::thread> workers_;
  void (*body_)(void*, int, int) = nullptr;
  void* data_ = nullptr;
  int size_ = 0;
  int running_ = 0;
  std::uint64_t call_ = 0;
};

std::atomic<Pool*> pool{nullptr};

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
const int forks = at_fork(nullptr, nullptr, [] { pool.store(nullptr); });

}  // namespace

bool run_in_pool(int threads, void (*body)(void*, int, int), void* data) {
  return kHasThreads && own_pool().try_run(threads, body, data);
}

}  // namespace fastlstm
