// As infer.cpp, for calls that may keep what backward reads, and for that backward: addresses and new tensors took a Python call
// each, 20 of the 143 us of a training step at one step of one row, H 64. Rectangles, packed batches and segments alike.
//
// It takes only what it understands at a glance, and returns None for all else: autograd.py goes on, with addresses and errors.
#include "dense.h"

#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "fastlstm/engine.h"
#include "problem.h"
#include "tensors.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace tensors;

namespace {

using Index = std::int64_t;

// The items of a list or a tuple.
struct Items {
  nb::object held;

  explicit Items(nb::handle sequence) : held(nb::steal(PySequence_Fast(sequence.ptr(), "expected a list or a tuple"))) {
    if (!held.is_valid()) throw nb::python_error();
  }
  std::size_t size() const { return static_cast<std::size_t>(PySequence_Fast_GET_SIZE(held.ptr())); }
  PyObject* operator[](std::size_t k) const { return PySequence_Fast_GET_ITEM(held.ptr(), static_cast<Py_ssize_t>(k)); }
};

// What a dense tensor has; of None: nullptr.
struct Array {
  void* data = nullptr;
  std::vector<Index> shape;
};

// Into `to`, where the object is None, or dense, of the problem's dtype, and of so many rows, whatever its dimensions, of so many
// features.
bool read(const PyProblem& problem, PyObject* object, Index rows, Index features, Array& to) {
  if (object == Py_None) return true;
  const auto t = view(object, problem.dtype);
  if (!t || !is_dense(*t) || t->ndim == 0 || t->shape[t->ndim - 1] != features) return false;
  Index count = 1;
  for (int k = 0; k + 1 < t->ndim; ++k) count *= t->shape[k];
  if (count != rows) return false;
  to = {t->data, {t->shape, t->shape + t->ndim}};
  return true;
}

// x, h_0, c_0 and the parameters, in their order.
bool read_inputs(const PyProblem& problem, const Items& items, std::vector<Array>& arrays) {
  const std::size_t without_bias = problem.cells() * (problem.P > 0 ? 3 : 2);
  const bool bias = items.size() == 3 + without_bias + 2 * problem.cells();
  if (!bias && items.size() != 3 + without_bias) return false;
  arrays.resize(items.size());
  std::size_t next = 0;
  const auto fits = [&](Index rows, Index features) {
    const std::size_t k = next++;
    return read(problem, items[k], rows, features, arrays[k]);
  };
  if (!fits(problem.x_rows, problem.I) || !fits(problem.states, problem.out()) || !fits(problem.states, problem.H)) return false;
  for (Index cell = 0; cell < problem.layers * problem.D; ++cell) {
    if (!fits(4 * problem.H, problem.layer_input(cell / problem.D)) || !fits(4 * problem.H, problem.out())) return false;
    if (bias && (!fits(1, 4 * problem.H) || !fits(1, 4 * problem.H))) return false;
    if (problem.P > 0 && !fits(problem.P, problem.H)) return false;
  }
  return arrays[0].data != nullptr;
}

// output, h_n and c_n, or their gradients.
bool read_results(const PyProblem& problem, PyObject* output, PyObject* h_n, PyObject* c_n, std::vector<Array>& arrays) {
  arrays.resize(3);
  return read(problem, output, problem.x_rows, problem.D * problem.out(), arrays[0]) &&
         read(problem, h_n, problem.states, problem.out(), arrays[1]) && read(problem, c_n, problem.states, problem.H, arrays[2]);
}

// From arrays as `read_inputs` has them: five weights, or gradients of them, a layer and direction.
template <class Five, class From>
std::vector<Five> fives(const PyProblem& problem, const std::vector<Array>& arrays) {
  const std::size_t each = (arrays.size() - 3) / problem.cells();
  const bool bias = each >= 4;
  std::vector<Five> made;
  for (std::size_t k = 3; k < arrays.size(); k += each) {
    const auto array = [&](std::size_t n) { return From(arrays[k + n].data, problem.dtype.element); };
    Five five{array(0), array(1), {}, {}, {}};
    if (bias) {
      five.b_ih = array(2);
      five.b_hh = array(3);
    }
    if (problem.P > 0) five.w_hr = array(each - 1);
    made.push_back(five);
  }
  return made;
}

template <class Real>
fastlstm::Inputs<Real> inputs_of(const PyProblem& problem, const std::vector<Array>& arrays,
                                 const std::vector<fastlstm::Weights<Real>>& weights) {
  return {problem.source<Real>(arrays[0].data, problem.places), problem.source<Real>(arrays[1].data, problem.initial),
          problem.source<Real>(arrays[2].data, problem.initial), weights.data(), nullptr};
}

// One array of the engine's pool or of torch's memory, of this shape.
bool make(const PyProblem& problem, std::vector<Index> shape, nb::object& tensor, Array& array) {
  const Made made(problem.dtype, shape.data(), shape.size());
  tensor = made.tensor;
  array = {made.data, std::move(shape)};
  return made.data != nullptr;
}

template <class Real>
void run(const PyProblem& problem, const std::vector<Array>& inputs, const Array (&results)[3], Address saved, int threads) {
  const auto weights = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(problem, inputs);
  const fastlstm::Outputs<Real> outputs{problem.target<Real>(results[0].data, problem.places),
                                        problem.target<Real>(results[1].data, problem.final),
                                        problem.target<Real>(results[2].data, problem.final)};
  const nb::gil_scoped_release release;
  fastlstm::forward<Real>(problem, inputs_of(problem, inputs, weights), outputs, reinterpret_cast<Real*>(saved), threads);
}

nb::object dense(const PyProblem& problem, std::vector<Index> state, nb::handle given, Address saved, int threads) {
  std::vector<Array> inputs;
  if (!known() || !read_inputs(problem, Items(given), inputs)) return nb::none();
  std::vector<Index> shape = inputs[0].shape;
  shape.back() = problem.D * problem.out();
  state.push_back(problem.out());
  nb::object tensors[3];
  Array results[3];
  if (!make(problem, shape, tensors[0], results[0]) || !make(problem, state, tensors[1], results[1])) return nb::none();
  state.back() = problem.H;
  if (!make(problem, state, tensors[2], results[2])) return nb::none();
  problem.clear(results[0].data, shape.back());
  problem.clear_state(results[1].data, problem.out(), problem.has_empty_rows());
  problem.clear_state(results[2].data, problem.H, problem.has_empty_rows());
  if (problem.is_double()) {
    run<double>(problem, inputs, results, saved, threads);
  } else {
    run<float>(problem, inputs, results, saved, threads);
  }
  return nb::make_tuple(tensors[0], tensors[1], tensors[2]);
}

// results: their gradients; made: those of the inputs.
template <class Real>
void run_backward(const PyProblem& problem, const std::vector<Array>& inputs, const std::vector<Array>& results,
                  const std::vector<Array>& made, Address saved, int threads) {
  const auto weights = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(problem, inputs);
  const auto dweights = fives<fastlstm::WeightGradients<Real>, fastlstm::Target<Real>>(problem, made);
  const fastlstm::Gradients<Real> gradients{problem.source<Real>(results[0].data, problem.places),
                                            problem.source<Real>(results[1].data, problem.final),
                                            problem.source<Real>(results[2].data, problem.final),
                                            problem.target<Real>(made[0].data, problem.places),
                                            problem.target<Real>(made[1].data, problem.initial),
                                            problem.target<Real>(made[2].data, problem.initial),
                                            dweights.data()};
  const nb::gil_scoped_release release;
  fastlstm::backward<Real>(problem, inputs_of(problem, inputs, weights), problem.dtype.element,
                           reinterpret_cast<const Real*>(saved), gradients, threads);
}

nb::object dense_backward(const PyProblem& problem, nb::handle given, Address saved, nb::handle gradients, nb::handle wanted,
                          int threads) {
  const Items d(gradients);
  const Items wants(wanted);
  std::vector<Array> inputs;
  std::vector<Array> results;
  if (!known() || !read_inputs(problem, Items(given), inputs) || wants.size() != inputs.size() || d.size() != 3 ||
      !read_results(problem, d[0], d[1], d[2], results))
    return nb::none();
  nb::list tensors;
  std::vector<Array> made(inputs.size());
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    nb::object tensor = nb::none();
    if (inputs[k].data != nullptr && wants[k] == Py_True && !make(problem, inputs[k].shape, tensor, made[k])) return nb::none();
    tensors.append(tensor);
  }
  if (made[0].data != nullptr) problem.clear(made[0].data, problem.I);
  if (made[1].data != nullptr) problem.clear_state(made[1].data, problem.out(), true);
  if (made[2].data != nullptr) problem.clear_state(made[2].data, problem.H, true);
  if (problem.is_double()) {
    run_backward<double>(problem, inputs, results, made, saved, threads);
  } else {
    run_backward<float>(problem, inputs, results, made, saved, threads);
  }
  return std::move(tensors);
}

}  // namespace

void define_dense(nb::module_& m) {
  m.def("dense", dense, "problem"_a, "state"_a, "inputs"_a, "saved"_a, "threads"_a);
  m.def("dense_backward", dense_backward, "problem"_a, "inputs"_a, "saved"_a, "gradients"_a, "wanted"_a, "threads"_a);
}
