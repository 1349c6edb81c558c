#include "platform/processor.h"

#include <cstddef>
#include <vector>
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

namespace fastlstm {

bool tiles_permitted() { return false; }  // not tried there

std::int64_t l2_bytes() {
  static const std::int64_t known = [] {
    DWORD bytes = 0;
    GetLogicalProcessorInformation(nullptr, &bytes);
    std::vector<SYSTEM_LOGICAL_PROCESSOR_INFORMATION> all(bytes / sizeof(SYSTEM_LOGICAL_PROCESSOR_INFORMATION));
    if (!all.empty() && GetLogicalProcessorInformation(all.data(), &bytes) != 0)
      for (const auto& each : all)
        if (each.Relationship == RelationCache && each.Cache.Level == 2) return static_cast<std::int64_t>(each.Cache.Size);
    return kUnknownL2;
  }();
  return known;
}

}  // namespace fastlstm
