#include "isa/avx512.h"

#include "kernels/kernels.h"

#define FASTLSTM_ISA avx512
#include "kernels/kernels.inl"

namespace fastlstm::avx512 {

namespace {
bool supported() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}
}  // namespace

extern const Isa isa;
const Isa isa{"avx512", supported, kernels<float>(), kernels<double>()};

}  // namespace fastlstm::avx512
