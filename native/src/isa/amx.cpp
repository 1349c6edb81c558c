#define FASTLSTM_ISA amx

#include "isa/table.h"
#include "platform/processor.h"

namespace fastlstm {

namespace avx512 {
extern const CellKernels<double> float64;
}  // namespace avx512

namespace amx {
namespace {

constexpr CellKernels<float> float32 = cells<float>();

}  // namespace

extern const Isa isa;
const Isa isa{"amx", has_amx, float32, avx512::float64};  // tiles have no float64

}  // namespace amx
}  // namespace fastlstm
