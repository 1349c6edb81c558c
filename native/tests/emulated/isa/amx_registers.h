// AMX's tile registers in plain C++, in the place of src/isa/amx_registers.h: products on matrix tiles are tested where a
// processor has AVX-512 alone. The order of additions is the instruction's: pair by pair.
#pragma once
#include <cstdint>
#include <cstring>

#include "batch/index.h"

namespace fastlstm::FASTLSTM_ISA {

constexpr int kEmulatedRows = 16;
constexpr int kEmulatedBytes = 64;
inline thread_local unsigned char emulated_tiles[8][kEmulatedRows][kEmulatedBytes];

inline void configure_tiles() { std::memset(emulated_tiles, 0, sizeof emulated_tiles); }
inline void release_tiles() {}

template <int TILE>
inline void load_tile(const void* base, Index stride_bytes) {
  for (int r = 0; r < kEmulatedRows; ++r)
    std::memcpy(emulated_tiles[TILE][r], static_cast<const char*>(base) + r * stride_bytes, kEmulatedBytes);
}
template <int TILE>
inline void store_tile(void* base, Index stride_bytes) {
  for (int r = 0; r < kEmulatedRows; ++r)
    std::memcpy(static_cast<char*>(base) + r * stride_bytes, emulated_tiles[TILE][r], kEmulatedBytes);
}
template <int TILE>
inline void zero_tile() {
  std::memset(emulated_tiles[TILE], 0, sizeof emulated_tiles[TILE]);
}

inline float emulated_number(const unsigned char* row, int k) {  // a bfloat16
  std::uint16_t half;
  std::memcpy(&half, row + 2 * k, sizeof half);
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}
template <int SUM, int ROWS, int COLUMNS>
inline void multiply_tiles() {
  for (int m = 0; m < kEmulatedRows; ++m)
    for (int n = 0; n < kEmulatedBytes / 4; ++n) {
      float sum;
      std::memcpy(&sum, &emulated_tiles[SUM][m][4 * n], sizeof sum);
      for (int pair = 0; pair < kEmulatedRows; ++pair)
        for (int k = 0; k < 2; ++k)
          sum +=
              emulated_number(emulated_tiles[ROWS][m], 2 * pair + k) * emulated_number(emulated_tiles[COLUMNS][pair], 2 * n + k);
      std::memcpy(&emulated_tiles[SUM][m][4 * n], &sum, sizeof sum);
    }
}

}  // namespace fastlstm::FASTLSTM_ISA
