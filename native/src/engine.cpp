#include "fastlstm/engine.h"

#include <algorithm>
#include <cstdint>

#include "isa/dispatch.h"
#include "packed_weights.h"
#include "plan/pairs.h"
#include "plan/threads.h"
#include "plan/words.h"
#include "platform/denormals.h"
#include "platform/memory.h"
#include "team/sleep_watch.h"
#include "team/team.h"

namespace fastlstm {

namespace {

// What a caller allocates for a call is mostly fresh from the system where it is large: (T, N, H) = (512, 64, 64) took 10.1 ms in
// small pages and 8.4 in memory that was there.
template <class Real>
void expect_write(const Target<Real>& array, std::int64_t count) {
  if (array == nullptr || array.rows != nullptr) return;
  const std::size_t each = array.element == Element::real ? sizeof(Real) : 2;
  advise_huge_pages(array.data, static_cast<std::size_t>(count) * each);
}

template <class Real>
const Kernels<Real>& kernels_for(const Problem& problem, const Inputs<Real>& inputs, Element output) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (multiplies_bfloat16(problem) && all_bfloat16(problem, inputs, output)) return current_isa().pairs->of(problem.cell);
  }
  return kernels<Real>(problem.cell);
}

template <class Real>
int threads_for(const Problem& problem, int threads, bool training, const Kernels<Real>& kernels) {
  const Machine machine = kernels.machine();
  return threads_awake(useful_threads(problem, threads, training, machine), work_microseconds(problem, training, machine));
}

}  // namespace

bool multiplies_bfloat16(const Problem& problem) { return current_isa().pairs != nullptr && fits_pairs(problem); }

template <class Real>
std::int64_t saved_size(const Problem& problem) {
  return kernels<Real>(problem.cell).saved_size(problem);
}

template <class Real>
void forward(const Problem& problem, const Inputs<Real>& inputs, const Outputs<Real>& outputs, Real* saved, int threads) {
  if (problem.N == 0) return;
  const auto* const packed = inputs.packed == nullptr ? nullptr : &inputs.packed->impl();
  const Kernels<Real>& k = packed != nullptr ? packed->kernels : kernels_for(problem, inputs, outputs.output.element);
  ForwardCall<Real> call{problem,
                         inputs,
                         outputs,
                         saved,
                         nullptr,
                         threads_for(problem, threads, false, k),
                         packed ? packed->memory.data() : nullptr};
  const Workspace scratch(k.forward_scratch(call), Workspace::Use::scratch);
  call.scratch = scratch.data();
  expect_write(outputs.output, problem.rows() * problem.D * problem.out());
  struct Data {
    const Kernels<Real>& kernels;
    const ForwardCall<Real>& call;
  } data{k, call};
  run_team(
      call.threads,
      [](void* p, const Member& member) {
        const Data& d = *static_cast<Data*>(p);
        const FlushDenormals flush;
        d.kernels.forward(d.call, member);
      },
      &data);
}

template <class Real>
void backward(const Problem& problem, const Inputs<Real>& inputs, Element output, const Real* saved,
              const Gradients<Real>& gradients, int threads) {
  const Kernels<Real>& k = kernels_for(problem, inputs, output);
  BackwardCall<Real> call{problem, inputs, saved, gradients, nullptr, threads_for(problem, threads, true, k)};
  const Workspace scratch(k.backward_scratch(call), Workspace::Use::scratch);
  call.scratch = scratch.data();
  expect_write(gradients.dx, problem.rows() * problem.I);
  const std::int64_t gate_rows = k.machine().gates * problem.H;
  for (std::int64_t l = 0; l < problem.layers * problem.D; ++l) {
    expect_write(gradients.dweights[l].w_ih, gate_rows * problem.layer_input(l / problem.D));
    expect_write(gradients.dweights[l].w_hh, gate_rows * problem.out());
  }
  struct Data {
    const Kernels<Real>& kernels;
    const BackwardCall<Real>& call;
  } data{k, call};
  run_team(
      call.threads,
      [](void* p, const Member& member) {
        const Data& d = *static_cast<Data*>(p);
        const FlushDenormals flush;
        d.kernels.backward(d.call, member);
      },
      &data);
}

template <class Real>
void trace(const Problem& problem, const Real* saved, const Target<Real>* steps, const Target<Real>* hidden, int threads) {
  if (problem.N == 0) return;
  struct Data {
    const Kernels<Real>& kernels;
    const TraceCall<Real> call;
  } data{kernels<Real>(problem.cell), {problem, saved, steps, hidden}};
  const double bytes =
      static_cast<double>(problem.rows() * problem.layers * problem.D * (data.kernels.machine().sums + 1) * problem.H) *
      sizeof(Real);
  run_team(
      threads_awake(useful_threads_to_copy(bytes, threads), copy_microseconds(bytes)),
      [](void* p, const Member& member) {
        const Data& d = *static_cast<Data*>(p);
        d.kernels.trace(d.call, member);
      },
      &data);
}

template <class Real>
std::vector<Decision> decisions(const Problem& problem, Element element, bool training, bool rows_elsewhere, int threads) {
  Machine machine = kernels<Real>(problem.cell).machine();
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (element == Element::bfloat16 && multiplies_bfloat16(problem)) machine = current_isa().pairs->of(problem.cell).machine();
  }
  return plan_in_words(problem, threads, training, rows_elsewhere, machine);
}

#define FASTLSTM_INSTANTIATE(Real)                                                                                      \
  template std::int64_t saved_size<Real>(const Problem&);                                                               \
  template void forward<Real>(const Problem&, const Inputs<Real>&, const Outputs<Real>&, Real*, int);                   \
  template void trace<Real>(const Problem&, const Real*, const Target<Real>*, const Target<Real>*, int);                \
  template void backward<Real>(const Problem&, const Inputs<Real>&, Element, const Real*, const Gradients<Real>&, int); \
  template std::vector<Decision> decisions<Real>(const Problem&, Element, bool, bool, int)

FASTLSTM_INSTANTIATE(float);
FASTLSTM_INSTANTIATE(double);

}  // namespace fastlstm
