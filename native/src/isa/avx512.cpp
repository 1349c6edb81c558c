#define FASTLSTM_ISA avx512

#include "isa/table.h"
#include "platform/processor.h"

namespace fastlstm::avx512 {

namespace {

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<float> pairs = cells<Pair>();

}  // namespace

extern const CellKernels<double> float64;  // amx has the same
const CellKernels<double> float64 = cells<double>();

extern const Isa isa;
const Isa isa{"avx512", has_avx512, float32, float64};
extern const Isa isa_with_pairs;
const Isa isa_with_pairs{"avx512_bf16", has_avx512_bf16, float32, float64, &pairs};

}  // namespace fastlstm::avx512
