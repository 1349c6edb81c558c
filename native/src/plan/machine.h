// Where a plan is carried out.
#pragma once
#include <cstdint>

namespace fastlstm {

// Of the instruction set's kernels and of the processor, what a plan depends on.
struct Machine {
  std::int64_t weight_bytes;  // of one number, packed
  double products;            // that a processor adds up in the time of a fused multiply-add, lane by lane: the numbers of a term
  bool has_tiles;             // matrix tiles, for this Real
  std::int64_t l2_bytes;      // of a core
  std::int64_t lanes;         // Reals in a vector
  std::int64_t gates;         // of the cell: blocks of H rows in the weights
  std::int64_t sums;          // of a unit, side by side in its panels
  std::int64_t states = 2;    // from step to step; one: h, which forward then keeps

  std::int64_t real_bytes() const { return weight_bytes * static_cast<std::int64_t>(products); }
  std::int64_t terms(std::int64_t numbers) const {
    const auto each = static_cast<std::int64_t>(products);
    return (numbers + each - 1) / each;
  }
  std::int64_t padded(std::int64_t units) const { return (units + lanes - 1) / lanes * lanes; }
};

}  // namespace fastlstm
