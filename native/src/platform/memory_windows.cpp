// Huge pages want a privilege that no ordinary process has.
#include <malloc.h>
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <new>

#include "platform/memory.h"

namespace fastlstm {

void* allocate(std::size_t bytes) {
  void* const data =
      bytes >= kHugePage ? VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) : _aligned_malloc(bytes, 64);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void release(void* data, std::size_t bytes) {
  if (bytes >= kHugePage) {
    VirtualFree(data, 0, MEM_RELEASE);
  } else {
    _aligned_free(data);
  }
}

void advise_huge_pages(void*, std::size_t) {}

}  // namespace fastlstm
