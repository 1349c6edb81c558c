#include "isa/neon.h"

#include "kernels/kernels.h"

#define FASTLSTM_ISA neon
#include "kernels/kernels.inl"

namespace fastlstm::neon {

namespace {
bool supported() { return true; }  // every AArch64 processor has it
}  // namespace

extern const Isa isa;
const Isa isa{"neon", supported, kernels<float>(), kernels<double>()};

}  // namespace fastlstm::neon
