// Memory from the system.
#pragma once
#include <cstddef>

namespace fastlstm {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Starts at a multiple of 64. From kHugePage on it comes from the system itself: among malloc's it would keep all memory around
// it from going back. Throws std::bad_alloc.
void* allocate(std::size_t bytes);
void release(void* data, std::size_t bytes);

// The whole huge pages within [data, data + bytes) may be taken as such: 512 times fewer page faults at their first touch. Not
// the ends: they would take memory that nobody asked for. Only advice.
void advise_huge_pages(void* data, std::size_t bytes);

}  // namespace fastlstm
