// What PackedWeights has.
#pragma once
#include "fastlstm/packed_weights.h"
#include "isa/kernels.h"

namespace fastlstm {

template <class Real>
struct PackedWeights<Real>::Impl {
  Problem problem;               // of one step of one row
  const Kernels<Real>& kernels;  // of the instruction set whose panels these are
  Workspace memory;
};

}  // namespace fastlstm
