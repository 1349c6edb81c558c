#include "team/openmp.h"

#include <atomic>

#include "fastlstm/engine.h"
#include "platform/threads.h"

namespace fastlstm {

namespace {

OpenMP openmp{};
std::atomic<bool> forked{false};
const int forks = at_fork(nullptr, nullptr, [] { forked.store(true); });

struct Body {
  void (*run)(void*, int, int);
  void* data;
};

}  // namespace

void use_openmp(const OpenMP& functions) { openmp = functions; }

bool run_in_openmp(int threads, void (*body)(void*, int, int), void* data) {
  if (openmp.parallel == nullptr || forked.load()) return false;
  Body all{body, data};
  openmp.parallel(
      [](void* p) {
        const Body& each = *static_cast<Body*>(p);
        each.run(each.data, openmp.thread_num(), openmp.num_threads());  // may be fewer than asked for
      },
      &all, static_cast<unsigned>(threads), 0);
  return true;
}

}  // namespace fastlstm
