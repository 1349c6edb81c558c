#include "isa/generic.h"

#include "kernels/kernels.h"

#define FASTLSTM_ISA generic
#include "kernels/kernels.inl"

namespace fastlstm::generic {

namespace {
bool supported() { return true; }
}  // namespace

extern const Isa isa;
const Isa isa{"generic", supported, kernels<float>(), kernels<double>()};

}  // namespace fastlstm::generic
