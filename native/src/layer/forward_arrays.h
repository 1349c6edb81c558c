// One layer and direction, forward: its arrays, and the scratch it shares with its group.
#pragma once
#include "batch/rows.h"
#include "layer/step.h"
#include "plan/forward.h"

namespace fastlstm::FASTLSTM_ISA {

// Operands of the input projection on tiles (forward_tiles.h), where the plan has them.
struct ForwardTiles {
  std::uint16_t* panels;
  std::uint16_t* x;        // the rows of a block
  unsigned char* x_large;  // whether such a row has a number too large for tiles
  Index x_rows;            // of the largest block
  Index* block_row;        // where rows of tiles stand in the block
  int x_parts;             // how many parts its numbers have
  Index* weights_large;    // for each member: whether there was one in its share of the weights
};

// A direction of a layer: its arrays, and the scratch it shares with its group.
template <class Cell>
struct LayerForward {
  using Real = RealOf<Cell>;
  const Problem* problem;
  ForwardPlan plan;
  int direction;
  Index in;
  const ElementOf<Cell>* x;    // (rows, in), rows ld_x() apart
  const ElementOf<Cell>* h_0;  // (N, out) or nullptr
  const Real* c_0;             // (N, H) or nullptr: of the state that goes on in float32, a GRU's h_0; likewise c and c_state
  Weights<Real> weights;
  ElementOf<Cell>* output;  // (rows, D * out), at this direction's columns
  Real* exact_output;       // where elements are rounded: the same before that; or nullptr
  Real* h_n;                // (N, out)
  Real* c_n;                // (N, H), or nullptr where h is the only state
  Real* gates;              // saved: blocks of [panel][row of the block][kPanel]; nullptr at inference
  typename Step<Cell>::Keep keep_gates;
  Real* c;               // saved: (rows, Hp); nullptr at inference
  Real* checkpoints;     // saved in their place (saved.h), or nullptr
  TermOf<Cell>* panels;  // (panels of gates)[terms of in, and of out][kPanel]
  Real* bias;            // gate_columns(), in gate order
  Real* hr_panels;       // (panels of P)[H][kPanel]
  Real* c_state;         // (N, Hp): c_0, and at inference c_t
  Real* h_full;          // (N, Hp): o tanh(c_t) before its projection
  Real* preactivation;   // at inference: a gate buffer, for the rows of a block where the plan projects or cuts
  ForwardTiles tiles;
  // Block by block, where there is data: x from where its rows stand, and output to there.
  Source<Real> bring;
  ElementOf<Cell>* brought;  // (members, rows of the largest block, ld_x())
  Target<Real> send;

  Index gate_columns() const { return Cell::kSums * Hp(); }
  Index ld_x() const { return padded<Cell>(in); }
  Index K() const { return terms<Cell>(in) + terms<Cell>(problem->out()); }
  Index Hp() const { return unit_blocks<Real>(problem->H) * kLanes<Real>; }
  Real* checkpoint_h(Index k) const { return checkpoints + k * checkpoint_size(*problem, Hp()); }
  Real* checkpoint_c(Index k) const { return checkpoint_h(k) + problem->N * problem->out(); }
  TermOf<Cell>* panels_of(Index unit_block) const { return panels + unit_block * Cell::Input::kSpan * kLanes<Real> * K(); }
};

}  // namespace fastlstm::FASTLSTM_ISA
