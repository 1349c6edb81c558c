#define FASTLSTM_ISA avx2

#include "isa/table.h"
#include "platform/processor.h"

namespace fastlstm::avx2 {

namespace {

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<double> float64 = cells<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"avx2", has_avx2, float32, float64};

}  // namespace fastlstm::avx2
