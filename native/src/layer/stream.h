// A step of a stream: weights that are packed already, and a state that stays.
#pragma once
#include "isa/kernels.h"
#include "layer/forward.h"
#include "layer/packed.h"
#include "memory/arena.h"

namespace fastlstm::FASTLSTM_ISA {

// The layers of a stream, one after the other: each with its pieces of the weights' memory and of the state's.
template <class Cell>
class StreamLayers {
 public:
  using Real = RealOf<Cell>;

  explicit StreamLayers(const StreamCall<Real>& call) : call_(call), packed_(call.problem, call.packed), state_(call.state) {}

  // The next one; its input is x, or the layer's before it.
  LayerForward<Cell> next() {
    const Problem& problem = call_.problem;
    const Index out = problem.out();
    LayerForward<Cell> layer = packed_.next();
    layer.c_state = state_.take<Real>(problem.N * layer.Hp());
    Real* h[2];  // of the step before, and of this one, in turn: units read all of the former
    for (Real*& each : h) each = state_.take<Real>(problem.N * out);
    layer.preactivation = state_.take<Real>(problem.N * layer.gate_columns());
    if (problem.P > 0) layer.h_full = state_.take<Real>(problem.N * layer.Hp());
    layer.x = k_ == 0 ? call_.x : below_;
    if (!call_.fresh) {
      layer.h_0 = h[call_.parity];
      layer.c_0 = layer.c_state;
    }
    layer.output = h[1 - call_.parity];
    below_ = layer.output;
    ++k_;
    return layer;
  }
  // Of the state of all of them.
  std::size_t bytes() {
    for (Index k = 0; k < call_.problem.layers; ++k) next();
    return state_.used();
  }

 private:
  const StreamCall<Real>& call_;
  PackedChains<Cell> packed_;
  Arena state_;
  const Real* below_ = nullptr;
  Index k_ = 0;
};

template <class Cell>
std::size_t stream_bytes(const Problem& problem) {
  return StreamLayers<Cell>({problem, nullptr, nullptr, true, 0}).bytes();
}

template <class Cell>
void stream_step(const StreamCall<RealOf<Cell>>& call) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Index out = problem.out();
  const Range rows{0, problem.N};
  StreamLayers<Cell> layers(call);
  for (Index k = 0; k < problem.layers; ++k) {
    const LayerForward<Cell> layer = layers.next();
    forward_step(layer, 0, rows, {0, unit_blocks<Real>(problem.H)}, 0, problem.N, layer.preactivation);
    if (problem.P > 0) project_hidden(layer, 0, rows, {0, (out + kPanel<Real> - 1) / kPanel<Real>});
    if (k + 1 == problem.layers)
      for (Index j = 0; j < problem.N * out; ++j) call.y[j] = layer.output[j];
  }
}

// The state to call.h and call.c, or, where they are to be read, from there.
template <class Cell>
void stream_state(const StreamCall<RealOf<Cell>>& call, bool read) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Index out = problem.out();
  const auto move = [&](Real* own, Index ld, Real* theirs, Index width) {
    for (Index n = 0; n < problem.N; ++n)
      for (Index j = 0; j < (read ? ld : width); ++j) {
        Real& at = own[n * ld + j];
        if (read) {
          at = j < width ? theirs[n * width + j] : Real(0);
        } else {
          theirs[n * width + j] = at;
        }
      }
  };
  StreamLayers<Cell> layers(call);
  for (Index k = 0; k < problem.layers; ++k) {
    const LayerForward<Cell> layer = layers.next();
    Real* const h = const_cast<Real*>(layer.h_0);  // the layer reads it; its owner is this stream
    const Index row = k * problem.N;
    move(h, out, call.h + row * out, out);
    Real* const state = Cell::kStates > 1 ? call.c : call.h;  // what goes on in float32
    move(layer.c_state, layer.Hp(), state + row * problem.H, problem.H);
  }
}

// Zero states for one row.
template <class Cell>
void stream_reset(const StreamCall<RealOf<Cell>>& call, Index row) {
  using Real = RealOf<Cell>;
  const Index out = call.problem.out();
  StreamLayers<Cell> layers(call);
  for (Index k = 0; k < call.problem.layers; ++k) {
    const LayerForward<Cell> layer = layers.next();
    for (Index j = 0; j < out; ++j) const_cast<Real*>(layer.h_0)[row * out + j] = Real(0);
    for (Index j = 0; j < layer.Hp(); ++j) layer.c_state[row * layer.Hp() + j] = Real(0);
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
