#include "packed_weights.h"

#include "isa/dispatch.h"
#include "memory/pages.h"

namespace fastlstm {

template <class Real>
PackedWeights<Real>::PackedWeights(const Problem& sizes, const Weights<Real>* weights) {
  const Problem problem(1, 1, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, {}, sizes.cell);
  const Kernels<Real>& k = kernels<Real>(problem.cell);
  std::size_t bytes = k.pack.bytes(problem);
  // In huge pages, as all steps read them; fewer bytes are few pages anyway.
  if (bytes >= kHugePage / 8) bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  impl_.reset(new Impl{problem, k, Workspace(bytes)});
  k.pack.pack(impl_->problem, weights, impl_->memory.data());
}
template <class Real>
PackedWeights<Real>::~PackedWeights() = default;

template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace fastlstm
