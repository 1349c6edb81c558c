// Pieces of a workspace.
#pragma once
#include <cstddef>
#include <cstdint>

#include "batch/index.h"

namespace fastlstm {

// Hands out pieces of one Workspace, each on its own cache lines. With a null base it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <class Real>
  Real* take(Index count) {
    char* const piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<std::uint64_t>(count) * sizeof(Real) + 63) / 64 * 64;
    return reinterpret_cast<Real*>(piece);
  }
  // The most that there is, which no Workspace has, where it does not fit in 32 bits.
  std::size_t used() const { return used_ > SIZE_MAX ? SIZE_MAX : static_cast<std::size_t>(used_); }

 private:
  char* base_;
  std::uint64_t used_ = 0;
};

}  // namespace fastlstm
