#include "platform/processor.h"

#include <unistd.h>

#include <cstddef>
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace fastlstm {

// Linux hands out the tile registers (8 KiB of state a thread) for the asking, once a process.
bool tiles_permitted() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

std::int64_t l2_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const std::int64_t known = sysconf(_SC_LEVEL2_CACHE_SIZE);
#elif defined(__APPLE__)
  static const std::int64_t known = [] {
    std::int64_t bytes = 0;
    std::size_t size = sizeof bytes;
    return sysctlbyname("hw.l2cachesize", &bytes, &size, nullptr, 0) == 0 && size == sizeof bytes ? bytes : 0;
  }();
#else
  constexpr std::int64_t known = 0;
#endif
  return known > 0 ? known : kUnknownL2;
}

}  // namespace fastlstm
