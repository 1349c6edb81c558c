#define FASTLSTM_ISA generic
#include "isa/table.h"

namespace fastlstm::generic {

namespace {
bool supported() { return true; }

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<double> float64 = cells<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"generic", supported, float32, float64};

}  // namespace fastlstm::generic
