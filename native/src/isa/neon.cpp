#define FASTLSTM_ISA neon
#include "isa/table.h"

namespace fastlstm::neon {

namespace {
bool supported() { return true; }  // every AArch64 processor has it

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<double> float64 = cells<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"neon", supported, float32, float64};

}  // namespace fastlstm::neon
