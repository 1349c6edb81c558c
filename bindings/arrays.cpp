#include "arrays.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "dlpack.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace arrays {

namespace {

constexpr auto kInt = static_cast<std::uint8_t>(dlpack::dtype_code::Int);
constexpr auto kFloat = static_cast<std::uint8_t>(dlpack::dtype_code::Float);
constexpr auto kBfloat = static_cast<std::uint8_t>(dlpack::dtype_code::Bfloat);
constexpr auto kBool = static_cast<std::uint8_t>(dlpack::dtype_code::Bool);
constexpr std::uint8_t kUnknown = 255;
constexpr DType kDTypes[] = {{"float32", kFloat, 32, fastlstm::Element::real},
                             {"float64", kFloat, 64, fastlstm::Element::real},
                             {"bfloat16", kBfloat, 16, fastlstm::Element::bfloat16},
                             {"float16", kFloat, 16, fastlstm::Element::float16}};

// What use_torch finds, once; never released: they live as long as torch does.
struct Torch {
  const dlpack::ExchangeTable* table = nullptr;  // nullptr where this torch has none
  PyTypeObject* tensor = nullptr;
  PyTypeObject* parameter = nullptr;
  PyObject* empty_strided;
  PyObject* dtypes[std::size(kDTypes)];
  PyObject* int64;
  PyObject* boolean;
  PyObject* cpu;
  PyObject* options;  // ("dtype", "device")
  PyObject* is_neg;
} torch;

bool use_torch(nb::module_ module) {
  const auto keep = [](nb::object object) { return object.release().ptr(); };
  torch.parameter = reinterpret_cast<PyTypeObject*>(keep(module.attr("nn").attr("Parameter")));
  torch.empty_strided = keep(module.attr("empty_strided"));
  for (std::size_t k = 0; k < std::size(kDTypes); ++k) torch.dtypes[k] = keep(module.attr(kDTypes[k].name));
  torch.int64 = keep(module.attr("int64"));
  torch.boolean = keep(module.attr("bool"));
  torch.cpu = keep(module.attr("device")("cpu"));
  torch.options = keep(nb::make_tuple("dtype", "device"));
  torch.is_neg = keep(nb::str("is_neg"));
  const nb::object capsule = nb::getattr(module.attr("Tensor"), "__dlpack_c_exchange_api__", nb::none());
  if (PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) {
    const auto* const table =
        static_cast<const dlpack::ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (table->version.major == 1 && table->tensor_from_object != nullptr && table->managed_to_object != nullptr)
      torch.table = table;
  }
  torch.tensor = reinterpret_cast<PyTypeObject*>(keep(module.attr("Tensor")));  // from here on, tensors are known
  return torch.table != nullptr;
}

bool read_table(PyObject* object, View& to) {
  dlpack::dltensor t;
  if (torch.table->tensor_from_object(object, &t) != 0) {
    PyErr_Clear();
    return false;
  }
  if (t.device.device_type != dlpack::kCPU || t.dtype.lanes != 1 || t.byte_offset != 0 ||
      static_cast<std::size_t>(t.ndim) > kMostDimensions)
    return false;
  to.shape = {t.shape, t.shape + t.ndim};
  to.strides = {t.strides, t.strides + t.ndim};
  to.data = t.data;
  to.code = t.dtype.code;
  to.bits = t.dtype.bits;
  return true;
}

// The same by a Python call each, for a torch without a table.
bool read_attributes(nb::handle tensor, View& to) {
  try {
    const nb::object dtype = tensor.attr("dtype");
    for (std::size_t k = 0; k < std::size(kDTypes); ++k)
      if (dtype.ptr() == torch.dtypes[k]) to.code = kDTypes[k].code, to.bits = kDTypes[k].bits;
    if (dtype.ptr() == torch.int64) to.code = kInt, to.bits = 64;
    if (dtype.ptr() == torch.boolean) to.code = kBool, to.bits = 8;
    if (to.bits == 0 || !nb::cast<bool>(tensor.attr("is_cpu"))) return false;
    const nb::tuple shape(tensor.attr("shape"));
    const nb::tuple strides(tensor.attr("stride")());
    if (shape.size() > kMostDimensions) return false;
    for (std::size_t k = 0; k < shape.size(); ++k) {
      to.shape.push_back(nb::cast<Index>(shape[k]));
      to.strides.push_back(nb::cast<Index>(strides[k]));
    }
    to.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(tensor.attr("data_ptr")()));
    return true;
  } catch (nb::python_error&) {  // no strides, no memory: a layout or a wrapper of another kind
    return false;
  }
}

bool is_negated(PyObject* tensor) {
  PyObject* self[] = {nullptr, tensor};  // PyObject_CallMethodNoArgs is no part of the stable ABI
  PyObject* const answer = PyObject_VectorcallMethod(torch.is_neg, self + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
  if (answer == nullptr) PyErr_Clear();
  Py_XDECREF(answer);
  return answer != Py_False;
}

// What the buffer protocol shows of an array that stays where it is while someone holds it: NumPy's do.
bool read_buffer(PyObject* object, bool writable, View& to) {
  Py_buffer buffer;
  if (PyObject_GetBuffer(object, &buffer, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) != 0) {
    PyErr_Clear();
    return false;
  }
  const auto release = std::unique_ptr<Py_buffer, void (*)(Py_buffer*)>(&buffer, PyBuffer_Release);
  const char* const format = buffer.format == nullptr ? "B" : buffer.format;
  if (std::strlen(format) != 1 || static_cast<std::size_t>(buffer.ndim) > kMostDimensions) return false;
  to.bits = static_cast<std::uint8_t>(buffer.itemsize * 8);
  to.code = std::strchr("efd", *format) != nullptr  ? kFloat
            : *format == '?'                        ? kBool
            : std::strchr("lq", *format) != nullptr ? kInt
                                                    : kUnknown;
  for (std::size_t k = 0; k < static_cast<std::size_t>(buffer.ndim); ++k) {
    if (buffer.strides[k] % buffer.itemsize != 0) return false;
    to.shape.push_back(buffer.shape[k]);
    to.strides.push_back(buffer.strides[k] / buffer.itemsize);
  }
  to.data = buffer.buf;
  return to.code != kUnknown;
}

// What a tensor in the engine's memory owns.
struct Large {
  dlpack::Managed managed{};
  fastlstm::Workspace memory;
  Shape shape;
  Shape strides;

  Large(const DType& dtype, std::size_t bytes, const Shape& shape, const Shape& strides)
      : memory(bytes, fastlstm::Workspace::Use::given), shape(shape), strides(strides) {
    managed.version = {1, 0};
    managed.context = this;
    managed.release = [](dlpack::Managed* self) { delete static_cast<Large*>(self->context); };  // from any thread
    managed.tensor = {memory.data(),
                      {dlpack::kCPU, 0},
                      static_cast<std::int32_t>(shape.size()),
                      {dtype.code, dtype.bits, 1},
                      this->shape.begin(),
                      this->strides.begin(),
                      0};
  }
};

// From what on malloc gives memory back to the system at once, to be faulted in again at the next call, 1 us for 4 KiB: backward
// at (T, N, I, H) = (100, 1, 256, 256), with two gradients of 1 MiB, 2.2 ms, of which 0.4.
constexpr std::size_t kLarge = std::size_t{512} << 10;

std::size_t bytes_of(const DType& dtype, const Shape& shape) {
  std::size_t bytes = dtype.bits / 8;
  for (const Index size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes) || bytes > PTRDIFF_MAX)
      throw std::runtime_error("a tensor of more bytes than can be counted");
  return bytes;
}

nb::object tuple_of(const Shape& numbers) {
  PyObject* const tuple = PyTuple_New(static_cast<Py_ssize_t>(numbers.size()));
  for (std::size_t k = 0; k < numbers.size(); ++k)
    NB_TUPLE_SET_ITEM(tuple, static_cast<Py_ssize_t>(k), PyLong_FromLongLong(numbers[k]));
  return nb::steal(tuple);
}

nb::object new_tensor(const DType& dtype, const Shape& shape, const Shape& strides) {
  const std::size_t bytes = bytes_of(dtype, shape);
  if (torch.table != nullptr && bytes >= kLarge) {
    auto large = std::make_unique<Large>(dtype, bytes, shape, strides);
    void* object = nullptr;
    // torch's from here on: where it fails, it may have released what it was given, or not.
    dlpack::Managed& managed = large.release()->managed;
    if (torch.table->managed_to_object(&managed, &object) != 0 || object == nullptr) throw nb::python_error();
    return nb::steal(static_cast<PyObject*>(object));
  }
  const nb::object size = tuple_of(shape);
  const nb::object stride = tuple_of(strides);
  PyObject* const arguments[] = {size.ptr(), stride.ptr(), torch.dtypes[&dtype - kDTypes], torch.cpu};
  nb::object tensor = nb::steal(PyObject_Vectorcall(torch.empty_strided, arguments, 2, torch.options));
  if (!tensor.is_valid()) throw nb::python_error();
  return tensor;
}

// NumPy's, likewise.
nb::object new_array(const DType& dtype, const Shape& shape) {
  const std::size_t bytes = bytes_of(dtype, shape);
  if (bytes < kLarge) return nb::module_::import_("numpy").attr("empty")(tuple_of(shape), dtype.name);
  auto memory = std::make_unique<fastlstm::Workspace>(bytes, fastlstm::Workspace::Use::given);
  void* const data = memory->data();
  const nb::capsule owner(memory.release(), [](void* own) noexcept { delete static_cast<fastlstm::Workspace*>(own); });
  std::vector<std::size_t> sizes(shape.begin(), shape.end());
  const nb::dlpack::dtype of{dtype.code, dtype.bits, 1};
  return nb::cast(nb::ndarray<nb::numpy>(data, sizes.size(), sizes.data(), owner, nullptr, of));
}

}  // namespace

Shape dense_strides(const Shape& shape) {
  Shape strides = shape;
  if (!shape.empty()) strides[shape.size() - 1] = 1;
  for (std::size_t k = shape.size(); k-- > 1;) strides[k - 1] = strides[k] * std::max<Index>(1, shape[k]);
  return strides;
}

bool View::is_dense() const {
  if (count() == 0) return true;
  Index stride = 1;
  for (std::size_t k = shape.size(); k-- > 0;) {
    if (shape[k] != 1 && strides[k] != stride) return false;
    stride *= shape[k];
  }
  return true;
}

bool View::has(const Shape& sizes) const { return std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end()); }

Index View::rows() const {
  Index count = 1;
  for (std::size_t k = 0; k + 1 < shape.size(); ++k) count *= shape[k];
  return count;
}

namespace {

// Of a tensor without a look at whether it is negated.
std::optional<View> view_memory(PyObject* object, bool writable) {
  View array;
  if (is_tensor(object)) {
    if (!(torch.table != nullptr ? read_table(object, array) : read_attributes(object, array))) return {};
  } else if (object == Py_None || !PyObject_CheckBuffer(object) || !read_buffer(object, writable, array)) {
    return {};
  }
  // Where a storage was freed, an address is the tensor's offset in it: nothing lies so low, not even a program at a fixed
  // address.
  constexpr std::uintptr_t lowest = std::uintptr_t{4} << 20;
  alignas(64) static char nothing[64];
  const auto address = reinterpret_cast<std::uintptr_t>(array.data);
  if (address < lowest && array.count() == 0) {
    array.data = nothing;
  } else if (address < lowest || (array.bits >= 8 && address % (array.bits / 8) != 0)) {
    return {};
  }
  for (const DType& dtype : kDTypes)
    if (dtype.code == array.code && dtype.bits == array.bits) array.dtype = &dtype;
  return array;
}

}  // namespace

std::optional<View> view(PyObject* object, bool writable) {
  if (is_tensor(object) && is_negated(object)) return {};
  return view_memory(object, writable);
}

std::optional<View> view(PyObject* object, const DType& dtype, const Shape& sizes) {
  auto array = view(object);
  if (!array || array->dtype != &dtype || !array->has(sizes) || !array->is_dense()) return {};
  return array;
}

std::optional<View> view_integers(PyObject* object, std::size_t ndim) {
  auto array = view(object);
  if (!array || array->code != kInt || array->bits != 64 || array->shape.size() != ndim || !array->is_dense()) return {};
  return array;
}

bool is_tensor(PyObject* object) { return Py_TYPE(object) == torch.tensor || Py_TYPE(object) == torch.parameter; }

bool is_bool(const View& array) { return array.code == kBool && array.bits == 8; }

const DType& dtype_named(const char* name) {
  for (const DType& dtype : kDTypes)
    if (std::strcmp(name, dtype.name) == 0) return dtype;
  throw std::invalid_argument(std::string("dtype: expected float32, float64, bfloat16 or float16, got ") + name);
}

New::New(PyObject* like, const DType& dtype, const Shape& shape, const Shape& strides) {
  if (is_tensor(like)) {
    object = new_tensor(dtype, shape, strides.empty() ? dense_strides(shape) : strides);
  } else {
    object = new_array(dtype, shape);
  }
  if (const auto array = view_memory(object.ptr(), true)) data = array->data;
}

}  // namespace arrays

void define_arrays(nb::module_& m) {
  m.def("use_torch", arrays::use_torch, "torch"_a);
  m.def(
      "empty",
      [](const std::vector<arrays::Index>& sizes, const std::string& dtype) {
        if (arrays::torch.tensor == nullptr || sizes.size() > arrays::kMostDimensions)
          throw std::invalid_argument("empty: expected torch to be there, and few dimensions");
        const arrays::Shape shape(sizes.begin(), sizes.end());
        return arrays::new_tensor(arrays::dtype_named(dtype.c_str()), shape, arrays::dense_strides(shape));
      },
      "sizes"_a, "dtype"_a);
}
