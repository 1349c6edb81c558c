// A layer that runs step by step: a frame goes in, a frame comes out, and the state stays.
#pragma once
#include <cstdint>
#include <memory>

#include "fastlstm/packed_weights.h"

namespace fastlstm {

// One thread at a time. step, block and reset allocate nothing, take no lock and make no system call; denormal numbers count as
// zeros. Their sums are added up in the order of a sequence of several steps: in whatever pieces a sequence comes, its output has
// the bits of one call (but of a call of a single step, which adds up in an order of its own).
template <class Real>
class Stream {
 public:
  using Element = Real;

  // N sequences side by side, from zero states. Throws std::invalid_argument where D is 2 (the reverse direction begins at the
  // last step), std::bad_alloc, std::runtime_error: sizes beyond counting.
  Stream(std::shared_ptr<const PackedWeights<Real>> weights, std::int64_t N);
  ~Stream();
  Stream(const Stream& other);  // another stream in the same state
  Stream& operator=(const Stream&) = delete;

  const Problem& problem() const;  // T is 1

  // x (steps, N, I) -> y (steps, N, out), which must not overlap.
  void block(std::int64_t steps, const Real* x, Real* y);
  void step(const Real* x, Real* y) { block(1, x, y); }

  // Row n, or with -1 all rows, from zero states again.
  void reset(std::int64_t n = -1);

  // h (layers, N, out) and an LSTM's c (layers, N, H).
  void get_state(Real* h, Real* c) const;
  void set_state(const Real* h, const Real* c);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fastlstm
