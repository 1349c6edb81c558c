// Weights, gate gradients and features as pairs of bfloat16, on instruction sets that multiply them (isa/avx512_pairs.h).
#pragma once
#include <cstring>

#include "product/features.h"
#include "product/pack.h"

#ifdef FASTLSTM_PAIRS
namespace fastlstm::FASTLSTM_ISA {

static_assert(kLanes<Pair> == kLanes<float>, "a pair stands where a float would: panels are as wide");

// to[k][0 .. width) = the pairs k of the rows w[0 .. rows), K numbers each, and zeros from rows on: see pack_rows of numbers.
inline void pack_rows(const BFloat16* w, Index rows, Index K, Pair* to, Index width, Index ld_to) {
  constexpr Index height = kLanes<Pair>;
  constexpr Index depth = 128;  // pairs: the piece stays in L1
  float piece[height * depth];  // a pair moves as a float would
  for (Index k = 0; k < terms<Pair>(K); k += depth) {
    const Index numbers = K - 2 * k < 2 * depth ? K - 2 * k : 2 * depth;
    const Index count = terms<Pair>(numbers);
    for (Index r = 0; r < width; ++r) {
      auto* const row = reinterpret_cast<char*>(piece + r * depth);
      const std::size_t bytes = r < rows ? static_cast<std::size_t>(numbers) * sizeof(BFloat16) : 0;
      std::memcpy(row, w + r * K + 2 * k, bytes);
      std::memset(row + bytes, 0, static_cast<std::size_t>(count) * sizeof(Pair) - bytes);
    }
    transpose(piece, depth, width, count, reinterpret_cast<float*>(to + k * ld_to), ld_to);
  }
}

// pack_gates, whose k0 and K_all are terms.
template <class Order>
void pack_gates(const Source<float>& weights, Index H, Index K, Pair* panels, Index k0, Index K_all, Index u0, Index u1) {
  constexpr Index lanes = kLanes<Pair>;
  const auto* const w = static_cast<const BFloat16*>(weights.data);
  constexpr Index width = kGatePanel<Order, Pair>;
  for_panel_sums<Order>(panels + k0 * width, K_all, u0, u1, [&](Index u, Index gate, Pair* to) {
    const Index units = gate < 0 ? 0 : H - u * lanes < lanes ? H - u * lanes : lanes;
    pack_rows(w + (gate < 0 ? 0 : gate * H + u * lanes) * K, units, K, to, lanes, width);
  });
}

// pack_gate_rows: a pair is a gate of two neighbouring units.
template <class Order>
void pack_gate_rows(const Source<float>& weights, Index H, Index columns, Pair* panels, Index p0, Index p1) {
  constexpr Index lanes = kLanes<Pair>;
  const auto* const w = static_cast<const BFloat16*>(weights.data);
  const Index blocks = unit_blocks<float>(H);
  for (Index p = p0; p < p1; ++p) {
    Pair* out = panels + p * blocks * terms<Pair>(Order::kSpan * lanes) * kPanel<Pair>;
    for (Index u = 0; u < blocks; ++u)
      for (Index sum = Order::kFirst; sum < Order::kFirst + Order::kSpan; ++sum)
        for (Index unit = u * lanes; unit < (u + 1) * lanes; unit += 2, out += kPanel<Pair>)
          for (Index v = 0; v < kVectors; ++v) {
            const Index j = p * kPanel<Pair> + v * lanes;
            const Index gate = Order::gates[sum];
            const auto row = [&](Index r) { return gate >= 0 && r < H ? w + (gate * H + r) * columns + j : nullptr; };
            store(out + v * lanes, zip(row(unit), row(unit + 1), columns - j));
          }
  }
}

// The gate gradients of a block, (panels of gates)[rows][kPanel], as panels whose terms are its rows, for the panels [p0, p1).
inline void pair_rows(const BFloat16* dgates, Index rows, Pair* panels, Index p0, Index p1) {
  for (Index p = p0; p < p1; ++p)
    for (Index r = 0; r < rows; r += 2) {
      const BFloat16* const row = dgates + (p * rows + r) * kPanel<Pair>;
      Pair* const to = panels + (p * terms<Pair>(rows) + r / 2) * kPanel<Pair>;
      for (Index j = 0; j < kPanel<Pair>; j += 2 * kLanes<Pair>)
        zip_two(row + j, r + 1 < rows ? row + kPanel<Pair> + j : nullptr, to + j);
    }
}

// pack_features: an odd row finds the one before it there.
inline void pack_features(const float* source, Index ld, Index row0, Index rows, Index features, const FeatureTiles<Pair>& to) {
  for (Index r = row0 % 2 == 1 ? -1 : 0; r < rows; r += 2)
    for (Index m = 0; m < to.count; ++m) {
      const Index left = features - m * kTileRows;
      Pair* const at = to.first + m * to.size + (row0 + r) / 2 * kTileRows;
      const auto row = [&](Index k) {
        if (source == nullptr || k < 0 || k >= rows || left <= 0) return broadcast(0.0F);
        return load_first(source + k * ld + m * kTileRows, left < kTileRows ? static_cast<int>(left) : kTileRows);
      };
      if (r < 0) {
        BFloat16 second[kLanes<Pair>];
        store_elements(second, row(0), kLanes<Pair>);
        for (Index j = 0; j < kTileRows; ++j) at[j].second = second[j];
      } else if (source != nullptr && left >= kMoved && r + 1 < rows && row0 + r + 2 < to.rows) {
        const float* const from = source + r * ld + m * kTileRows;
        zip_few(from, from + ld, at);
      } else {
        store_first(at, zip(row(r), row(r + 1)), kTileRows);
      }
    }
}

// pack_ones
inline void pack_ones(Pair* tile, Index rows) {
  for (Index r = 0; r < rows; r += 2) {
    const Vec<Pair> ones = zip(broadcast(1.0F), broadcast(r + 1 < rows ? 1.0F : 0.0F));
    store_first(tile + r / 2 * kTileRows, ones, kTileRows);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
#endif
