// Whether a call multiplies bfloat16 numbers as they are, two at a time.
#pragma once
#include <cstdint>

#include "fastlstm/engine.h"

namespace fastlstm {

// Whether the products of a call of such sizes may be of pairs of bfloat16 numbers, where what it multiplies are such numbers
// anyway: all but the hidden states, of which the caller gets such numbers too, and the gradients of the gates. Those are rounded
// for it. Against float64, gradients are then off by 0.25% of their norm (float32's, rounded to bfloat16: 0.17%; nn.LSTM's:
// 0.4%). Few units leave little to average: up to 1.7% at two. Not a single step: it waits for its weights, not for products.
bool fits_pairs(const Problem& problem);
inline constexpr std::int64_t kPairedSize = 32;
// Whether they are.
bool all_bfloat16(const Problem& problem, const Inputs<float>& inputs, Element output);

}  // namespace fastlstm
