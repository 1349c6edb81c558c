#define FASTLSTM_ISA generic
#include "isa/table.h"

namespace fastlstm::generic {

namespace {
bool supported() { return true; }

constexpr Kernels<float> float32 = kernels<float>();
constexpr Kernels<double> float64 = kernels<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"generic", supported, float32, float64};

}  // namespace fastlstm::generic
