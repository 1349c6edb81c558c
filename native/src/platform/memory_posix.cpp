#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "platform/memory.h"

namespace fastlstm {

namespace {

void* map(std::size_t bytes) {
  if (bytes > SIZE_MAX - kHugePage) throw std::bad_alloc();
  const std::size_t all = bytes + kHugePage;
  void* const base = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(base) % kHugePage) % kHugePage;
  char* const data = static_cast<char*>(base) + before;
  if (before > 0) munmap(base, before);
  munmap(data + bytes, all - before - bytes);
  advise_huge_pages(data, bytes);
  return data;
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (bytes >= kHugePage) return map(bytes);
  void* const data = std::aligned_alloc(64, bytes);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void release(void* data, std::size_t bytes) {
  if (bytes >= kHugePage) {
    munmap(data, bytes);
  } else {
    std::free(data);
  }
}

void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE  // Linux
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (at + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (at + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace fastlstm
