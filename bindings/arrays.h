// Arrays as the caller has them, torch's or NumPy's: read where they lie, and new ones of the same kind. Nothing is built against
// either library.
#pragma once
#include <nanobind/nanobind.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>

#include "fastlstm/engine.h"

namespace arrays {

using Index = std::int64_t;

// At most so many sizes, or strides: in place, for a call makes a dozen of them.
inline constexpr std::size_t kMostDimensions = 4;
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<Index> sizes) : Shape(sizes.begin(), sizes.end()) {}
  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(*first);
  }
  void push_back(Index size) { sizes_[count_++] = size; }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  Index& operator[](std::size_t k) { return sizes_[k]; }
  Index operator[](std::size_t k) const { return sizes_[k]; }
  Index* begin() { return sizes_.data(); }
  Index* end() { return sizes_.data() + count_; }
  const Index* begin() const { return sizes_.data(); }
  const Index* end() const { return sizes_.data() + count_; }

 private:
  std::array<Index, kMostDimensions> sizes_;
  std::size_t count_ = 0;
};

// What an array may hold, in memory and for the engine.
struct DType {
  const char* name;
  std::uint8_t code;
  std::uint8_t bits;
  fastlstm::Element element;

  Index bytes() const { return bits / 8; }
};

// One array: (.., strides in elements). `dtype`: nullptr, where the engine computes in no such numbers; `code` and `bits` say
// which.
struct View {
  void* data = nullptr;
  std::uint8_t code = 0;
  std::uint8_t bits = 0;
  const DType* dtype = nullptr;
  Shape shape;
  Shape strides;

  bool is_dense() const;               // its elements lie in the order of its indices
  bool has(const Shape& sizes) const;  // and it has these sizes
  Index rows() const;                  // the product of all sizes but the last
  Index features() const { return shape.empty() ? 1 : shape[shape.size() - 1]; }
  Index count() const { return rows() * features(); }  // of elements
  Shape lead() const { return {shape.begin(), shape.end() - (shape.empty() ? 0 : 1)}; }
};

// A plain array of the CPU with memory, aligned as its elements are, of at most four dimensions: torch's tensor or parameter,
// without a lazy negation, or what has the buffer protocol (`writable`: and lets one write). Anything else, None too: nothing.
// Without elements it has an address, too, at which nothing is.
std::optional<View> view(PyObject* object, bool writable = false);

// The same, dense, of one dtype and these sizes.
std::optional<View> view(PyObject* object, const DType& dtype, const Shape& sizes);

// In elements, as torch has them: a size of 0 counts as 1.
Shape dense_strides(const Shape& shape);

// Dense int64 of so many dimensions.
std::optional<View> view_integers(PyObject* object, std::size_t ndim);

bool is_bool(const View& array);

// A tensor, not an array of another kind.
bool is_tensor(PyObject* object);

// Throws std::invalid_argument.
const DType& dtype_named(const char* name);

// Uninitialised, of the kind of array that `like` is; a large tensor in memory of the engine's pool (`Workspace::Use::given`).
// `strides`: in elements; empty: dense. Throws std::runtime_error where it is of more bytes than can be counted.
struct New {
  nanobind::object object;
  void* data = nullptr;

  New(PyObject* like, const DType& dtype, const Shape& shape, const Shape& strides = {});
};

}  // namespace arrays

void define_arrays(nanobind::module_& m);
