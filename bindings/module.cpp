// The module `_engine`: what stands in src/fastlstm/_engine.pyi. No arithmetic.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <exception>
#include <vector>

#include "arrays.h"
#include "batch.h"
#include "call.h"
#include "chain.h"
#include "fastlstm/engine.h"
#include "layer.h"
#include "packed_weights.h"
#include "stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// What only the first call would find cold, its code, and scratch that the pool then has: it took 410 us at (100, 1, 64, 64) and
// takes 250 so, a later one 110. On one thread: an import starts none.
void warm_up() {
  constexpr std::int64_t H = 128;
  const std::vector<float> zeros(fastlstm::counts_of(fastlstm::CellKind::lstm).gates * H * H);
  std::vector<float> results(4 * H);
  const fastlstm::Source<float> zero(zeros.data());
  const fastlstm::Weights<float> weights{zero, zero, zero, zero, {}};
  fastlstm::forward<float>(fastlstm::Problem(2, 1, H, H, 0, 1, 1), {zero, {}, {}, &weights, nullptr},
                           {results.data(), results.data() + 2 * H, results.data() + 3 * H}, nullptr, 1);
}

template <class Function>
Function function_at(std::uintptr_t address) {
  return reinterpret_cast<Function>(address);
}

}  // namespace

NB_MODULE(_engine, m) {
  // An autograd graph that is alive when the interpreter ends holds a Kept: no leak, and nothing to print at the user.
  nb::set_leak_warnings(false);

  m.def("let_teams_run", fastlstm::let_teams_run);
  m.def("isa", fastlstm::isa);
  m.def("isas", fastlstm::isas);
  m.def("use_isa", fastlstm::use_isa, "name"_a);
  m.def(
      "use_openmp",
      [](std::uintptr_t parallel, std::uintptr_t thread_num, std::uintptr_t num_threads) {
        fastlstm::use_openmp({function_at<decltype(fastlstm::OpenMP::parallel)>(parallel),
                              function_at<decltype(fastlstm::OpenMP::thread_num)>(thread_num),
                              function_at<decltype(fastlstm::OpenMP::num_threads)>(num_threads)});
      },
      "gomp_parallel"_a, "omp_get_thread_num"_a, "omp_get_num_threads"_a);
  define_arrays(m);
  define_layer(m);
  define_batch(m);
  define_call(m);
  define_chain(m);
  define_packed_weights(m);
  define_stream(m);
  try {
    warm_up();
  } catch (const std::exception&) {
    // An instruction set that the processor hasn't: the first call will say so.
  }
}
