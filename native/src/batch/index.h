// Counts and positions.
#pragma once
#include <cstdint>

namespace fastlstm {

using Index = std::int64_t;

}  // namespace fastlstm
