// The engine's Python face: counts what it is given, releases the GIL, forwards the call. No arithmetic.
// The arguments are described in src/fastlstm/_engine.pyi; addresses, because a DLPack handshake costs microseconds an array.
#include "fastlstm/engine.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dense.h"
#include "infer.h"
#include "problem.h"
#include "segments.h"
#include "tensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

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

  Arguments(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& w, const Addresses& m,
            Address output = 0, Address h_n = 0, Address c_n = 0) {
    const auto source = [&](Address address) { return problem.source<Real>(address); };
    if (w.size() != 5 * problem.cells()) throw std::invalid_argument("weights: expected five addresses a layer and direction");
    if (!m.empty() && m.size() + 1 != static_cast<std::size_t>(problem.layers))
      throw std::invalid_argument("masks: expected none, or one address a layer but the last");
    for (std::size_t k = 0; k < w.size(); k += 5)
      weights.push_back({source(w[k]), source(w[k + 1]), source(w[k + 2]), source(w[k + 3]), source(w[k + 4])});
    for (const Address mask : m) masks.push_back(source(mask));
    inputs = {problem.source<Real>(x, problem.places), problem.source<Real>(h_0, problem.initial),
              problem.source<Real>(c_0, problem.initial), weights.data(), masks.empty() ? nullptr : masks.data()};
    outputs = {problem.target<Real>(output, problem.places), problem.target<Real>(h_n, problem.final),
               problem.target<Real>(c_n, problem.final)};
  }
};

template <class Real>
void forward_as(const PyProblem& problem, const Arguments<Real>& arguments, Address saved, int threads) {
  const nb::gil_scoped_release release;
  fastlstm::forward<Real>(problem, arguments.inputs, arguments.outputs, at<Real>(saved), threads);
}

void forward(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& weights, const Addresses& masks,
             Address output, Address h_n, Address c_n, Address saved, int threads) {
  if (problem.is_double()) {
    forward_as<double>(problem, {problem, x, h_0, c_0, weights, masks, output, h_n, c_n}, saved, threads);
  } else {
    forward_as<float>(problem, {problem, x, h_0, c_0, weights, masks, output, h_n, c_n}, saved, threads);
  }
}

// Five addresses a layer and direction, in the order of `fastlstm::Steps`.
template <template <class> class Array, class Real, class Make>
std::vector<fastlstm::Steps<Array<Real>>> steps_of(const PyProblem& problem, const Addresses& steps, const Make& make) {
  if (steps.size() != 5 * problem.cells()) throw std::invalid_argument("steps: expected five addresses a layer and direction");
  std::vector<fastlstm::Steps<Array<Real>>> made;
  for (std::size_t k = 0; k < steps.size(); k += 5)
    made.push_back({make(steps[k]), make(steps[k + 1]), make(steps[k + 2]), make(steps[k + 3]), make(steps[k + 4])});
  return made;
}
template <class Array, class Make>
std::vector<Array> hidden_of(const PyProblem& problem, const Addresses& hidden, const Make& make) {
  if (hidden.size() + 1 != static_cast<std::size_t>(problem.layers))
    throw std::invalid_argument("hidden: expected an address a layer but the last");
  std::vector<Array> made;
  for (const Address address : hidden) made.push_back(make(address));
  return made;
}

template <class Real>
void trace_as(const PyProblem& problem, Address saved, const Addresses& steps, const Addresses& hidden, int threads) {
  const auto target = [&](Address address) { return problem.target<Real>(address, problem.places); };
  const auto made = steps_of<fastlstm::Target, Real>(problem, steps, target);
  const auto between = hidden_of<fastlstm::Target<Real>>(problem, hidden, target);
  const nb::gil_scoped_release release;
  fastlstm::trace<Real>(problem, at<const Real>(saved), made.data(), between.data(), threads);
}

void trace(const PyProblem& problem, Address saved, const Addresses& steps, const Addresses& hidden, int threads) {
  if (problem.is_double()) {
    trace_as<double>(problem, saved, steps, hidden, threads);
  } else {
    trace_as<float>(problem, saved, steps, hidden, threads);
  }
}

template <class Real>
void backward_as(const PyProblem& problem, const Arguments<Real>& arguments, Address saved, Address doutput, Address dh_n,
                 Address dc_n, Address dx, Address dh_0, Address dc_0, const Addresses& dw, int threads, const Addresses& dsteps,
                 const Addresses& dhidden) {
  const auto target = [&](Address address) { return problem.target<Real>(address); };
  if (dw.size() != 5 * problem.cells()) throw std::invalid_argument("dweights: expected five addresses a layer and direction");
  std::vector<fastlstm::WeightGradients<Real>> dweights;
  for (std::size_t k = 0; k < dw.size(); k += 5)
    dweights.push_back({target(dw[k]), target(dw[k + 1]), target(dw[k + 2]), target(dw[k + 3]), target(dw[k + 4])});
  fastlstm::Gradients<Real> gradients{problem.source<Real>(doutput, problem.places),
                                      problem.source<Real>(dh_n, problem.final),
                                      problem.source<Real>(dc_n, problem.final),
                                      problem.target<Real>(dx, problem.places),
                                      problem.target<Real>(dh_0, problem.initial),
                                      problem.target<Real>(dc_0, problem.initial),
                                      dweights.data()};
  const auto step_source = [&](Address address) { return problem.source<Real>(address, problem.places); };
  std::vector<fastlstm::Steps<fastlstm::Source<Real>>> steps;
  std::vector<fastlstm::Source<Real>> hidden;
  if (!dsteps.empty()) {
    steps = steps_of<fastlstm::Source, Real>(problem, dsteps, step_source);
    hidden = hidden_of<fastlstm::Source<Real>>(problem, dhidden, step_source);
    gradients.dsteps = steps.data();
    gradients.dhidden = hidden.data();
  }
  const nb::gil_scoped_release release;
  fastlstm::backward<Real>(problem, arguments.inputs, problem.dtype.element, at<const Real>(saved), gradients, threads);
}

void backward(const PyProblem& problem, Address x, Address h_0, Address c_0, const Addresses& weights, const Addresses& masks,
              Address saved, Address doutput, Address dh_n, Address dc_n, Address dx, Address dh_0, Address dc_0,
              const Addresses& dweights, int threads, const Addresses& dsteps, const Addresses& dhidden) {
  if (problem.is_double()) {
    backward_as<double>(problem, {problem, x, h_0, c_0, weights, masks}, saved, doutput, dh_n, dc_n, dx, dh_0, dc_0, dweights,
                        threads, dsteps, dhidden);
  } else {
    backward_as<float>(problem, {problem, x, h_0, c_0, weights, masks}, saved, doutput, dh_n, dc_n, dx, dh_0, dc_0, dweights,
                       threads, dsteps, dhidden);
  }
}

// What only the first call would find cold, its code, and scratch that the pool then has: it took 410 us at (100, 1, 64, 64) and
// takes 250 so, a later one 110. On one thread: an import starts none.
void warm_up() {
  constexpr std::int64_t H = 128;
  const std::vector<float> zeros(4 * H * H);
  std::vector<float> results(4 * H);
  const fastlstm::Source<float> zero(zeros.data());
  const fastlstm::Weights<float> weights{zero, zero, zero, zero, {}};
  fastlstm::forward<float>(fastlstm::Problem(2, 1, H, H, 0, 1, 1), {zero, {}, {}, &weights, nullptr},
                           {results.data(), results.data() + 2 * H, results.data() + 3 * H}, nullptr, 1);
}

std::vector<std::pair<std::string, std::string>> decisions(const PyProblem& problem, bool training, int threads) {
  const auto decide = problem.is_double() ? fastlstm::decisions<double> : fastlstm::decisions<float>;
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& [what, how] : decide(problem, problem.dtype.element, training, !problem.places.empty(), threads))
    all.emplace_back(what, how);
  return all;
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
      .def(nb::init<const fastlstm::Segments&, std::int64_t, std::int64_t, Address, std::int64_t, std::int64_t, std::int64_t,
                    std::int64_t, std::int64_t, std::int64_t, const std::string&>(),
           nb::keep_alive<1, 2>(), "segments"_a, "step"_a, "row"_a, "starts"_a, "places"_a, "I"_a, "H"_a, "P"_a, "layers"_a,
           "directions"_a, "dtype"_a)
      .def(
          "clear", [](const PyProblem& p, Address to, std::int64_t features) { p.clear(reinterpret_cast<void*>(to), features); },
          "to"_a, "features"_a)
      .def_prop_ro("rows", [](const PyProblem& p) { return p.rows(); })
      .def_ro("places", &PyProblem::x_rows)
      .def_ro("states", &PyProblem::states)
      .def_prop_ro("saved_reals", &PyProblem::saved_reals)
      .def_prop_ro("multiplies_bfloat16", [](const PyProblem& problem) { return fastlstm::multiplies_bfloat16(problem); })
      .def_prop_ro("saved_bytes", &PyProblem::saved_bytes);

  nb::class_<fastlstm::Workspace>(m, "Workspace")
      .def(nb::init<std::size_t>(), "bytes"_a)
      .def_prop_ro("address", [](const fastlstm::Workspace& w) { return reinterpret_cast<Address>(w.data()); });

  m.def("forward", forward, "problem"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "output"_a, "h_n"_a, "c_n"_a, "saved"_a,
        "threads"_a);
  m.def("backward", backward, "problem"_a, "x"_a, "h_0"_a, "c_0"_a, "weights"_a, "masks"_a, "saved"_a, "doutput"_a, "dh_n"_a,
        "dc_n"_a, "dx"_a, "dh_0"_a, "dc_0"_a, "dweights"_a, "threads"_a, "dsteps"_a = Addresses{}, "dhidden"_a = Addresses{});
  m.def("trace", trace, "problem"_a, "saved"_a, "steps"_a, "hidden"_a, "threads"_a);
  m.def("decisions", decisions, "problem"_a, "training"_a, "threads"_a);
  m.def("let_teams_run", fastlstm::let_teams_run);
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
  define_dense(m);
  define_segments(m);
  define_tensors(m);
  try {
    warm_up();
  } catch (const std::exception&) {
    // An instruction set that the processor hasn't: the first call will say so.
  }
}
