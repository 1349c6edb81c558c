#define FASTLSTM_ISA amx

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isa/table.h"

namespace fastlstm {

namespace avx512 {
extern const Isa isa;
extern const CellKernels<double> float64;
}  // namespace avx512

namespace amx {
namespace {

// Linux hands out the tile registers (8 KiB of state a thread) for the asking, once a process.
bool permitted() {
  constexpr int kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

bool supported() {
  if (!avx512::isa.supported()) return false;
  unsigned eax, ebx, ecx, edx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kBf16 = 1U << 22;
  constexpr unsigned kTile = 1U << 24;
  if ((edx & kBf16) == 0 || (edx & kTile) == 0) return false;
  return permitted();
}

constexpr CellKernels<float> float32 = cells<float>();

}  // namespace

extern const Isa isa;
const Isa isa{"amx", supported, float32, avx512::float64};  // tiles have no float64

}  // namespace amx
}  // namespace fastlstm
