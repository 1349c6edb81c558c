// Advice to the system about memory that is written for the first time.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace fastlstm {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// The whole huge pages within [data, data + bytes) may be taken as such: 512 times fewer page faults at their first touch. Not
// the ends: they would take memory that nobody asked for. Only advice, so unchecked.
inline void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (at + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (at + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace fastlstm
