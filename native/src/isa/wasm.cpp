#define FASTLSTM_ISA wasm
#include "isa/table.h"

namespace fastlstm::wasm {

namespace {
bool supported() { return true; }  // a module with such instructions does not load elsewhere

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<double> float64 = cells<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"wasm", supported, float32, float64};

}  // namespace fastlstm::wasm
