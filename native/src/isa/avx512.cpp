#include "kernels/kernels.h"

#define FASTLSTM_ISA avx512
#include "isa/avx512.h"
//
#include "kernels/kernels.inl"

namespace fastlstm::avx512 {

namespace {
bool supported() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}
constexpr Kernels<float> float32 = kernels<float>();

}  // namespace

extern const Kernels<double> float64;  // amx has the same
const Kernels<double> float64 = kernels<double>();

extern const Isa isa;
const Isa isa{"avx512", supported, float32, float64};

}  // namespace fastlstm::avx512
