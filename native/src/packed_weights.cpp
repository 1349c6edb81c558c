#include "packed_weights.h"

#include "isa/dispatch.h"

namespace fastlstm {

template <class Real>
PackedWeights<Real>::PackedWeights(const Problem& sizes, const Weights<Real>* weights) {
  const Problem problem(1, 1, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, {}, sizes.cell);
  const Kernels<Real>& k = kernels<Real>(problem.cell);
  impl_.reset(new Impl{problem, k, Workspace(k.pack.bytes(problem))});
  k.pack.pack(impl_->problem, weights, impl_->memory.data());
}
template <class Real>
PackedWeights<Real>::~PackedWeights() = default;

template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace fastlstm
