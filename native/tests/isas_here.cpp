#include <algorithm>

#include "kernels_of_isa.h"
#include "tested_isas.h"  // what CMake has built: FASTLSTM_ISAS(use) is use(name) for each

namespace fastlstm {
#define FASTLSTM_DECLARED(name)                            \
  namespace name {                                         \
  extern const KernelsOfIsa<float>* const tested_float32;  \
  extern const KernelsOfIsa<double>* const tested_float64; \
  }
FASTLSTM_ISAS(FASTLSTM_DECLARED)
#ifdef FASTLSTM_TESTED_AVX512
namespace avx512 {
extern const PairsOfIsa* const tested_pairs;
}
namespace amx_emulated {
extern const TilesOfIsa* const tested_tiles;
}
#endif
#ifdef FASTLSTM_TESTED_AMX
namespace amx {
extern const TilesOfIsa* const tested_tiles;
}
#endif
}  // namespace fastlstm

std::vector<Isa> isas_here() {
  using namespace fastlstm;
#define FASTLSTM_LISTED(name) {#name, #name, name::tested_float32, name::tested_float64, nullptr, nullptr},
  std::vector<Isa> all{FASTLSTM_ISAS(FASTLSTM_LISTED)};
  for (Isa& isa : all) {
#ifdef FASTLSTM_TESTED_AVX512
    if (isa.name == "amx_emulated") {
      isa.needs = "avx512";
      isa.tiles = amx_emulated::tested_tiles;
    }
#endif
#ifdef FASTLSTM_TESTED_AMX
    if (isa.name == "amx") isa.tiles = amx::tested_tiles;
#endif
  }
#ifdef FASTLSTM_TESTED_AVX512
  all.push_back({"avx512_bf16", "avx512_bf16", avx512::tested_float32, avx512::tested_float64, avx512::tested_pairs, nullptr});
#endif
  const std::vector<std::string> here = fastlstm::isas();
  std::erase_if(all, [&](const Isa& isa) { return std::find(here.begin(), here.end(), isa.needs) == here.end(); });
  return all;
}
