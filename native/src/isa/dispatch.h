// Which instruction set runs.
#pragma once
#include "isa/kernels.h"

namespace fastlstm {

const Isa& current_isa();

template <class Real>
const Kernels<Real>& kernels(CellKind cell);

}  // namespace fastlstm
