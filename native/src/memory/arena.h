// Pieces of a workspace.
#pragma once
#include <cstddef>

#include "batch/index.h"

namespace fastlstm {

// Hands out pieces of one Workspace, each on its own cache lines. With a null base it only counts.
class Arena {
 public:
  explicit Arena(void* base) : base_(static_cast<char*>(base)) {}
  template <class Real>
  Real* take(Index count) {
    char* const piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(Real) + 63) / 64 * 64;
    return reinterpret_cast<Real*>(piece);
  }
  std::size_t used() const { return used_; }

 private:
  char* base_;
  std::size_t used_ = 0;
};

}  // namespace fastlstm
