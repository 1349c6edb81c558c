#if defined(__x86_64__)
#include <cpuid.h>

#include "platform/processor.h"

namespace fastlstm {

namespace {

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf leaf(unsigned number, unsigned part = 0) {  // zeros where the processor has no such leaf
  Leaf found;
  __get_cpuid_count(number, part, &found.eax, &found.ebx, &found.ecx, &found.edx);
  return found;
}

constexpr unsigned bit(int k) { return 1U << k; }
constexpr bool all(unsigned have, unsigned wanted) { return (have & wanted) == wanted; }

// Registers that the system saves when it switches threads.
unsigned saved_registers() {
  if (!all(leaf(1).ecx, bit(27))) return 0;  // OSXSAVE: xgetbv may be asked
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

constexpr unsigned kVectors = bit(1) | bit(2);                          // SSE's, AVX's
constexpr unsigned kLongVectors = kVectors | bit(5) | bit(6) | bit(7);  // and AVX-512's masks and vectors
constexpr unsigned kTiles = bit(17) | bit(18);

}  // namespace

bool has_avx2() {
  return all(saved_registers(), kVectors) && all(leaf(1).ecx, bit(12) | bit(28) | bit(29)) && all(leaf(7).ebx, bit(5));
}

bool has_avx512() {
  return has_avx2() && all(saved_registers(), kLongVectors) && all(leaf(7).ebx, bit(16) | bit(17) | bit(30) | bit(31));
}

bool has_avx512_bf16() { return has_avx512() && all(leaf(7, 1).eax, bit(5)); }

bool has_amx() {
  return has_avx512() && all(leaf(7).edx, bit(22) | bit(24)) && all(saved_registers(), kTiles) && tiles_permitted();
}

}  // namespace fastlstm
#endif
