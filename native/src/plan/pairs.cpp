#include "plan/pairs.h"

namespace fastlstm {

bool fits_pairs(const Problem& problem) {
  return problem.T > 1 && problem.P == 0 && problem.H >= kPairedSize && problem.H % 2 == 0;
}

bool all_bfloat16(const Problem& problem, const Inputs<float>& inputs, Element output) {
  const auto paired = [](const auto& array) { return array.element == Element::bfloat16; };
  if (!paired(inputs.x) || output != Element::bfloat16 || !(inputs.h_0 == nullptr || paired(inputs.h_0))) return false;
  for (std::int64_t l = 0; l < problem.layers * problem.D; ++l)
    if (!paired(inputs.weights[l].w_ih) || !paired(inputs.weights[l].w_hh)) return false;
  return true;
}

}  // namespace fastlstm
