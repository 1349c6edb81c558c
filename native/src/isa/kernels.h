// What an instruction set offers: a table of functions, filled once per ISA from the same sources.
#pragma once
#include <cstddef>

#include "batch/index.h"
#include "fastlstm/chain.h"
#include "fastlstm/engine.h"
#include "plan/machine.h"
#include "team/team.h"

namespace fastlstm {

template <class Real>
struct ForwardCall {
  const Problem& problem;
  const Inputs<Real>& inputs;
  const Outputs<Real>& outputs;
  Real* saved;
  void* scratch;
  int threads;   // the scratch has room for this many
  void* packed;  // of inputs.packed, which kernels never change; nullptr: none
};

template <class Real>
struct BackwardCall {
  const Problem& problem;
  const Inputs<Real>& inputs;
  const Real* saved;
  const Gradients<Real>& gradients;
  void* scratch;
  int threads;
};

template <class Real>
struct TraceCall {
  const Problem& problem;
  const Real* saved;
  const Target<Real>* steps;
  const Target<Real>* hidden;
};

// Weights that are packed once, by one thread. Of pairs there are none: they are Reals.
template <class Real>
struct PackKernels {
  std::size_t (*bytes)(const Problem&) = nullptr;
  void (*pack)(const Problem&, const Weights<Real>*, void* memory) = nullptr;
};

// A stream's memory, and what one step of it reads and writes. The kernels never change `packed`.
template <class Real>
struct StreamCall {
  const Problem& problem;  // T is 1, D is 1
  void* packed;
  void* state;
  bool fresh;  // zero states: there are none to read
  int parity;  // which of the two h of a layer is that of the step before
  const Real* x = nullptr;
  Real* y = nullptr;
  Real* h = nullptr;
  Real* c = nullptr;
};

// All by one thread. Of pairs there are none.
template <class Real>
struct StreamKernels {
  std::size_t (*bytes)(const Problem&) = nullptr;  // of the state
  void (*step)(const StreamCall<Real>&) = nullptr;
  void (*state)(const StreamCall<Real>&, bool read) = nullptr;
  void (*reset)(const StreamCall<Real>&, Index row) = nullptr;
};

template <class Real>
struct ChainCall {
  const Chain<Real>& chain;
  void* scratch;
};

// Of pairs there are none.
template <class Real>
struct ChainKernels {
  std::size_t (*bytes)(const Problem&) = nullptr;  // of the scratch
  void (*forward)(const ChainCall<Real>&, const ChainForward<Real>&, const Member&) = nullptr;
  void (*tangent)(const ChainCall<Real>&, const ChainTangent<Real>&, const Member&) = nullptr;
  void (*adjoint)(const ChainCall<Real>&, const ChainAdjoint<Real>&, const Member&) = nullptr;
  void (*second)(const ChainCall<Real>&, const ChainSecond<Real>&, const Member&) = nullptr;
  std::size_t (*of_input_bytes)(const Problem&, std::int64_t in) = nullptr;
  void (*of_input)(const ChainCall<Real>&, const ChainOfInput<Real>&, const Member&) = nullptr;
  std::size_t (*dual_bytes)(const Problem&, std::int64_t in, bool weights) = nullptr;
  void (*dual)(const ChainCall<Real>&, const ChainDual<Real>&, const Member&) = nullptr;
};

// Each function is what one member of the team does; together the members do the call.
template <class Real>
struct Kernels {
  Index (*saved_size)(const Problem&);
  std::size_t (*forward_scratch)(const ForwardCall<Real>&);
  void (*forward)(const ForwardCall<Real>&, const Member&);
  std::size_t (*backward_scratch)(const BackwardCall<Real>&);
  void (*backward)(const BackwardCall<Real>&, const Member&);
  void (*trace)(const TraceCall<Real>&, const Member&);
  Machine (*machine)();
  PackKernels<Real> pack;
  StreamKernels<Real> stream;
  ChainKernels<Real> chain;
};

// Of every cell.
template <class Real>
struct CellKernels {
  Kernels<Real> lstm;
  Kernels<Real> gru;

  const Kernels<Real>& of(CellKind cell) const { return cell == CellKind::gru ? gru : lstm; }
};

struct Isa {
  const char* name;
  bool (*supported)();
  const CellKernels<float>& float32;
  const CellKernels<double>& float64;
  const CellKernels<float>* pairs = nullptr;  // for calls that plan.h gives them; nullptr: the processor has no such products
};

}  // namespace fastlstm
