// A chain, one layer in one direction, from what its input gives to the sums: and the two linear passes that its derivatives of
// any order are made of.
//
// A step adds up sums, S a unit in the order of a cell's (an LSTM's i, f, g, o; a GRU's n, r, z and R_n h_{t-1} + b_hn, the last
// three of which R reaches):
//     s_t = a_t + R h_{t-1},   gates_t = activations of s_t,   c_t, h_t = the cell of gates_t and c_{t-1}
// Its tangent, from `slopes`, the derivatives of c_t and h_t with respect to the sums, of c_t to c_{t-1} and of h_t to c_t:
//     s'_t = a'_t + R h'_{t-1},   c'_t = slope c'_{t-1} + sum of slopes s'_t + e_c,   h'_t = slope c'_t + slope s'_t + e_h
// The adjoint is that linear map transposed: from dh, dc and ds of every step to da, dh_0, dc_0, and to what all together reaches
// h_t and c_t. Of a GRU, whose state is h, there is no c; its slopes are those of h_t.
//
// Arrays of Reals, row after row as a Problem has them (its layers and D are 1, its P is 0), those of the sums (rows, S * H).
// nullptr where said: zeros.
#pragma once
#include "fastlstm/engine.h"

namespace fastlstm {

// How many slopes a unit and step has: of every sum, of the state before, and, of an LSTM, of c_t in h_t.
constexpr std::int64_t slopes_of(CellKind cell) { return cell == CellKind::gru ? 5 : 6; }
constexpr std::int64_t sums_of(CellKind) { return 4; }

template <class Real>
struct Chain {
  const Problem& problem;
  bool reverse;      // from a row's last step to its first
  const Real* w_hh;  // (G * H, H)
};

// The slopes of every step: as an array (rows, slopes * H), or, nullptr, those of the steps that `forward` computed. `state`: c,
// of a GRU h. Then what a pass says of sums it says of gates.
template <class Real>
struct ChainSlopes {
  const Real* slopes;
  const Real* gates;    // (rows, S * H)
  const Real* state;    // (rows, H)
  const Real* state_0;  // (N, H)
};

template <class Real>
struct ChainForward {
  const Real* a;    // (rows, S * H)
  const Real* h_0;  // (N, H)
  const Real* c_0;  // (N, H)
  Real* h;          // (rows, H)
  Real* c;          // (rows, H)
  Real* gates;      // (rows, S * H)
};

// The same from x: where the panels of W and R stay in a cache, a pass less over a.
template <class Real>
struct ChainOfInput {
  std::int64_t in;
  const Weights<Real>& weights;  // of arrays of Reals
  const Real* x;                 // (rows, in)
  const Real* h_0;               // as below, as ChainForward has them
  const Real* c_0;
  Real* h;
  Real* c;
  Real* gates;
};

template <class Real>
struct ChainTangent {
  ChainSlopes<Real> slopes;
  const Real* a;    // (rows, S * H)
  const Real* h_0;  // (N, H)
  const Real* c_0;  // (N, H)
  const Real* e_h;  // (rows, H) or nullptr
  const Real* e_c;  // (rows, H) or nullptr
  Real* h;          // (rows, H)
  Real* c;          // (rows, H)
  Real* sums;       // (rows, S * H)
};

template <class Real>
struct ChainAdjoint {
  ChainSlopes<Real> slopes;
  const Real* dh;  // (rows, H) or nullptr
  const Real* dc;  // (rows, H) or nullptr
  const Real* ds;  // (rows, S * H) or nullptr
  Real* da;        // (rows, S * H)
  Real* dh_0;      // (N, H)
  Real* dc_0;      // (N, H)
  Real* all_dh;    // (rows, H): what reaches h_t in all
  Real* all_dc;    // (rows, H): c_t
};

// The derivative of an adjoint that was found from the steps of `forward`, and without ds: the gradients of a scalar with respect
// to dh, dc and to those steps, given those with respect to da, dh_0 and dc_0.
template <class Real>
struct ChainSecond {
  ChainSlopes<Real> slopes;  // of steps
  const Real* all_dh;        // as `adjoint` found them
  const Real* all_dc;
  const Real* da;    // (rows, S * H)
  const Real* dh_0;  // (N, H)
  const Real* dc_0;  // (N, H)
  Real* dh;          // (rows, H)
  Real* dc;          // (rows, H)
  Real* gates;       // (rows, S * H)
  Real* state;       // (rows, H)
  Real* state_0;     // (N, H)
};

// A chain from its input, and its tangent beside it, in one pass: what forward mode alone asks for. Nothing is kept.
template <class Real>
struct ChainDual {
  std::int64_t in;
  const Weights<Real>& weights;    // of arrays of Reals
  const Weights<Real>* weights_t;  // their tangents, or nullptr
  const Real* x;                   // (rows, in)
  const Real* x_t;                 // (rows, in) or nullptr
  const Real *h_0, *h_0_t;         // (N, H), h_0_t or nullptr
  const Real *c_0, *c_0_t;         // (N, H), c_0_t or nullptr
  Real *h, *h_t;                   // (rows, H)
  Real *c_n, *c_n_t;               // (N, H)
};

// The results are the same bits for any number of threads. Throw std::bad_alloc, nothing else.
template <class Real>
void forward(const Chain<Real>& chain, const ChainForward<Real>& call, int threads);
template <class Real>
void forward(const Chain<Real>& chain, const ChainOfInput<Real>& call, int threads);  // chain.w_hh is not read
template <class Real>
void tangent(const Chain<Real>& chain, const ChainTangent<Real>& call, int threads);
template <class Real>
void adjoint(const Chain<Real>& chain, const ChainAdjoint<Real>& call, int threads);
template <class Real>
void second(const Chain<Real>& chain, const ChainSecond<Real>& call, int threads);
template <class Real>
void dual(const Chain<Real>& chain, const ChainDual<Real>& call, int threads);  // chain.w_hh is not read

}  // namespace fastlstm
