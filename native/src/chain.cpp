#include "fastlstm/chain.h"

#include <algorithm>

#include "isa/dispatch.h"
#include "plan/threads.h"
#include "platform/denormals.h"
#include "team/sleep_watch.h"
#include "team/team.h"

namespace fastlstm {

namespace {

// One of the passes, by a team.
template <class Real, class Call>
void run(const Chain<Real>& chain, const Call& call, int threads, std::size_t bytes,
         void (*ChainKernels<Real>::*pass)(const ChainCall<Real>&, const Call&, const Member&)) {
  const Problem& problem = chain.problem;
  const Kernels<Real>& all = kernels<Real>(problem.cell);
  const Machine machine = all.machine();
  const Workspace scratch(bytes, Workspace::Use::scratch);
  struct Data {
    void (*pass)(const ChainCall<Real>&, const Call&, const Member&);
    ChainCall<Real> chain;
    const Call& call;
  } data{all.chain.*pass, {chain, scratch.data()}, call};
  const auto rows = static_cast<int>(std::min<std::int64_t>(problem.N, threads));
  const int useful = useful_threads(problem, rows, true, machine);
  run_team(
      threads_awake(useful, work_microseconds(problem, false, machine)),
      [](void* p, const Member& member) {
        const Data& d = *static_cast<Data*>(p);
        const FlushDenormals flush;
        d.pass(d.chain, d.call, member);
      },
      &data);
}
template <class Real, class Call>
void run(const Chain<Real>& chain, const Call& call, int threads,
         void (*ChainKernels<Real>::*pass)(const ChainCall<Real>&, const Call&, const Member&)) {
  if (chain.problem.N > 0) run(chain, call, threads, kernels<Real>(chain.problem.cell).chain.bytes(chain.problem), pass);
}

}  // namespace

template <class Real>
void forward(const Chain<Real>& chain, const ChainForward<Real>& call, int threads) {
  run(chain, call, threads, &ChainKernels<Real>::forward);
}
template <class Real>
void forward(const Chain<Real>& chain, const ChainOfInput<Real>& call, int threads) {
  const Problem& problem = chain.problem;
  if (problem.N == 0) return;
  run(chain, call, threads, kernels<Real>(problem.cell).chain.of_input_bytes(problem, call.in), &ChainKernels<Real>::of_input);
}
template <class Real>
void tangent(const Chain<Real>& chain, const ChainTangent<Real>& call, int threads) {
  run(chain, call, threads, &ChainKernels<Real>::tangent);
}
template <class Real>
void adjoint(const Chain<Real>& chain, const ChainAdjoint<Real>& call, int threads) {
  run(chain, call, threads, &ChainKernels<Real>::adjoint);
}
template <class Real>
void second(const Chain<Real>& chain, const ChainSecond<Real>& call, int threads) {
  run(chain, call, threads, &ChainKernels<Real>::second);
}
template <class Real>
void dual(const Chain<Real>& chain, const ChainDual<Real>& call, int threads) {
  const Problem& problem = chain.problem;
  if (problem.N == 0) return;
  run(chain, call, threads, kernels<Real>(problem.cell).chain.dual_bytes(problem, call.in, call.weights_t != nullptr),
      &ChainKernels<Real>::dual);
}

#define FASTLSTM_INSTANTIATE(Real)                                                 \
  template void forward<Real>(const Chain<Real>&, const ChainForward<Real>&, int); \
  template void forward<Real>(const Chain<Real>&, const ChainOfInput<Real>&, int); \
  template void tangent<Real>(const Chain<Real>&, const ChainTangent<Real>&, int); \
  template void adjoint<Real>(const Chain<Real>&, const ChainAdjoint<Real>&, int); \
  template void second<Real>(const Chain<Real>&, const ChainSecond<Real>&, int);   \
  template void dual<Real>(const Chain<Real>&, const ChainDual<Real>&, int)

FASTLSTM_INSTANTIATE(float);
FASTLSTM_INSTANTIATE(double);

}  // namespace fastlstm
