// What a call reads and writes: the caller's arrays by name, and the engine's view of them.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "arrays.h"
#include "batch.h"
#include "fastlstm/engine.h"
#include "layer.h"
#include "packed_weights.h"
#include "sequences.h"

namespace operands {

namespace nb = nanobind;
using arrays::Index;
using arrays::New;
using arrays::Shape;
using arrays::View;

inline Shape with(Shape lead, Index features) {
  lead.push_back(features);
  return lead;
}

// The items of a list or a tuple.
struct Items {
  nb::object held;

  explicit Items(nb::handle sequence) : held(nb::steal(PySequence_Fast(sequence.ptr(), "expected a list or a tuple"))) {
    if (!held.is_valid()) throw nb::python_error();
  }
  std::size_t size() const { return static_cast<std::size_t>(sequences::size(held)); }
  PyObject* operator[](std::size_t k) const { return sequences::item(held, static_cast<Py_ssize_t>(k)); }
};

// None: nullptr. false: not dense, of this dtype and of these sizes.
inline bool read_array(PyObject* object, const arrays::DType& dtype, const Shape& sizes, void*& data) {
  data = nullptr;
  if (object == Py_None) return true;
  const auto array = arrays::view(object, dtype, sizes);
  if (array) data = array->data;
  return array.has_value();
}

// What a call reads, and who owns it while it does.
struct Inputs {
  void* x;
  void* states[2] = {nullptr, nullptr};  // h_0, c_0
  std::vector<void*> weights;
  std::vector<void*> masks;
  std::vector<nb::object> held;
  std::vector<std::unique_ptr<fastlstm::Workspace>> gathered;
  const PackedWeights* packed = nullptr;

  bool read_state(const Layer& layer, const Batch& batch, const arrays::DType& dtype, std::size_t k, PyObject* object) {
    return read_array(object, dtype, with(batch.state, layer.state_features(k)), states[k]);
  }

  bool read_weights(const Layer& layer, const arrays::DType& dtype, nb::handle from, Py_ssize_t first) {
    if (PyList_CheckExact(from.ptr()) || PyDict_CheckExact(from.ptr()) || !nb::isinstance<PackedWeights>(from))
      return ::read_weights(layer, dtype, from, first, weights, held);
    packed = nb::inst_ptr<PackedWeights>(from);
    weights = packed->data;
    held.push_back(nb::borrow(from));
    return packed->dtype == &dtype && layer.is_like(packed->layer);
  }

  // Masks have a row for each place of the caller's; the engine wants those of its own rows, in its order.
  bool read_masks(const Layer& layer, const Batch& batch, const arrays::DType& dtype, nb::handle from) {
    const Items items(from);
    if (items.size() == 0) return true;
    if (items.size() + 1 != static_cast<std::size_t>(layer.layers)) return false;
    const Index features = layer.D * layer.out();
    const std::vector<Index> rows = batch.rows_of_masks();
    const auto width = static_cast<std::size_t>(features * dtype.bits / 8);
    for (std::size_t k = 0; k < items.size(); ++k) {
      const auto mask = arrays::view(items[k]);
      if (!mask || mask->dtype != &dtype || !mask->is_dense() || mask->features() != features || mask->rows() != batch.mask_rows)
        return false;
      masks.push_back(mask->data);
      if (rows.empty()) continue;
      gathered.push_back(std::make_unique<fastlstm::Workspace>(rows.size() * width, fastlstm::Workspace::Use::scratch));
      auto* to = static_cast<char*>(gathered.back()->data());
      for (const Index row : rows) {
        std::memcpy(to, static_cast<const char*>(mask->data) + static_cast<std::size_t>(row) * width, width);
        to += width;
      }
      masks.back() = gathered.back()->data();
    }
    return true;
  }
};

// The engine's view of a call's arrays.
template <class Real>
class Arrays {
 public:
  Arrays(const Layer& layer, const Batch& batch, const arrays::DType& dtype)
      : layer_(layer), batch_(batch), element_(dtype.element) {}

  fastlstm::Source<Real> source(const void* data, const std::vector<Index>& rows) const {
    return {data, element_, fastlstm::rows_or_null(rows)};
  }
  fastlstm::Target<Real> target(void* data, const std::vector<Index>& rows) const {
    return {data, element_, fastlstm::rows_or_null(rows)};
  }

  fastlstm::Inputs<Real> inputs(const Inputs& from) {
    weights_ = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(layer_, from.weights.data(), element_);
    for (void* const mask : from.masks) masks_.push_back({mask, element_});
    return {source(from.x, batch_.places),
            source(from.states[0], batch_.initial),
            source(from.states[1], batch_.initial),
            weights_.data(),
            masks_.empty() ? nullptr : masks_.data(),
            from.packed == nullptr ? nullptr : from.packed->of<Real>()};
  }
  fastlstm::Outputs<Real> outputs(void* const (&results)[3]) const {
    return {target(results[0], batch_.places), target(results[1], batch_.final), target(results[2], batch_.final)};
  }
  // So many arrays of (rows, ..), from pointers to them.
  template <class Array>
  std::vector<Array> of_rows(void* const* data, Index count) const {
    std::vector<Array> all;
    for (Index k = 0; k < count; ++k) all.push_back({data[k], element_, fastlstm::rows_or_null(batch_.places)});
    return all;
  }

 private:
  const Layer& layer_;
  const Batch& batch_;
  fastlstm::Element element_;
  std::vector<fastlstm::Weights<Real>> weights_;
  std::vector<fastlstm::Source<Real>> masks_;
};

// output, h_n and, of an LSTM, c_n: new, or the caller's.
struct Results {
  nb::object objects[3];
  void* data[3] = {nullptr, nullptr, nullptr};

  nb::object states(const Layer& layer) const {
    return layer.states() == 1 ? objects[1] : nb::object(nb::make_tuple(objects[1], objects[2]));
  }

  bool create(const Layer& layer, const Batch& batch, const arrays::DType& dtype, PyObject* like) {
    const Index width = layer.D * layer.out();
    const auto set = [&](std::size_t k, const New& array) {
      objects[k] = array.object;
      data[k] = array.data;
      return data[k] != nullptr;
    };
    for (std::size_t k = 0; k < layer.states(); ++k)
      if (!set(1 + k, New(like, dtype, with(batch.state, layer.state_features(k))))) return false;
    if (layer.is_cell) {  // the output of one step is its h_n
      objects[0] = objects[1];
      data[0] = data[1];
      return true;
    }
    Shape strides;
    if (batch.is_swapped) strides = {width, std::max<Index>(1, batch.lead[0]) * width, 1};
    return set(0, New(like, dtype, with(batch.lead, width), strides));
  }

  bool read(const Layer& layer, const Batch& batch, const arrays::DType& dtype, nb::handle from) {
    const Items items(from);
    if (items.size() != 1 + layer.states()) return false;
    const Shape shapes[] = {with(batch.lead, layer.D * layer.out()), with(batch.state, layer.out()), with(batch.state, layer.H)};
    for (std::size_t k = 0; k < items.size(); ++k) {
      const auto array = arrays::view(items[k], true);
      if (!array || array->dtype != &dtype || !array->has(shapes[k]) || !array->is_dense()) return false;
      objects[k] = nb::borrow(items[k]);
      data[k] = array->data;
    }
    return true;
  }
};

}  // namespace operands
