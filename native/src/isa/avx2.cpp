#define FASTLSTM_ISA avx2

#include <cpuid.h>

#include "isa/table.h"

namespace fastlstm::avx2 {

namespace {
bool supported() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned kF16c = 1U << 29;
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kF16c) != 0;
}

constexpr CellKernels<float> float32 = cells<float>();
constexpr CellKernels<double> float64 = cells<double>();

}  // namespace

extern const Isa isa;
const Isa isa{"avx2", supported, float32, float64};

}  // namespace fastlstm::avx2
