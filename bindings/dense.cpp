// As infer.cpp, for calls that are checked already and may keep what backward reads, and for that backward: addresses and new
// tensors took a Python call each: 20 of the 143 us of a training step at one step of one row, H 64.
//
// It takes only what it understands at a glance, and returns None for all else: autograd.py goes on with addresses.
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

// From arrays of x, h_0, c_0 and then the parameters in their order: five of these a layer and direction. `is_count` said that so
// many there are.
template <class Five, class Array>
std::vector<Five> fives(const PyProblem& problem, const std::vector<void*>& arrays) {
  const std::size_t each = (arrays.size() - 3) / problem.cells();
  const bool bias = each >= 4;
  std::vector<Five> made;
  for (std::size_t k = 3; k < arrays.size(); k += each) {
    const auto array = [&](std::size_t n) { return Array(arrays[k + n], problem.dtype.element); };
    Five five{array(0), array(1), {}, {}, {}};
    if (bias) five.b_ih = array(2), five.b_hh = array(3);
    if (problem.P > 0) five.w_hr = array(each - 1);
    made.push_back(five);
  }
  return made;
}

bool is_count(const PyProblem& problem, std::size_t arrays) {
  const std::size_t without_bias = problem.cells() * (problem.P > 0 ? 3 : 2);
  return arrays == without_bias || arrays == without_bias + 2 * problem.cells();
}

// The items of a list or a tuple.
struct Items {
  nb::object held;

  explicit Items(nb::handle sequence) : held(nb::steal(PySequence_Fast(sequence.ptr(), "expected a list or a tuple"))) {
    if (!held.is_valid()) throw nb::python_error();
  }
  std::size_t size() const { return static_cast<std::size_t>(PySequence_Fast_GET_SIZE(held.ptr())); }
  PyObject* operator[](std::size_t k) const { return PySequence_Fast_GET_ITEM(held.ptr(), static_cast<Py_ssize_t>(k)); }
};

// The memory of a dense tensor of this dtype; that of None is nullptr. Nothing: it is neither.
std::optional<void*> memory(PyObject* object, const DType& dtype) {
  if (object == Py_None) return nullptr;
  const auto t = view(object, dtype);
  if (!t || !is_dense(*t)) return {};
  return t->data;
}

// Those of all items.
bool memories(const Items& items, const DType& dtype, std::vector<void*>& to) {
  to.resize(items.size());
  for (std::size_t k = 0; k < to.size(); ++k) {
    const auto data = memory(items[k], dtype);
    if (!data) return false;
    to[k] = *data;
  }
  return true;
}

// arrays: of x, h_0, c_0 and the weights.
template <class Real>
fastlstm::Inputs<Real> inputs_of(const PyProblem& problem, const std::vector<void*>& arrays,
                                 const std::vector<fastlstm::Weights<Real>>& weights) {
  return {problem.source<Real>(arrays[0]), problem.source<Real>(arrays[1]), problem.source<Real>(arrays[2]), weights.data(),
          nullptr};
}

template <class Real>
void run(const PyProblem& problem, const std::vector<void*>& arrays, const Made& output, const Made& h_n, const Made& c_n,
         Address saved, int threads) {
  const auto weights = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(problem, arrays);
  const auto inputs = inputs_of(problem, arrays, weights);
  const fastlstm::Outputs<Real> outputs{problem.target<Real>(output.data), problem.target<Real>(h_n.data),
                                        problem.target<Real>(c_n.data)};
  const nb::gil_scoped_release release;
  fastlstm::forward<Real>(problem, inputs, outputs, reinterpret_cast<Real*>(saved), threads);
}

nb::object dense(const PyProblem& problem, const std::vector<Index>& state, nb::handle inputs, Address saved, int threads) {
  const Items items(inputs);
  std::vector<void*> arrays;
  if (!known() || items.size() < 3 || !is_count(problem, items.size() - 3) || !memories(items, problem.dtype, arrays) ||
      arrays[0] == nullptr)
    return nb::none();
  const dlpack::Tensor x = *view(items[0]);
  std::vector<Index> shape(x.shape, x.shape + x.ndim);
  shape.back() = problem.D * problem.out();
  const Made output(problem.dtype, shape.data(), shape.size());
  shape = state;
  shape.push_back(problem.out());
  const Made h_n(problem.dtype, shape.data(), shape.size());
  shape.back() = problem.H;
  const Made c_n(problem.dtype, shape.data(), shape.size());
  if (output.data == nullptr || h_n.data == nullptr || c_n.data == nullptr) return nb::none();
  if (problem.is_double()) {
    run<double>(problem, arrays, output, h_n, c_n, saved, threads);
  } else {
    run<float>(problem, arrays, output, h_n, c_n, saved, threads);
  }
  return nb::make_tuple(output.tensor, h_n.tensor, c_n.tensor);
}

// given: gradients of output, h_n and c_n; made: those to write, in the order of arrays.
template <class Real>
void run_backward(const PyProblem& problem, const std::vector<void*>& arrays, void* output, const std::vector<void*>& given,
                  const std::vector<void*>& made, Address saved, int threads) {
  const auto weights = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(problem, arrays);
  const auto dweights = fives<fastlstm::WeightGradients<Real>, fastlstm::Target<Real>>(problem, made);
  const auto inputs = inputs_of(problem, arrays, weights);
  const fastlstm::Outputs<Real> outputs{problem.target<Real>(output), {}, {}};
  const fastlstm::Gradients<Real> gradients{problem.source<Real>(given[0]),
                                            problem.source<Real>(given[1]),
                                            problem.source<Real>(given[2]),
                                            problem.target<Real>(made[0]),
                                            problem.target<Real>(made[1]),
                                            problem.target<Real>(made[2]),
                                            dweights.data()};
  const nb::gil_scoped_release release;
  fastlstm::backward<Real>(problem, inputs, outputs, reinterpret_cast<const Real*>(saved), gradients, threads);
}

nb::object dense_backward(const PyProblem& problem, nb::handle inputs, nb::handle output, Address saved, nb::handle gradients,
                          nb::handle wanted, int threads) {
  const Items items(inputs);
  const Items given(gradients);
  const Items wants(wanted);
  std::vector<void*> arrays;
  std::vector<void*> given_arrays;
  const auto output_array = memory(output.ptr(), problem.dtype);
  if (!known() || items.size() < 3 || !is_count(problem, items.size() - 3) || wants.size() != items.size() || given.size() != 3 ||
      !output_array || !memories(items, problem.dtype, arrays) || !memories(given, problem.dtype, given_arrays))
    return nb::none();
  nb::list made;
  std::vector<void*> made_arrays(items.size(), nullptr);
  for (std::size_t k = 0; k < items.size(); ++k) {
    if (items[k] == Py_None || wants[k] != Py_True) {
      made.append(nb::none());
      continue;
    }
    const dlpack::Tensor like = *view(items[k]);
    const Made gradient(problem.dtype, like.shape, static_cast<std::size_t>(like.ndim));
    if (gradient.data == nullptr) return nb::none();
    made_arrays[k] = gradient.data;
    made.append(gradient.tensor);
  }
  if (problem.is_double()) {
    run_backward<double>(problem, arrays, *output_array, given_arrays, made_arrays, saved, threads);
  } else {
    run_backward<float>(problem, arrays, *output_array, given_arrays, made_arrays, saved, threads);
  }
  return std::move(made);
}

}  // namespace

void define_dense(nb::module_& m) {
  m.def("dense", dense, "problem"_a, "state"_a, "inputs"_a, "saved"_a, "threads"_a);
  m.def("dense_backward", dense_backward, "problem"_a, "inputs"_a, "output"_a.none(), "saved"_a, "gradients"_a, "wanted"_a,
        "threads"_a);
}
