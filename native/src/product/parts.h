// Where the parts and the cuts of a sum end: they depend on its length alone.
#pragma once
#include <cstdint>

namespace fastlstm {

// A sum over k is computed in parts, each in one chain of fused multiply-adds from zero, that are then added to each other: in
// one chain over all, every term is rounded at the size of the whole. Against float64, (50, 33, 1, 512) was off by 3.7 times as
// much as nn.LSTM's.
inline constexpr std::int64_t kPart = 128;
inline constexpr std::int64_t kProjectedPart = 32;  // of a projection, a small share of the work: torch's of one row is of lanes
// Where the part (or the cut) ends that begins at k: what follows it is never less than half of one.
inline constexpr std::int64_t end_of(std::int64_t k, std::int64_t length, std::int64_t K) {
  return K - k < length + length / 2 ? K : k + length;
}

// One cut of the sum over k, some parts: a panel's cut of 512 x 64 bytes fills an L1 of 32 KiB with 16 registers; with 32, L2 is
// streamed anyway.
inline constexpr std::int64_t kCut = 512;
static_assert(kCut % kPart == 0, "a cut ends where a part does");
inline constexpr bool is_cut(std::int64_t K) { return end_of(0, kCut, K) < K; }

// Rows at most of products with weights that stand as they are: an outer product keeps a register for each. More rows repay
// packed weights.
inline constexpr std::int64_t kFewRows = 8;

}  // namespace fastlstm
