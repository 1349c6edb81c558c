// What the processor has. Features of x86-64 by cpuid itself: of the compilers' __builtin_cpu_supports not all tell the truth.
#pragma once
#include <cstdint>

namespace fastlstm {

bool has_avx2();    // and FMA and F16C
bool has_avx512();  // F, VL, BW and DQ
bool has_avx512_bf16();
bool has_amx();  // tiles of bfloat16, and the system lets this process use them
bool tiles_permitted();

std::int64_t l2_bytes();  // of a core; where the system does not tell, 512 KiB
inline constexpr std::int64_t kUnknownL2 = std::int64_t{512} << 10;

// While a thread waits in a loop.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace fastlstm
