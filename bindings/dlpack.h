// As much of DLPack 1.x's C ABI as it takes to read and make a tensor without a handshake: the exchange table that an array
// library hangs on its tensor type as `__dlpack_c_exchange_api__` (DLPack 1.3, dlpack.h; torch 2.13 has it).
#pragma once
#include <cstdint>

namespace dlpack {

struct Device {
  std::int32_t type;
  std::int32_t id;
};
inline constexpr std::int32_t kCPU = 1;

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
inline constexpr std::uint8_t kInt = 0;
inline constexpr std::uint8_t kUnknown = 255;
inline constexpr std::uint8_t kFloat = 2;
inline constexpr std::uint8_t kBfloat = 4;
inline constexpr std::uint8_t kBool = 6;

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

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
  Tensor tensor;
};

struct ExchangeTable {
  Version version;
  void* previous;
  void* allocate;
  void* managed_from_object;
  int (*managed_to_object)(Managed* tensor, void** object);  // a new reference to what owns `tensor` from now on
  int (*tensor_from_object)(void* object, Tensor* out);      // fills in a view that lives as long as nothing touches the object
  void* current_stream;
};

}  // namespace dlpack
