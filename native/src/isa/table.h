// The kernels of the instruction set that a file is compiled for. The sources are the same for all; nothing here may use inline
// functions of the standard library, which another object file could share.
#pragma once
#include "isa/kernels.h"
#include "layer/backward_layers.h"
#include "layer/forward_layers.h"
#include "layer/trace.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Term>
constexpr Kernels<RealOf<Term>> kernels() {
  using Real = RealOf<Term>;
  return {saved_size<Real>,      forward_scratch<Term>, forward_layers<Term>, backward_scratch<Term>,
          backward_layers<Term>, trace_layers<Real>,    machine<Term>};
}

}  // namespace fastlstm::FASTLSTM_ISA
