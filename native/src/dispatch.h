// Which instruction set runs.
#pragma once
#include "kernels/kernels.h"

namespace fastlstm {

const Isa& current_isa();

template <class Real>
const Kernels<Real>& kernels();

}  // namespace fastlstm
