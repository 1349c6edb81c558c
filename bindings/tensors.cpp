#include "tensors.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace tensors {

namespace {

using Index = std::int64_t;

// What use_torch finds, once; never released: they live as long as torch does.
struct Torch {
  const dlpack::ExchangeTable* table = nullptr;
  PyTypeObject* tensor;
  PyTypeObject* parameter;
  PyObject* empty_strided;
  PyObject* dtypes[4];  // in the order of kDTypes
  PyObject* cpu;
  PyObject* options;  // ("dtype", "device")
  PyObject* is_neg;
} torch;

bool use_torch(nb::module_ module) {
  const nb::object capsule = nb::getattr(module.attr("Tensor"), "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return false;
  const auto* const table = static_cast<const dlpack::ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (table->version.major != 1 || table->tensor_from_object == nullptr || table->managed_to_object == nullptr) return false;
  const auto keep = [](nb::object object) { return object.release().ptr(); };
  torch.tensor = reinterpret_cast<PyTypeObject*>(keep(module.attr("Tensor")));
  torch.parameter = reinterpret_cast<PyTypeObject*>(keep(module.attr("nn").attr("Parameter")));
  torch.empty_strided = keep(module.attr("empty_strided"));
  for (std::size_t k = 0; k < std::size(kDTypes); ++k) torch.dtypes[k] = keep(module.attr(kDTypes[k].name));
  torch.cpu = keep(module.attr("device")("cpu"));
  torch.options = keep(nb::make_tuple("dtype", "device"));
  torch.is_neg = keep(nb::str("is_neg"));
  torch.table = table;
  return true;
}

nb::object tuple_of(const Index* numbers, std::size_t count) {
  PyObject* const tuple = PyTuple_New(static_cast<Py_ssize_t>(count));
  for (std::size_t k = 0; k < count; ++k) PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(k), PyLong_FromLongLong(numbers[k]));
  return nb::steal(tuple);
}

// What a tensor in the engine's memory owns.
struct Large {
  dlpack::Managed managed{};
  fastlstm::Workspace memory;
  std::vector<Index> shape;
  std::vector<Index> strides;

  Large(const DType& dtype, std::size_t bytes, const Index* sizes, const Index* steps, std::size_t dimensions)
      : memory(bytes, fastlstm::Workspace::Use::given), shape(sizes, sizes + dimensions), strides(steps, steps + dimensions) {
    managed.version = {1, 0};
    managed.context = this;
    managed.release = [](dlpack::Managed* self) { delete static_cast<Large*>(self->context); };  // from any thread
    managed.tensor = {memory.data(),
                      {dlpack::kCPU, 0},
                      static_cast<std::int32_t>(dimensions),
                      {dtype.code, dtype.bits, 1},
                      shape.data(),
                      strides.data(),
                      0};
  }
};

// From what on malloc gives memory back to the system at once, to be faulted in again at the next call, 1 us for 4 KiB: backward
// at (T, N, I, H) = (100, 1, 256, 256), with two gradients of 1 MiB, 2.2 ms, of which 0.4.
constexpr std::size_t kLarge = std::size_t{512} << 10;

std::size_t bytes_of(const DType& dtype, const Index* shape, std::size_t dimensions) {
  std::size_t bytes = dtype.bits / 8;
  for (std::size_t k = 0; k < dimensions; ++k)
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(shape[k]), &bytes) || bytes > PTRDIFF_MAX)
      throw std::runtime_error("a tensor of more bytes than can be counted");
  return bytes;
}

nb::object make(const DType& dtype, const Index* shape, const Index* strides, std::size_t dimensions) {
  if (const std::size_t bytes = bytes_of(dtype, shape, dimensions); bytes >= kLarge) {
    auto large = std::make_unique<Large>(dtype, bytes, shape, strides, dimensions);
    void* object = nullptr;
    // torch's from here on: where it fails, it may have released what it was given, or not.
    dlpack::Managed& managed = large.release()->managed;
    if (torch.table->managed_to_object(&managed, &object) != 0 || object == nullptr) throw nb::python_error();
    return nb::steal(static_cast<PyObject*>(object));
  }
  const nb::object size = tuple_of(shape, dimensions);
  const nb::object stride = tuple_of(strides, dimensions);
  PyObject* const arguments[] = {size.ptr(), stride.ptr(), torch.dtypes[&dtype - kDTypes], torch.cpu};
  nb::object tensor = nb::steal(PyObject_Vectorcall(torch.empty_strided, arguments, 2, torch.options));
  if (!tensor.is_valid()) throw nb::python_error();
  return tensor;
}

std::vector<Index> dense_strides(const Index* shape, std::size_t dimensions) {
  std::vector<Index> strides(dimensions, 1);
  for (std::size_t k = dimensions; k-- > 1;) strides[k - 1] = strides[k] * shape[k];
  return strides;
}

nb::object empty(const std::vector<Index>& shape, const std::string& name) {
  const DType& dtype = dtype_named(name);
  if (std::any_of(shape.begin(), shape.end(), [](Index size) { return size < 0; }))
    throw std::invalid_argument("empty: expected sizes of at least 0");
  if (!known() || bytes_of(dtype, shape.data(), shape.size()) < kLarge) return nb::none();
  return make(dtype, shape.data(), dense_strides(shape.data(), shape.size()).data(), shape.size());
}

}  // namespace

bool known() { return torch.table != nullptr; }

std::optional<dlpack::Tensor> view(PyObject* object) {
  if (Py_TYPE(object) != torch.tensor && Py_TYPE(object) != torch.parameter) return {};
  dlpack::Tensor t;
  if (torch.table->tensor_from_object(object, &t) != 0) {
    PyErr_Clear();
    return {};
  }
  if (t.device.type != dlpack::kCPU || t.dtype.lanes != 1 || t.data == nullptr || t.byte_offset != 0) return {};
  // Where a storage was freed, an address is the tensor's offset in it: nothing lies so low, not even a program at a fixed
  // address.
  constexpr std::uintptr_t lowest = std::uintptr_t{4} << 20;
  if (reinterpret_cast<std::uintptr_t>(t.data) < lowest) return {};
  if (t.dtype.bits >= 8 && reinterpret_cast<std::uintptr_t>(t.data) % (t.dtype.bits / 8) != 0) return {};
  return t;
}

std::optional<dlpack::Tensor> view(PyObject* object, const DType& dtype) {
  const auto t = view(object);
  if (!t || t->dtype.code != dtype.code || t->dtype.bits != dtype.bits) return {};
  return t;
}

const DType& dtype_named(const std::string& name) {
  for (const DType& dtype : kDTypes)
    if (name == dtype.name) return dtype;
  throw std::invalid_argument("dtype: expected float32, float64, bfloat16 or float16, got " + name);
}

const DType* dtype_of(const dlpack::Tensor& t) {
  for (const DType& dtype : kDTypes)
    if (dtype.code == t.dtype.code && dtype.bits == t.dtype.bits) return &dtype;
  return nullptr;
}

bool is_dense(const dlpack::Tensor& t) {
  Index stride = 1;
  for (int k = t.ndim; k-- > 0;) {
    if (t.shape[k] != 1 && t.strides[k] != stride) return false;
    stride *= t.shape[k];
  }
  return true;
}

bool is_dense(const dlpack::Tensor& t, std::initializer_list<Index> shape) {
  return t.ndim == static_cast<int>(shape.size()) && std::equal(shape.begin(), shape.end(), t.shape) && is_dense(t);
}

bool is_negated(PyObject* tensor) {
  PyObject* const answer = PyObject_CallMethodNoArgs(tensor, torch.is_neg);
  if (answer == nullptr) PyErr_Clear();
  Py_XDECREF(answer);
  return answer != Py_False;
}

Made::Made(const DType& dtype, const Index* shape, std::size_t dimensions)
    : tensor(make(dtype, shape, dense_strides(shape, dimensions).data(), dimensions)) {
  const auto made = view(tensor.ptr(), dtype);
  data = made ? made->data : nullptr;
}

Made::Made(const DType& dtype, std::initializer_list<Index> shape, std::initializer_list<Index> strides)
    : tensor(make(dtype, shape.begin(), strides.begin(), shape.size())) {
  const auto made = view(tensor.ptr(), dtype);
  data = made ? made->data : nullptr;
}

}  // namespace tensors

void define_tensors(nb::module_& m) {
  m.def("use_torch", tensors::use_torch, "torch"_a);
  m.def("empty", tensors::empty, "shape"_a, "dtype"_a);
}
