#define FASTLSTM_ISA avx512
#include "isa/table.h"

namespace fastlstm::avx512 {

namespace {
bool supported() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}
bool supported_with_pairs() { return supported() && __builtin_cpu_supports("avx512bf16") != 0; }
constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<float> pairs = cells<Pair>();

}  // namespace

extern const CellKernels<double> float64;  // amx has the same
const CellKernels<double> float64 = cells<double>();

extern const Isa isa;
const Isa isa{"avx512", supported, float32, float64};
extern const Isa isa_with_pairs;
const Isa isa_with_pairs{"avx512_bf16", supported_with_pairs, float32, float64, &pairs};

}  // namespace fastlstm::avx512
