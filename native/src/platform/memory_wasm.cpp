// One memory that only grows: malloc has it all.
#include <cstdlib>
#include <new>

#include "platform/memory.h"

namespace fastlstm {

void* allocate(std::size_t bytes) {
  void* const data = std::aligned_alloc(64, bytes);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void release(void* data, std::size_t) { std::free(data); }

void advise_huge_pages(void*, std::size_t) {}

}  // namespace fastlstm
