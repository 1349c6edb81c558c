// The tile registers of AMX, by number. Intrinsics of GCC 12 do not say that a load reads memory; these do.
#pragma once
#include <cstdint>

#include "batch/index.h"

namespace fastlstm::FASTLSTM_ISA {

// This thread's eight tiles have 16 rows of 64 bytes.
inline void configure_tiles() {
  alignas(64) std::uint8_t configuration[64] = {1};  // palette 1; then, from byte 16, bytes a row, and from byte 48, rows
  for (int tile = 0; tile < 8; ++tile) {
    configuration[16 + 2 * tile] = 64;
    configuration[48 + tile] = 16;
  }
  asm volatile("ldtilecfg %0" : : "m"(configuration));
}
inline void release_tiles() { asm volatile("tilerelease"); }

template <int TILE>
inline __attribute__((always_inline)) void load_tile(const void* base, Index stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride_bytes), "i"(TILE) : "memory");
}
template <int TILE>
inline __attribute__((always_inline)) void store_tile(void* base, Index stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(base), "r"(stride_bytes), "i"(TILE) : "memory");
}
template <int TILE>
inline __attribute__((always_inline)) void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(TILE));
}
template <int SUM, int ROWS, int COLUMNS>
inline __attribute__((always_inline)) void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(ROWS), "i"(COLUMNS));
}

}  // namespace fastlstm::FASTLSTM_ISA
