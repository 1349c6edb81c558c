#include "layer.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <utility>

#include "sequences.h"

namespace nb = nanobind;
using namespace nb::literals;
using arrays::Index;

namespace {

// The next weight that `read_weights` asks for.
class Weights {
 public:
  Weights(const Layer& layer, nb::handle weights, Py_ssize_t first) : names_(layer.names), weights_(weights), next_(first) {
    if (!PyDict_CheckExact(weights.ptr()))
      sequence_ = nb::steal(PySequence_Fast(weights.ptr(), "weights: expected a dict or a list"));
    if (!PyDict_CheckExact(weights.ptr()) && !sequence_.is_valid()) throw nb::python_error();
  }
  PyObject* next() {
    const Py_ssize_t k = next_++;
    if (!sequence_.is_valid()) {
      if (k >= sequences::size(names_)) return nullptr;
      return PyDict_GetItemWithError(weights_.ptr(), sequences::item(names_, k));
    }
    return k < sequences::size(sequence_) ? sequences::item(sequence_, k) : nullptr;
  }
  bool ended() const { return next_ == (sequence_.is_valid() ? sequences::size(sequence_) : sequences::size(names_)); }

 private:
  nb::handle names_;
  nb::handle weights_;
  nb::object sequence_;
  Py_ssize_t next_;
};

fastlstm::CellKind cell_named(const std::string& name) {
  if (name == "LSTM") return fastlstm::CellKind::lstm;
  if (name == "GRU") return fastlstm::CellKind::gru;
  throw std::invalid_argument("cell: expected LSTM or GRU, got " + name);
}

std::vector<std::pair<std::string, std::string>> decisions(const Layer& layer, Index T, Index N, const std::string& dtype,
                                                           bool training, int threads) {
  const fastlstm::Problem problem = layer.problem(T, N);
  const arrays::DType& of = arrays::dtype_named(dtype.c_str());
  const auto decide = of.bits == 64 ? fastlstm::decisions<double> : fastlstm::decisions<float>;
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& [what, how] : decide(problem, of.element, training, false, threads)) all.emplace_back(what, how);
  return all;
}

}  // namespace

bool read_weights(const Layer& layer, const arrays::DType& dtype, nb::handle weights, Py_ssize_t first, std::vector<void*>& data,
                  std::vector<nb::object>& held) {
  Weights all(layer, weights, first);
  const auto read = [&](const arrays::Shape& shape) {
    PyObject* const object = all.next();
    if (object == nullptr) return false;
    const auto array = arrays::view(object, dtype, shape);
    if (!array) return false;
    data.push_back(array->data);
    held.push_back(nb::borrow(object));
    return true;
  };
  const Index rows = fastlstm::counts_of(layer.cell).gates * layer.H;
  data.reserve(layer.arrays());
  held.reserve(layer.arrays());
  for (Index l = 0; l < layer.layers; ++l)
    for (Index d = 0; d < layer.D; ++d) {
      if (!read({rows, layer.input(l)}) || !read({rows, layer.out()})) return false;
      if (layer.bias && (!read({rows}) || !read({rows}))) return false;
      if (layer.P > 0 && !read({layer.P, layer.H})) return false;
    }
  return all.ended();
}

void define_layer(nb::module_& m) {
  nb::class_<Layer>(m, "Layer")
      .def(
          "__init__",
          [](Layer* self, Index I, Index H, Index P, Index layers, Index D, bool bias, bool is_cell, nb::tuple names,
             const std::string& cell, Index checkpoint_every) {
            new (self) Layer{{I, H, P, layers, D, cell_named(cell)}, bias, is_cell, std::move(names), checkpoint_every};
          },
          "I"_a, "H"_a, "P"_a = 0, "layers"_a = 1, "D"_a = 1, "bias"_a = true, "is_cell"_a = false, "names"_a = nb::tuple(),
          "cell"_a = "LSTM", "checkpoint_every"_a = 0)
      .def(
          "saved_reals",
          [](const Layer& layer, const std::string& dtype) {
            const fastlstm::Problem problem = layer.problem(1, 1);
            return arrays::dtype_named(dtype.c_str()).bits == 64 ? fastlstm::saved_size<double>(problem)
                                                                 : fastlstm::saved_size<float>(problem);
          },
          "dtype"_a)
      .def("decisions", decisions, "T"_a, "N"_a, "dtype"_a, "training"_a, "threads"_a)
      .def("multiplies_bfloat16", [](const Layer& layer) { return fastlstm::multiplies_bfloat16(layer.problem(2, 1)); });
}
