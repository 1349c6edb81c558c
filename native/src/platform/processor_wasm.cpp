#include "platform/processor.h"

namespace fastlstm {

std::int64_t l2_bytes() { return kUnknownL2; }

}  // namespace fastlstm
