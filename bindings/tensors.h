// torch tensors read and made without a handshake, through DLPack's exchange table, so that nothing is built against torch.
#pragma once
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "dlpack.h"
#include "fastlstm/engine.h"

namespace tensors {

// What a tensor may hold, in memory and for the engine.
struct DType {
  const char* name;
  std::uint8_t code;
  std::uint8_t bits;
  fastlstm::Element element;
};
inline constexpr DType kDTypes[] = {{"float32", dlpack::kFloat, 32, fastlstm::Element::real},
                                    {"float64", dlpack::kFloat, 64, fastlstm::Element::real},
                                    {"bfloat16", dlpack::kBfloat, 16, fastlstm::Element::bfloat16},
                                    {"float16", dlpack::kFloat, 16, fastlstm::Element::float16}};

// Throws std::invalid_argument.
const DType& dtype_named(const std::string& name);

// Whether `use_torch` has found a table: nothing else here may be called before.
bool known();

// A plain tensor of the CPU with memory, aligned as its elements are: its view. Anything else: nothing.
std::optional<dlpack::Tensor> view(PyObject* object);

// The same, of one dtype.
std::optional<dlpack::Tensor> view(PyObject* object, const DType& dtype);

// What a tensor holds, if the engine takes that.
const DType* dtype_of(const dlpack::Tensor& t);

// Whether the tensor's elements lie in the order of its indices; and whether it has these sizes, too.
bool is_dense(const dlpack::Tensor& t);
bool is_dense(const dlpack::Tensor& t, std::initializer_list<std::int64_t> shape);

// A lazy negation, of which memory knows nothing.
bool is_negated(PyObject* tensor);

// A new tensor, and its memory: torch's own, or, where it is large, the engine's (`Workspace::Use::given`). nullptr, at worst.
struct Made {
  nanobind::object tensor;
  void* data;

  Made(const DType& dtype, std::initializer_list<std::int64_t> shape, std::initializer_list<std::int64_t> strides);
  Made(const DType& dtype, const std::int64_t* shape, std::size_t dimensions);  // dense
};

}  // namespace tensors

void define_tensors(nanobind::module_& m);
