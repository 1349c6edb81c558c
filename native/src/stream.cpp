#include "fastlstm/stream.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

#include "packed_weights.h"
#include "platform/denormals.h"

namespace fastlstm {

namespace {

Problem one_step(const Problem& sizes, std::int64_t N) {
  if (sizes.D != 1) throw std::invalid_argument("a stream has one direction: the other begins at the last step");
  return {1, N, sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, {}, sizes.cell};
}

}  // namespace

template <class Real>
struct Stream<Real>::Impl {
  std::shared_ptr<const PackedWeights<Real>> weights;
  Problem problem;
  std::size_t bytes;
  Workspace memory;
  bool fresh = true;
  int parity = 0;

  Impl(std::shared_ptr<const PackedWeights<Real>> shared, std::int64_t N)
      : weights(std::move(shared)), problem(one_step(weights->impl().problem, N)), bytes(size()), memory(bytes) {
    std::memset(memory.data(), 0, bytes);  // lanes past H are read
  }
  Impl(const Impl& other)
      : weights(other.weights),
        problem(other.problem),
        bytes(other.bytes),
        memory(bytes),
        fresh(other.fresh),
        parity(other.parity) {
    std::memcpy(memory.data(), other.memory.data(), bytes);
  }
  std::size_t size() const { return weights->impl().kernels.stream.bytes(problem); }
  StreamCall<Real> call() const { return {problem, weights->impl().memory.data(), memory.data(), fresh, parity}; }
  // To or from all layers' h and c; of a fresh stream there are none to read.
  void state(Real* h, Real* c, bool read) const {
    StreamCall<Real> moved = call();
    moved.fresh = false;
    moved.h = h;
    moved.c = c;
    weights->impl().kernels.stream.state(moved, read);
  }
  void clear() {
    std::memset(memory.data(), 0, bytes);
    fresh = true;
  }
};

template <class Real>
Stream<Real>::Stream(std::shared_ptr<const PackedWeights<Real>> weights, std::int64_t N)
    : impl_(std::make_unique<Impl>(std::move(weights), N)) {}
template <class Real>
Stream<Real>::~Stream() = default;
template <class Real>
Stream<Real>::Stream(const Stream& other) : impl_(std::make_unique<Impl>(*other.impl_)) {}

template <class Real>
const Problem& Stream<Real>::problem() const {
  return impl_->problem;
}

template <class Real>
void Stream<Real>::block(std::int64_t steps, const Real* x, Real* y) {
  Impl& s = *impl_;
  if (s.problem.N == 0) return;
  const FlushDenormals flush;
  StreamCall<Real> call = s.call();
  for (std::int64_t t = 0; t < steps; ++t) {
    call.x = x + t * s.problem.N * s.problem.I;
    call.y = y + t * s.problem.N * s.problem.out();
    s.weights->impl().kernels.stream.step(call);
    call.fresh = false;
    call.parity = 1 - call.parity;
  }
  s.fresh = call.fresh;
  s.parity = call.parity;
}

template <class Real>
void Stream<Real>::reset(std::int64_t n) {
  Impl& s = *impl_;
  if (n < 0 || s.problem.N == 1) {
    s.clear();
  } else if (!s.fresh) {
    s.weights->impl().kernels.stream.reset(s.call(), n);
  }
}

template <class Real>
void Stream<Real>::get_state(Real* h, Real* c) const {
  impl_->state(h, c, false);
}

template <class Real>
void Stream<Real>::set_state(const Real* h, const Real* c) {
  impl_->state(const_cast<Real*>(h), const_cast<Real*>(c), true);  // are read
  impl_->fresh = false;
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastlstm
