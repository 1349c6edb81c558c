#include "plan/machine.h"

#include <unistd.h>

namespace fastlstm {

std::int64_t l2_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const std::int64_t known = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (known > 0) return known;
#endif
  return std::int64_t{512} << 10;
}

}  // namespace fastlstm
