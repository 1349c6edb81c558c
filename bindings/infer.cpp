// A call on torch tensors, without gradients, in one crossing from Python: at one step of one row the engine works for 3 us, and
// checks, addresses and outputs, one Python call each, took 20.
//
// It takes only what it understands at a glance and returns None for all else, errors included: functional.py, which says what is
// wrong, comes next.
#include "infer.h"

#include <algorithm>
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

// The six sizes, in the order of weights.py's `Sizes.numbers`.
struct Sizes {
  Index I, H, P, layers, D, bias;

  explicit Sizes(const nb::list& numbers) {
    Index* const fields[] = {&I, &H, &P, &layers, &D, &bias};
    for (std::size_t k = 0; k < 6; ++k)
      *fields[k] = PyLong_AsLongLong(PyList_GET_ITEM(numbers.ptr(), static_cast<Py_ssize_t>(k)));
    if (PyErr_Occurred() != nullptr) throw nb::python_error();
  }
  Index out() const { return P > 0 ? P : H; }
};

// The parameters by name, each the next of `names`; `held`: so that none dies while the engine reads it without the GIL, when
// another thread puts a new one in its place.
template <class Real>
bool read_weights(const Sizes& sizes, const DType& dtype, PyObject* names, PyObject* parameters,
                  std::vector<fastlstm::Weights<Real>>& weights, std::vector<nb::object>& held) {
  Py_ssize_t next = 0;
  const auto read = [&](fastlstm::Source<Real>& to, std::initializer_list<Index> shape) {
    if (next >= PyTuple_GET_SIZE(names)) return false;
    PyObject* const parameter = PyDict_GetItemWithError(parameters, PyTuple_GET_ITEM(names, next++));
    if (parameter == nullptr) return false;
    const auto t = view(parameter, dtype);
    if (!t || !is_dense(*t, shape) || is_negated(parameter)) return false;
    to = {t->data, dtype.element};
    held.push_back(nb::borrow(parameter));
    return true;
  };
  for (Index layer = 0; layer < sizes.layers; ++layer)
    for (Index d = 0; d < sizes.D; ++d) {
      fastlstm::Weights<Real> w{};
      const Index in = layer == 0 ? sizes.I : sizes.D * sizes.out();
      if (!read(w.w_ih, {4 * sizes.H, in}) || !read(w.w_hh, {4 * sizes.H, sizes.out()})) return false;
      if (sizes.bias != 0 && (!read(w.b_ih, {4 * sizes.H}) || !read(w.b_hh, {4 * sizes.H}))) return false;
      if (sizes.P > 0 && !read(w.w_hr, {sizes.P, sizes.H})) return false;
      weights.push_back(w);
    }
  return next == PyTuple_GET_SIZE(names);
}

// hx = (h_0, c_0), dense and of these shapes, or None: their memory into `inputs`.
template <class Real>
bool read_state(const DType& dtype, PyObject* hx, std::initializer_list<Index> h_shape, std::initializer_list<Index> c_shape,
                fastlstm::Inputs<Real>& inputs) {
  if (hx == Py_None) return true;
  if (!PyTuple_CheckExact(hx) || PyTuple_GET_SIZE(hx) != 2) return false;
  const auto read = [&](int k, std::initializer_list<Index> shape) {
    PyObject* const object = PyTuple_GET_ITEM(hx, k);
    const auto t = view(object, dtype);
    const bool usable = t && is_dense(*t, shape) && !is_negated(object);
    return fastlstm::Source<Real>{usable ? t->data : nullptr, dtype.element};
  };
  inputs.h_0 = read(0, h_shape);
  inputs.c_0 = read(1, c_shape);
  return inputs.h_0 != nullptr && inputs.c_0 != nullptr;
}

// The engine, for all that is given and made; false: there was no memory to write to.
template <class Real>
bool run(const PyProblem& problem, fastlstm::Inputs<Real> inputs, const Made& output, const Made& h_n, const Made& c_n,
         int threads) {
  if (output.data == nullptr || h_n.data == nullptr || c_n.data == nullptr) return false;
  const auto target = [&](const Made& made, const Rows& rows) {
    return problem.target<Real>(reinterpret_cast<Address>(made.data), rows);
  };
  const fastlstm::Outputs<Real> outputs{target(output, problem.places), target(h_n, problem.final), target(c_n, problem.final)};
  if (!problem.places.empty()) {
    inputs.x.rows = problem.places.data();
    inputs.h_0.rows = inputs.c_0.rows = problem.initial.data();
  }
  const nb::gil_scoped_release release;
  fastlstm::forward<Real>(problem, inputs, outputs, nullptr, threads);
  return true;
}

// Resets as the engine reads them: `reset` is of bool, and of the sizes of x but its features. Anything else: nothing.
std::optional<fastlstm::Resets> read_resets(PyObject* reset, const dlpack::Tensor& x, int time) {
  if (reset == Py_None) return fastlstm::Resets{};
  const auto t = view(reset);
  if (!t || t->dtype.code != dlpack::kBool || t->dtype.bits != 8 || t->ndim != x.ndim - 1) return {};
  if (!std::equal(t->shape, t->shape + t->ndim, x.shape)) return {};
  const Index row = t->ndim == 2 ? t->strides[1 - time] : 0;
  return fastlstm::Resets{static_cast<const bool*>(t->data), t->strides[time], row};
}

// (N) of int64, of a batch in which every row has a step; nullptr: none are given. Anything else: nothing.
std::optional<const Index*> read_lengths(PyObject* lengths, const dlpack::Tensor& x, Index T, Index N) {
  if (lengths == Py_None) return nullptr;
  const auto t = view(lengths);
  if (!t || t->dtype.code != dlpack::kInt || t->dtype.bits != 64 || x.ndim != 3 || !is_dense(*t, {N}) || is_negated(lengths))
    return {};
  const auto* const all = static_cast<const Index*>(t->data);
  if (!std::all_of(all, all + N, [&](Index length) { return 1 <= length && length <= T; })) return {};
  return all;
}

// LSTM: x (T, N, I), (N, T, I) with batch_first, (T, I) -> output, (h_n, c_n)
template <class Real>
nb::object layer(const Sizes& sizes, const DType& dtype, const dlpack::Tensor& x, PyObject* hx,
                 const std::vector<fastlstm::Weights<Real>>& weights, bool batch_first, int threads, PyObject* lengths,
                 PyObject* reset) {
  if (x.ndim != 2 && x.ndim != 3) return nb::none();
  const bool batched = x.ndim == 3;
  const bool swapped = batched && batch_first;
  const Index T = x.shape[swapped ? 1 : 0];
  const Index N = batched ? x.shape[swapped ? 0 : 1] : 1;
  const Index cells = sizes.layers * sizes.D;
  const Index out = sizes.out();
  const Index width = sizes.D * out;
  if (T == 0 || N == 0) return nb::none();
  std::optional<fastlstm::Segments> segments;
  if (lengths != Py_None || reset != Py_None) {
    const auto ends = read_lengths(lengths, x, T, N);
    const auto starts = read_resets(reset, x, swapped ? 1 : 0);
    if (!ends || !starts) return nb::none();
    segments.emplace(T, N, *ends, *starts);
    if (segments->whole()) segments.reset();
  }
  const bool as_it_stands = segments.has_value();  // whose rows are told where they are; else (N, T, I) must be reordered first
  if (swapped && T > 1 && N > 1 && !as_it_stands) return nb::none();
  if (!(batched ? is_dense(x, {x.shape[0], x.shape[1], sizes.I}) : is_dense(x, {T, sizes.I}))) return nb::none();

  fastlstm::Inputs<Real> inputs{};
  inputs.x = {x.data, dtype.element};
  inputs.weights = weights.data();
  if (!(batched ? read_state(dtype, hx, {cells, N, out}, {cells, N, sizes.H}, inputs)
                : read_state(dtype, hx, {cells, out}, {cells, sizes.H}, inputs)))
    return nb::none();
  const Made output = swapped
                          ? Made(dtype, {N, T, width}, {as_it_stands ? T * width : width, as_it_stands ? width : N * width, 1})
                      : batched ? Made(dtype, {T, N, width}, {N * width, width, 1})
                                : Made(dtype, {T, width}, {width, 1});
  const auto state = [&](Index features) {
    return batched ? Made(dtype, {cells, N, features}, {N * features, features, 1})
                   : Made(dtype, {cells, features}, {features, 1});
  };
  const Made h_n = state(out);
  const Made c_n = state(sizes.H);
  const Index step = swapped ? 1 : N;
  const Index row = swapped ? T : 1;
  const PyProblem problem =
      segments ? PyProblem(*segments, step, row, 0, T * N, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype.name)
               : PyProblem(T, N, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype);
  if (output.data != nullptr) problem.clear(output.data, width);
  if (!run(problem, inputs, output, h_n, c_n, threads)) return nb::none();
  return nb::make_tuple(output.tensor, nb::make_tuple(h_n.tensor, c_n.tensor));
}

// LSTMCell: x (N, I) or (I) -> h, c. The output of its one step is its h_n.
template <class Real>
nb::object cell(const Sizes& sizes, const DType& dtype, const dlpack::Tensor& x, PyObject* hx,
                const std::vector<fastlstm::Weights<Real>>& weights, int threads) {
  if (x.ndim != 1 && x.ndim != 2) return nb::none();
  const bool batched = x.ndim == 2;
  const Index N = batched ? x.shape[0] : 1;
  const Index H = sizes.H;
  if (N == 0 || !(batched ? is_dense(x, {N, sizes.I}) : is_dense(x, {sizes.I}))) return nb::none();
  fastlstm::Inputs<Real> inputs{};
  inputs.x = {x.data, dtype.element};
  inputs.weights = weights.data();
  if (!(batched ? read_state(dtype, hx, {N, H}, {N, H}, inputs) : read_state(dtype, hx, {H}, {H}, inputs))) return nb::none();
  const auto state = [&] { return batched ? Made(dtype, {N, H}, {H, 1}) : Made(dtype, {H}, {1}); };
  const Made h_n = state();
  const Made c_n = state();
  const PyProblem problem(1, N, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype);
  if (!run(problem, inputs, h_n, h_n, c_n, threads)) return nb::none();
  return nb::make_tuple(h_n.tensor, c_n.tensor);
}

// use(sizes, dtype, x, weights) for the dtype that x has; None where x or a parameter is not what it should be.
template <class Use>
nb::object read(const nb::list& numbers, const nb::tuple& names, const nb::dict& parameters, nb::handle input, const Use& use) {
  if (!known() || numbers.size() != 6) return nb::none();
  const auto x = view(input.ptr());
  if (!x) return nb::none();
  const DType* const dtype = dtype_of(*x);
  if (dtype == nullptr || is_negated(input.ptr())) return nb::none();
  const Sizes sizes(numbers);
  const auto as = [&](auto real) -> nb::object {
    std::vector<fastlstm::Weights<decltype(real)>> weights;
    std::vector<nb::object> held;
    if (!read_weights(sizes, *dtype, names.ptr(), parameters.ptr(), weights, held)) return nb::none();
    return use(sizes, *dtype, *x, weights);
  };
  return dtype->bits == 64 ? as(double{}) : as(float{});
}

nb::object infer(const nb::list& numbers, const nb::tuple& names, const nb::dict& parameters, nb::handle input, nb::handle hx,
                 nb::handle batch_first, int threads, nb::handle lengths, nb::handle reset) {
  const int swapped = PyObject_IsTrue(batch_first.ptr());  // as nn.LSTM takes any flag
  if (swapped < 0) throw nb::python_error();
  return read(numbers, names, parameters, input,
              [&](const Sizes& sizes, const DType& dtype, const dlpack::Tensor& x, auto& weights) {
                return layer(sizes, dtype, x, hx.ptr(), weights, swapped != 0, threads, lengths.ptr(), reset.ptr());
              });
}

nb::object infer_cell(const nb::list& numbers, const nb::tuple& names, const nb::dict& parameters, nb::handle input,
                      nb::handle hx, int threads) {
  return read(numbers, names, parameters, input,
              [&](const Sizes& sizes, const DType& dtype, const dlpack::Tensor& x, auto& weights) {
                return cell(sizes, dtype, x, hx.ptr(), weights, threads);
              });
}

}  // namespace

void define_infer(nb::module_& m) {
  m.def("infer", infer, "sizes"_a, "names"_a, "parameters"_a, "input"_a.none(), "hx"_a.none(), "batch_first"_a.none(),
        "threads"_a, "lengths"_a.none() = nb::none(), "reset"_a.none() = nb::none());
  m.def("infer_cell", infer_cell, "sizes"_a, "names"_a, "parameters"_a, "input"_a.none(), "hx"_a.none(), "threads"_a);
}
