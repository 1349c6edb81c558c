// One layer and direction, backward: its arrays and scratch, and those of the second half of the batch.
#pragma once
#include "batch/rows.h"
#include "cell/gate_buffer.h"
#include "layer/forward_arrays.h"
#include "layer/group.h"
#include "plan/backward.h"
#include "product/features.h"
#include "product/product.h"

namespace fastlstm::FASTLSTM_ISA {

// Operands of products on tiles (backward_tiles.h), where the plan has them.
struct BackwardTiles {
  std::uint16_t* hh_panels;
  std::uint16_t* ih_panels;
  std::uint16_t* dgates;        // of a block, as rows
  std::uint16_t* dgate_panels;  // and as panels
  std::uint16_t* features;
  float* feature_rows;  // for each member: the rows of a tile of features
  Index* large;         // for each member: whether it saw a number too large for tiles
  Index block_rows;     // of the largest block
  int x_parts;          // how many parts the numbers of x have
};

// What the second half has of its own.
template <class Cell>
struct HalfBackward {
  ElementOf<Cell>* dgates;
  TermOf<Cell>* features;
  RealOf<Cell>* dsums;
  RealOf<Cell>* h;
  RealOf<Cell>* brought_x;
  RealOf<Cell>* brought_doutput;
  RealOf<Cell>* dx;  // before it is sent, where it is: the halves are not in the same block
};

// Where forward kept checkpoints: what computes the gates and cells of a span again (recompute.h), and room for them.
template <class Cell>
struct Recomputed {
  LayerForward<Cell> layer;
  RealOf<Cell>* gates;  // of the largest span
  RealOf<Cell>* c;      // and of N rows on either side of it, for the states before it; likewise output
  ElementOf<Cell>* output;
};

template <class Cell>
struct LayerBackward {
  using Real = RealOf<Cell>;
  const Problem* problem;
  BackwardPlan plan;
  int direction;
  Index in;
  const Real* x;    // (rows, in)
  const Real* h_0;  // (N, out) or nullptr
  const Real* c_0;  // (N, H) or nullptr: of the state that goes on in float32, a GRU's h_0; likewise c, dc_n, dc_0 and dc
  Weights<Real> weights;
  const Real* output;  // where there is a projection: (rows, D * out), at this direction's columns
  const Real* gates;   // as LayerForward saved them
  const Real* c;
  const Real* doutput;  // (rows, D * out), at this direction's columns, or nullptr
  const Real* dh_n;     // (N, out) or nullptr
  const Real* dc_n;     // (N, H) or nullptr
  Real* dx;             // (rows, in) or nullptr
  bool add_dx;          // to the other direction's
  Real* dh_0;           // (N, out) or nullptr
  Real* dc_0;           // (N, H) or nullptr
  WeightGradients<Real> dweights;
  const Real* dsteps[kStepArrays<Cell>];  // (rows, H), each or nullptr
  bool any_dsteps;
  // Scratch.
  TermOf<Cell>* hh_panels;    // (panels of out)[terms of the sums of h][kPanel]
  TermOf<Cell>* ih_panels;    // (panels of in)[terms of the sums of x][kPanel]
  Real* hr_panels;            // (panels of Hp)[P][kPanel]
  Real* dh;                   // (N, out padded to panels): gradient of h_{t-1} through the recurrence
  Real* dc;                   // (N, Hp)
  ElementOf<Cell>* dgates;    // (panels of gates)[rows of the block][kRowOfGates]
  TermOf<Cell>* dgate_pairs;  // where terms are pairs: (panels of gates)[pairs of rows of the block][kRowOfGates]
  Real* dsums;                // (features, gate_columns()): gradients of the weights, transposed, summed block after block
  Real* h;                    // (rows of the block, then N of the step before it, Hp): h_t, where there is no projection
  TermOf<Cell>* features;     // packed by tiles of kTileRows: [x; h_{t-1}; 1] of the block's rows
  Real* dh_projected;         // (rows of the block, P): gradient of h_t, for dW_hr
  Real* dh_full;              // (N, Hp): gradient of o tanh(c_t)
  Real* h_full;               // (panels of Hp)[rows of the block][kPanel]: o tanh(c_t)
  Real* dhr_sums;             // (P, Hp padded to panels)
  Real* projected_features;   // dh_projected, packed by tiles
  BackwardTiles tiles;
  HalfBackward<Cell> second;  // what the second half of the batch has in the place of its namesakes, where there are halves
  // Block by block, where there is data: from where rows of x and doutput stand, and to where those of dx do.
  Source<Real> bring_x;
  Real* brought_x;  // (rows of the largest block, in)
  Source<Real> bring_doutput;
  Real* brought_doutput;  // (rows of the largest block, out)
  Target<Real> send_dx;
  Recomputed<Cell> recomputed;
  const Real* h_before;  // (N, out): h of the step before the span, from a checkpoint; nullptr: there is none, or it has no need

  Index Hp() const { return unit_blocks<Real>(problem->H) * kLanes<Real>; }
  Index gate_columns() const { return Cell::kSums * Hp(); }
  // The gate gradients of a block with its rows as terms.
  const TermOf<Cell>* dgate_panels() const {
    if constexpr (kNumbers<Cell> > 1) {
      return dgate_pairs;
    } else {
      return dgates;
    }
  }
  Index out_padded() const { return rounded_up(problem->out(), kPanel<Real>); }
  Index H_padded() const { return rounded_up(problem->H, kPanel<Real>); }
  bool wants_bias() const { return dweights.b_ih != nullptr || dweights.b_hh != nullptr; }
  // The features whose gradients are wanted, each source in tiles of its own: first x, then h, then the one of the bias.
  Index x_tiles() const { return dweights.w_ih == nullptr ? 0 : (in + kTileRows - 1) / kTileRows; }
  Index h_tiles() const { return dweights.w_hh == nullptr ? 0 : (problem->out() + kTileRows - 1) / kTileRows; }
  Index tile_count() const { return x_tiles() + h_tiles() + (wants_bias() ? 1 : 0); }
};

// The left operand whose rows are the gate gradients of an order's sums: one segment a panel.
template <class Order, class Cell>
inline Left<TermOf<Cell>> gate_rows(const LayerBackward<Cell>& layer, Index row, Index block_rows) {
  constexpr Index vector = kLanes<RealOf<Cell>> / kNumbers<Cell>;
  constexpr Index width = kSumsInPanel<Cell> * vector;
  constexpr Index length = kSomeSums<Cell> ? Order::kSpan * vector : width;
  return {as_terms<TermOf<Cell>>(layer.dgates) + row * width + Order::kFirst * vector, width, length, block_rows * width,
          Order::kSpan * layer.Hp() / kNumbers<Cell>};
}

}  // namespace fastlstm::FASTLSTM_ISA
