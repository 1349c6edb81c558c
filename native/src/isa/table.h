// The kernels of the instruction set that a file is compiled for. The sources are the same for all; nothing here may use inline
// functions of the standard library, which another object file could share.
#pragma once
#include "cell/gru.h"
#include "cell/lstm.h"
#include "isa/kernels.h"
#include "layer/backward_layers.h"
#include "layer/chain.h"
#include "layer/chain_input.h"
#include "layer/dual.h"
#include "layer/forward_layers.h"
#include "layer/packed.h"
#include "layer/stream.h"
#include "layer/trace.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Cell>
constexpr PackKernels<RealOf<Cell>> pack_kernels() {
  if constexpr (kNumbers<Cell> > 1)
    return {};
  else
    return {packed_bytes<Cell>, pack<Cell>};
}

template <class Cell>
constexpr StreamKernels<RealOf<Cell>> stream_kernels() {
  if constexpr (kNumbers<Cell> > 1)
    return {};
  else
    return {stream_bytes<Cell>, stream_step<Cell>, stream_state<Cell>, stream_reset<Cell>};
}

template <class Cell>
constexpr ChainKernels<RealOf<Cell>> chain_kernels() {
  if constexpr (kNumbers<Cell> > 1)
    return {};
  else
    return {chain_bytes<Cell>,       chain_forward<Cell>,  chain_tangent<Cell>, chain_adjoint<Cell>, chain_second<Cell>,
            chain_input_bytes<Cell>, chain_of_input<Cell>, dual_bytes<Cell>,    dual_chain<Cell>};
}

template <class Cell>
constexpr Kernels<RealOf<Cell>> kernels() {
  constexpr CellCounts counts = counts_of(Cell::kKind);
  static_assert(counts.gates == Cell::Input::kGates && counts.gates == Cell::Hidden::kGates && counts.states == Cell::kStates &&
                counts.steps == kStepArrays<Cell> && sums_of(Cell::kKind) == Cell::kSums &&
                slopes_of(Cell::kKind) == Cell::kSlopes);
  Kernels<RealOf<Cell>> all{saved_size<Cell>,   forward_scratch<Cell>, forward_layers<Cell>, nullptr, nullptr,
                            trace_layers<Cell>, machine<Cell>,         pack_kernels<Cell>(), {},      {}};
#ifndef FASTLSTM_FORWARD_ALONE  // a build that is to be small: neither gradients nor streams
  all.backward_scratch = backward_scratch<Cell>;
  all.backward = backward_layers<Cell>;
  all.stream = stream_kernels<Cell>();
  all.chain = chain_kernels<Cell>();
#endif
  return all;
}

template <class Term>
constexpr CellKernels<RealOf<Term>> cells() {
  return {kernels<Lstm<Term>>(), kernels<Gru<Term>>()};
}

}  // namespace fastlstm::FASTLSTM_ISA
