#define FASTLSTM_ISA neon
#include "isa/table.h"

namespace fastlstm::neon {

namespace {
bool supported() { return true; }  // every AArch64 processor has it

constexpr Kernels<float> float32 = kernels<float>();
constexpr Kernels<double> float64 = kernels<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"neon", supported, float32, float64};

}  // namespace fastlstm::neon
