// What nanobind leaves out of DLPack 1.x's C ABI: the exchange table that an array library hangs on its tensor type as
// `__dlpack_c_exchange_api__` (DLPack 1.3, dlpack.h; torch 2.13 has it).
#pragma once
#include <nanobind/ndarray.h>

namespace dlpack {

using namespace nanobind::dlpack;
inline constexpr std::int32_t kCPU = nanobind::device::cpu::value;

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

// A tensor and who owns it: DLManagedTensorVersioned.
struct Managed {
  Version version;
  void* context;
  void (*release)(Managed* self);
  std::uint64_t flags;
  dltensor tensor;
};

struct ExchangeTable {
  Version version;
  void* previous;
  void* allocate;
  void* managed_from_object;
  int (*managed_to_object)(Managed* tensor, void** object);  // a new reference to what owns `tensor` from now on
  int (*tensor_from_object)(void* object, dltensor* out);    // fills in a view that lives as long as nothing touches the object
  void* current_stream;
};

}  // namespace dlpack
