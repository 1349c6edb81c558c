#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

#include "fastlstm/engine.h"
#include "platform/memory.h"
#include "platform/threads.h"

namespace fastlstm {
namespace {

constexpr std::size_t kLargestPage = std::size_t{64} << 10;  // of the systems that this is built for
// Of memory that waits in the pool: beyond it, blocks go back to the system. Of what callers had less: they may have held many at
// once and never will again.
constexpr std::size_t kBound = std::size_t{1} << 30;
constexpr std::size_t kGivenBound = std::size_t{256} << 20;

struct Block {
  void* data;
  std::size_t bytes;
};

// Blocks of one use, in the order they were given back.
struct Shelf {
  std::vector<Block> blocks;
  std::size_t held = 0;  // bytes

  Block take(std::size_t k) {
    const Block block = blocks[k];
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(k));
    held -= block.bytes;
    return block;
  }
  void put(const Block& block) {
    blocks.push_back(block);
    held += block.bytes;
  }
};

struct Pool {
  std::mutex mutex;
  Shelf kept;
  Shelf scratch;
  Shelf given;

  Shelf& of(Workspace::Use use) {
    switch (use) {
      case Workspace::Use::kept:
        return kept;
      case Workspace::Use::scratch:
        return scratch;
      case Workspace::Use::given:
        break;
    }
    return given;
  }
};

Pool& pool() {
  static Pool& the_pool = *new Pool;  // never destroyed: a Workspace may outlive static destructors
  return the_pool;
}

// A child of fork must not find the mutex locked by a thread it does not have.
const int forks = at_fork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });

std::size_t rounded(std::size_t bytes) {
  const std::size_t unit = bytes >= kHugePage ? kLargestPage : std::size_t{4096};
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

// What forward keeps is held until backward, and what it gives longer: a block of more than twice the size would be wasted for
// that long. Scratch goes back when the call ends, so any block that is large enough will do. Where none is, a new one takes the
// place of the largest that could have served but for its size: there are never more than calls at the same time (but scratch: so
// many for each power of two), whatever sizes come.
Workspace::Workspace(std::size_t bytes, Use use) : data_(nullptr), bytes_(rounded(bytes)), use_(use) {
  if (bytes > bytes_) throw std::bad_alloc();
  Block too_small{nullptr, 0};
  {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    Shelf& shelf = p.of(use);
    const std::size_t count = shelf.blocks.size();
    std::size_t best = count;
    std::size_t below = count;
    for (std::size_t k = count; k-- > 0;) {  // the newest first: it is the warmest
      const std::size_t size = shelf.blocks[k].bytes;
      if (use != Use::scratch && (size > 2 * bytes_ || bytes_ > 2 * size)) continue;
      if (size >= bytes_ && (best == count || size < shelf.blocks[best].bytes)) best = k;
      if (size < bytes_ && (below == count || size > shelf.blocks[below].bytes)) below = k;
    }
    if (best < count) {
      const Block block = shelf.take(best);
      data_ = block.data;
      bytes_ = block.bytes;
      return;
    }
    if (below < count) too_small = shelf.take(below);
  }
  release(too_small.data, too_small.bytes);
  data_ = allocate(bytes_);
}

Workspace::~Workspace() {
  Pool& p = pool();
  std::vector<Block> out;
  const std::size_t bound = use_ == Use::given ? kGivenBound : kBound;
  if (bytes_ > bound) {  // among the others it would send them all away
    out.push_back({data_, bytes_});
  } else {
    const std::lock_guard<std::mutex> lock(p.mutex);
    Shelf& shelf = p.of(use_);
    shelf.put({data_, bytes_});
    while (shelf.blocks.size() > 64) out.push_back(shelf.take(0));  // the oldest go first
    while (p.given.held > kGivenBound) out.push_back(p.given.take(0));
    while (p.kept.held + p.scratch.held > kBound) out.push_back((p.kept.blocks.empty() ? p.scratch : p.kept).take(0));
  }
  for (const Block& block : out) release(block.data, block.bytes);
}

}  // namespace fastlstm
