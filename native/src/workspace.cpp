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
  std::vector<Block> kept;     // blocks for what forward keeps, in the order they were given back
  std::vector<Block> scratch;  // blocks for a call's own scratch, likewise
  std::size_t held = 0;

  std::vector<Block>& of(Workspace::Use use) { return use == Workspace::Use::scratch ? scratch : kept; }

  Block take(std::vector<Block>& from, std::size_t k) {
    const Block block = from[k];
    from.erase(from.begin() + static_cast<std::ptrdiff_t>(k));
    held -= block.bytes;
    return block;
  }
};

Pool& pool() {
  static Pool& the_pool = *new Pool;  // never destroyed: a Workspace may outlive static destructors
  return the_pool;
}

// A child of fork must not find the mutex locked by a thread it does not have.
const int at_fork = pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });

std::size_t rounded(std::size_t bytes) {
  constexpr std::size_t page = 4096;
  return (bytes + page - 1) / page * page;
}

void* allocate(std::size_t bytes) {
  void* data = nullptr;
  if (posix_memalign(&data, bytes >= kHugePage ? kHugePage : 64, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // 512 times fewer page faults; only advice, so unchecked. Not for the end: that would take up to 2 MiB that nobody uses.
  if (bytes >= kHugePage) madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return data;
}

}  // namespace

// What forward keeps is held until backward: a block of more than twice the size would be wasted for that long. Scratch goes back
// when the call ends, so any block that is large enough will do, and where none is, a new one takes the place of the largest:
// forward and backward share one, and there are never more than calls at the same time.
Workspace::Workspace(std::size_t bytes, Use use) : data_(nullptr), bytes_(rounded(bytes)), use_(use) {
  if (bytes > bytes_) throw std::bad_alloc();
  Block too_small{};
  {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    std::vector<Block>& free = p.of(use);
    std::size_t best = free.size();
    std::size_t largest = free.size();
    for (std::size_t k = free.size(); k-- > 0;) {  // the newest first: it is the warmest
      const std::size_t size = free[k].bytes;
      const bool fits = size >= bytes_ && (use == Use::scratch || size <= 2 * bytes_);
      if (fits && (best == free.size() || size < free[best].bytes)) best = k;
      if (largest == free.size() || size > free[largest].bytes) largest = k;
    }
    if (best < free.size()) {
      const Block block = p.take(free, best);
      data_ = block.data;
      bytes_ = block.bytes;
      return;
    }
    if (use == Use::scratch && largest < free.size()) too_small = p.take(free, largest);
  }
  std::free(too_small.data);
  data_ = allocate(bytes_);
}

Workspace::~Workspace() {
  Pool& p = pool();
  std::vector<Block> out;
  {
    const std::lock_guard<std::mutex> lock(p.mutex);
    std::vector<Block>& free = p.of(use_);
    free.push_back({data_, bytes_});
    p.held += bytes_;
    while (free.size() > 64) out.push_back(p.take(free, 0));  // the oldest go first
    while (p.held > kBound) out.push_back(p.take(p.kept.empty() ? p.scratch : p.kept, 0));
  }
  for (const Block& block : out) std::free(block.data);
}

}  // namespace fastlstm
