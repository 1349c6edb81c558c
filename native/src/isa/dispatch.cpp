#include "isa/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace fastlstm {

#ifndef FASTLSTM_WITHOUT_GENERIC  // as the live page's module is, which is to be small
namespace generic {
extern const Isa isa;
}
#endif
#if defined(__x86_64__)
#ifndef FASTLSTM_WITHOUT_AVX2  // as some builds for a sanitizer are: see CMakeLists.txt
namespace avx2 {
extern const Isa isa;
}
#endif
#ifndef FASTLSTM_WITHOUT_AVX512
namespace avx512 {
extern const Isa isa;
extern const Isa isa_with_pairs;
}  // namespace avx512
#endif
#ifndef FASTLSTM_WITHOUT_AMX
namespace amx {
extern const Isa isa;
}
#endif
#elif defined(__aarch64__)
namespace neon {
extern const Isa isa;
}
#elif defined(__wasm_simd128__)
namespace wasm {
extern const Isa isa;
}
#endif

namespace {

// Slowest first; the last one that the processor supports is the default.
const Isa* const built[] = {
#ifndef FASTLSTM_WITHOUT_GENERIC
    &generic::isa,
#endif
#if defined(__x86_64__)
#ifndef FASTLSTM_WITHOUT_AVX2
    &avx2::isa,
#endif
#ifndef FASTLSTM_WITHOUT_AVX512
    &avx512::isa,  &avx512::isa_with_pairs,
#endif
#ifndef FASTLSTM_WITHOUT_AMX
    &amx::isa,
#endif
#elif defined(__aarch64__)
    &neon::isa,
#elif defined(__wasm_simd128__)
    &wasm::isa,
#endif
};

// `said`: by whom, for the error.
const Isa& by_name(const std::string& name, const std::string& said = "") {
  std::string have;
  for (const Isa* isa : built) {
    if (!isa->supported()) continue;
    if (isa->name == name) return *isa;
    have += have.empty() ? "" : ", ";
    have += isa->name;
  }
  throw std::invalid_argument(said + "instruction set '" + name + "' is not available here; available: " + have);
}

const Isa* default_isa() {
  if (const char* const forced = std::getenv("FASTLSTM_ISA"); forced != nullptr && *forced != '\0')
    return &by_name(forced, "FASTLSTM_ISA: ");
  const Isa* best = built[0];
  for (const Isa* isa : built)
    if (isa->supported()) best = isa;
  return best;
}

std::atomic<const Isa*> current{nullptr};

}  // namespace

const Isa& current_isa() {
  const Isa* isa = current.load(std::memory_order_relaxed);
  if (isa == nullptr) {
    isa = default_isa();
    current.store(isa, std::memory_order_relaxed);
  }
  return *isa;
}

template <>
const Kernels<float>& kernels<float>(CellKind cell) {
  return current_isa().float32.of(cell);
}
template <>
const Kernels<double>& kernels<double>(CellKind cell) {
  return current_isa().float64.of(cell);
}

std::string isa() { return current_isa().name; }

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa* isa : built)
    if (isa->supported()) names.emplace_back(isa->name);
  return names;
}

void use_isa(const std::string& name) { current.store(&by_name(name)); }

}  // namespace fastlstm
