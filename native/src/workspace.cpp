#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "fastlstm/engine.h"

namespace fastlstm {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kBound = std::size_t{1} << 30;  // of memory that waits in the pool: beyond it, blocks go back to the system

struct Block {
  void* data;
  std::size_t bytes;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> free;  // in the order they were given back
  std::size_t held = 0;
};

Pool& pool() {
  static Pool& the_pool = *new Pool;  // never destroyed: a Workspace may outlive static destructors
  return the_pool;
}

// A child of fork must not find the mutex locked by a thread it does not have.
const int at_fork = pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });

std::size_t rounded(std::size_t bytes) {
  const std::size_t unit = bytes >= kHugePage ? kHugePage : std::size_t{4096};
  return (bytes + unit - 1) / unit * unit;
}

void* allocate(std::size_t bytes) {
  void* data = std::aligned_alloc(bytes >= kHugePage ? kHugePage : 64, bytes);
  if (data == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // 512 times fewer page faults; only advice, so unchecked
#endif
  return data;
}

}  // namespace

Workspace::Workspace(std::size_t bytes) : data_(nullptr), bytes_(rounded(bytes)) {
  if (bytes > bytes_) throw std::bad_alloc();
  {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    std::size_t best = p.free.size();
    for (std::size_t k = p.free.size(); k-- > 0;) {  // the newest first: it is the warmest
      const std::size_t size = p.free[k].bytes;
      if (size >= bytes_ && size <= 2 * bytes_ && (best == p.free.size() || size < p.free[best].bytes)) best = k;
    }
    if (best < p.free.size()) {
      data_ = p.free[best].data;
      bytes_ = p.free[best].bytes;
      p.held -= bytes_;
      p.free.erase(p.free.begin() + static_cast<std::ptrdiff_t>(best));
      return;
    }
  }
  data_ = allocate(bytes_);
}

Workspace::~Workspace() {
  Pool& p = pool();
  std::vector<Block> out;
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    p.free.push_back({data_, bytes_});
    p.held += bytes_;
    while (p.held > kBound || p.free.size() > 64) {  // the oldest go first
      out.push_back(p.free.front());
      p.held -= p.free.front().bytes;
      p.free.erase(p.free.begin());
    }
  }
  for (const Block& block : out) std::free(block.data);
}

}  // namespace fastlstm
