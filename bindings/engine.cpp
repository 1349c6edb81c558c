// The engine's Python face: counts what it is given, releases the GIL, forwards the call. No arithmetic.
// The arguments are described in src/fastlstm/_engine.pyi; addresses, because a DLPack handshake costs microseconds an array.
#include "fastlstm/engine.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <vector>

#include "infer.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;

// What the arrays of a call hold.
struct DType {
  bool is_double;
  fastlstm::Element element;
};

DType dtype_named(const std::string& name) {
  using fastlstm::Element;
  if (name == "float32") return {false, Element::real};
  if (name == "float64") return {true, Element::real};
  if (name == "bfloat16") return {false, Element::bfloat16};
  if (name == "float16") return {false, Element::float16};
  throw std::invalid_argument("dtype: expected float32, float64, bfloat16 or float16, got " + name);
}

struct PyProblem : fastlstm::Problem {
  DType dtype;

  PyProblem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers,
            std::int64_t directions, const std::string& dtype, const std::optional<std::vector<std::int64_t>>& batch_sizes)
      : Problem(T, N, I, H, P, layers, directions, batch_sizes.value_or(std::vector<std::int64_t>{})),
        dtype(dtype_named(dtype)) {}

  std::size_t cells() const { return static_cast<std::size_t>(layers * D); }
  std::int64_t saved_reals() const {
    return dtype.is_double ? fastlstm::saved_size<double>(*this) : fastlstm::saved_size<float>(*this, dtype.element);
  }
  std::int64_t saved_bytes() const { return saved_reals() * (dtype.is_double ? 8 : 4); }
  template <class Real>
  fastlstm::Source<Real> source(Address address) const {
    return {reinterpret_cast<const void*>(address), dtype.element};
  }
  template <class Real>
  fastlstm::Target<Real> target(Address address) const {
    return {reinterpret_cast<void*>(address), dtype.element};
  }
};

template <class Real>
Real* at(Address address) {
  return reinterpret_cast<Real*>(address);
}

template <class Real>
struct Arguments {
  std::vector<fastlstm::Weights<Real>> weights;
  std::vector<fastlstm::Source<Real>> masks;
  fastlstm::Inputs<Real> inputs;
  fastlstm::Outputs<Real> outputs;

  Arguments(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& w, const Addresses& m, Address output,
            Address h_n, Address c_n) {
    const auto source = [&](Address address) { return problem.source<Real>(address); };
    if (w.size() != 5 * problem.cells()) throw std::invalid_argument("weights: expected five addresses a layer and direction");
    if (!m.empty() && m.size() + 1 != static_cast<std::size_t>(problem.layers))
      throw std::invalid_argument("masks: expected none, or one address a layer but the last");
    for (std::size_t k = 0; k < w.size(); k += 5)
      weights.push_back({source(w[k]), source(w[k + 1]), source(w[k + 2]), source(w[k + 3]), source(w[k + 4])});
    for (const Address mask : m) masks.push_back(source(mask));
    inputs = {source(x), source(h_0), source(c_0), weights.data(), masks.empty() ? nullptr : masks.data()};
    const auto target = [&](Address address) { return problem.target<Real>(address); };
    outputs = {target(output), target(h_n), target(c_n)};
  }
};

template <class Real>
void forward_as(const PyProblem& problem, const Arguments<Real>& arguments, Address saved, int threads) {
  const nb::gil_scoped_release release;
  fastlstm::forward<Real>(problem, arguments.inputs, arguments.outputs, at<Real>(saved), threads);
}

void forward(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& weights, const Addresses& masks,
             Address output, Address h_n, Address c_n, Address saved, int threads) {
  if (problem.dtype.is_double) {
    forward_as<double>(problem, {problem, x, h_0, c_0, weights, masks, output, h_n, c_n}, saved, threads);
  } else {
    forward_as<float>(problem, {problem, x, h_0, c_0, weights, masks, output, h_n, c_n}, saved, threads);
  }
}

template <class Real>
void backward_as(const PyProblem& problem, const Arguments<Real>& arguments, Address saved, Address doutput, Address dh_n,
                 Address dc_n, Address dx, Address dh_0, Address dc_0, const Addresses& dw, int threads) {
  const auto source = [&](Address address) { return problem.source<Real>(address); };
  const auto target = [&](Address address) { return problem.target<Real>(address); };
  if (dw.size() != 5 * problem.cells()) throw std::invalid_argument("dweights: expected five addresses a layer and direction");
  std::vector<fastlstm::WeightGradients<Real>> dweights;
  for (std::size_t k = 0; k < dw.size(); k += 5)
    dweights.push_back({target(dw[k]), target(dw[k + 1]), target(dw[k + 2]), target(dw[k + 3]), target(dw[k + 4])});
  const fastlstm::Gradients<Real> gradients{source(doutput), source(dh_n), source(dc_n),   target(dx),
                                            target(dh_0),    target(dc_0), dweights.data()};
  const nb::gil_scoped_release release;
  fastlstm::backward<Real>(problem, arguments.inputs, arguments.outputs, at<const Real>(saved), gradients, threads);
}

void backward(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& weights, const Addresses& masks,
              Address output, Address saved, Address doutput, Address dh_n, Address dc_n, Address dx, Address dh_0, Address dc_0,
              const Addresses& dweights, int threads) {
  if (problem.dtype.is_double) {
    backward_as<double>(problem, {problem, x, h_0, c_0, weights, masks, output, 0, 0}, saved, doutput, dh_n, dc_n, dx, dh_0, dc_0,
                        dweights, threads);
  } else {
    backward_as<float>(problem, {problem, x, h_0, c_0, weights, masks, output, 0, 0}, saved, doutput, dh_n, dc_n, dx, dh_0, dc_0,
                       dweights, threads);
  }
}

template <class Function>
Function function_at(Address address) {
  return reinterpret_cast<Function>(address);
}

}  // namespace

NB_MODULE(_engine, m) {
  // An autograd graph that is alive when the interpreter ends holds a Workspace: no leak, and nothing to print at the user.
  nb::set_leak_warnings(false);

  nb::class_<PyProblem>(m, "Problem")
      .def(nb::init<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                    const std::string&, const std::optional<std::vector<std::int64_t>>&>(),
           "T"_a, "N"_a, "I"_a, "H"_a, "P"_a = 0, "layers"_a = 1, "directions"_a = 1, "dtype"_a = "float32",
           "batch_sizes"_a = nb::none())
      .def_prop_ro("rows", [](const PyProblem& p) { return p.rows(); })
      .def_prop_ro("saved_reals", &PyProblem::saved_reals)
      .def_prop_ro("saved_bytes", &PyProblem::saved_bytes);

  nb::class_<fastlstm::Workspace>(m, "Workspace")
      .def(nb::init<std::size_t>(), "bytes"_a)
      .def_prop_ro("address", [](const fastlstm::Workspace& w) { return reinterpret_cast<Address>(w.data()); });

  m.def("forward", forward, "problem"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "output"_a, "h_n"_a, "c_n"_a, "saved"_a,
        "threads"_a);
  m.def("backward", backward, "problem"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "output"_a, "saved"_a, "doutput"_a,
        "dh_n"_a, "dc_n"_a, "dx"_a, "dh_0"_a, "dc_0"_a, "dweights"_a, "threads"_a);
  m.def("isa", fastlstm::isa);
  m.def("isas", fastlstm::isas);
  m.def("use_isa", fastlstm::use_isa, "name"_a);
  m.def(
      "use_openmp",
      [](Address parallel, Address thread_num, Address num_threads) {
        fastlstm::use_openmp({function_at<decltype(fastlstm::OpenMP::parallel)>(parallel),
                              function_at<decltype(fastlstm::OpenMP::thread_num)>(thread_num),
                              function_at<decltype(fastlstm::OpenMP::num_threads)>(num_threads)});
      },
      "gomp_parallel"_a, "omp_get_thread_num"_a, "omp_get_num_threads"_a);
  define_infer(m);
}
