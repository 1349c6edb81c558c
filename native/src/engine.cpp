#include "fastlstm/engine.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "denormals.h"
#include "dispatch.h"
#include "pages.h"
#include "plan/pairs.h"
#include "plan/threads.h"
#include "plan/words.h"
#include "threads.h"

namespace fastlstm {

namespace {

// All that an engine counts for a call, elements and bytes, is below this many times a product of its sizes: five numbers a unit
// and step, padded to a panel of 64, of 8 bytes, for forward and backward.
constexpr double kCountedAtMost = 64.0 * 5 * 8 * 4;

// Whether no count of a call's elements or bytes can overflow.
bool countable(const Problem& p, std::int64_t rows) {
  const auto padded = [](std::int64_t size) { return static_cast<double>(size) + 64; };
  const double cells = static_cast<double>(p.layers) * static_cast<double>(p.D);
  const double features = padded(p.I) + padded(p.H) + padded(p.P);
  const double weights = features * padded(p.H) * cells;
  const double states = (padded(rows) + padded(p.N)) * features * cells;
  return kCountedAtMost * (weights + states) < 9e18;
}

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
    if (multiplies_bfloat16(problem) && all_bfloat16(problem, inputs, output)) return *current_isa().pairs;
  }
  return kernels<Real>();
}

template <class Real>
int threads_for(const Problem& problem, int threads, bool training, const Kernels<Real>& kernels) {
  const Machine machine = kernels.machine();
  return threads_awake(useful_threads(problem, threads, training, machine), work_microseconds(problem, training, machine));
}

}  // namespace

Problem::Problem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers,
                 std::int64_t D, const std::vector<std::int64_t>& batch_sizes)
    : T(T), N(N), I(I), H(H), P(P), layers(layers), D(D) {
  if (T < 1 || N < 0 || I < 1 || H < 1 || P < 0 || layers < 1 || D < 1 || D > 2)
    throw std::invalid_argument("Problem: T, I, H and layers must be at least 1, N and P at least 0, D 1 or 2");
  if (P >= H && P > 0) throw std::invalid_argument("Problem: P must be smaller than H");
  if (!batch_sizes.empty()) {
    if (static_cast<std::int64_t>(batch_sizes.size()) != T || batch_sizes.front() != N)
      throw std::invalid_argument("Problem: batch_sizes must have T numbers, the first of them N");
    for (std::size_t t = 0; t < batch_sizes.size(); ++t)
      if (batch_sizes[t] < 1 || (t > 0 && batch_sizes[t] > batch_sizes[t - 1]))
        throw std::invalid_argument("Problem: batch_sizes must be positive and must not increase");
  }
  std::int64_t rows = 0;
  bool counted = true;
  if (batch_sizes.empty()) {
    counted = !__builtin_mul_overflow(T, N, &rows);
  } else {
    for (const std::int64_t batch : batch_sizes) counted = counted && !__builtin_add_overflow(rows, batch, &rows);
  }
  if (!counted || !countable(*this, rows)) throw std::runtime_error("Problem: sizes beyond what can be counted");
  offset_.reserve(static_cast<std::size_t>(T) + 1);
  offset_.push_back(0);
  for (std::int64_t t = 0; t < T; ++t)
    offset_.push_back(offset_.back() + (batch_sizes.empty() ? N : batch_sizes[static_cast<std::size_t>(t)]));
  block_.push_back(0);
  for (std::int64_t t = 1; t < T; ++t)
    if (row(t + 1) - row(block_.back()) > kBlockRows) block_.push_back(t);
  block_.push_back(T);
}

bool multiplies_bfloat16(const Problem& problem) { return current_isa().pairs != nullptr && fits_pairs(problem); }

template <class Real>
std::int64_t saved_size(const Problem& problem) {
  return kernels<Real>().saved_size(problem);
}

template <class Real>
void forward(const Problem& problem, const Inputs<Real>& inputs, const Outputs<Real>& outputs, Real* saved, int threads) {
  if (problem.N == 0) return;
  const Kernels<Real>& k = kernels_for(problem, inputs, outputs.output.element);
  ForwardCall<Real> call{problem, inputs, outputs, saved, nullptr, threads_for(problem, threads, false, k)};
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
  for (std::int64_t l = 0; l < problem.layers * problem.D; ++l) {
    expect_write(gradients.dweights[l].w_ih, 4 * problem.H * problem.layer_input(l / problem.D));
    expect_write(gradients.dweights[l].w_hh, 4 * problem.H * problem.out());
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
void trace(const Problem& problem, const Real* saved, const Steps<Target<Real>>* steps, const Target<Real>* hidden, int threads) {
  if (problem.N == 0) return;
  struct Data {
    const Kernels<Real>& kernels;
    const TraceCall<Real> call;
  } data{kernels<Real>(), {problem, saved, steps, hidden}};
  const double bytes = static_cast<double>(problem.rows() * problem.layers * problem.D * 5 * problem.H) * sizeof(Real);
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
  Machine machine = kernels<Real>().machine();
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (element == Element::bfloat16 && multiplies_bfloat16(problem)) machine = current_isa().pairs->machine();
  }
  return plan_in_words(problem, threads, training, rows_elsewhere, machine);
}

#define FASTLSTM_INSTANTIATE(Real)                                                                                      \
  template std::int64_t saved_size<Real>(const Problem&);                                                               \
  template void forward<Real>(const Problem&, const Inputs<Real>&, const Outputs<Real>&, Real*, int);                   \
  template void trace<Real>(const Problem&, const Real*, const Steps<Target<Real>>*, const Target<Real>*, int);         \
  template void backward<Real>(const Problem&, const Inputs<Real>&, Element, const Real*, const Gradients<Real>&, int); \
  template std::vector<Decision> decisions<Real>(const Problem&, Element, bool, bool, int)

FASTLSTM_INSTANTIATE(float);
FASTLSTM_INSTANTIATE(double);

}  // namespace fastlstm
