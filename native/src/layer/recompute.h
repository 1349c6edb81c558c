// What forward did not keep, computed again: the gates and cells of a span of blocks, from the checkpoint before it.
#pragma once
#include "isa/kernels.h"
#include "layer/backward_arrays.h"
#include "layer/forward.h"
#include "layer/layers.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Cell>
inline ForwardPlan recompute_plan(const BackwardCall<RealOf<Cell>>& call, Index in, int threads) {
  return plan_forward(call.problem, in, threads, machine<Cell>(), {false, call.inputs.x.rows != nullptr, false, true});
}

// The scratch of any direction.
template <class Cell>
Recomputed<Cell> recompute_scratch(Arena& arena, const BackwardCall<RealOf<Cell>>& call) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  Recomputed<Cell> room{};
  LayerForward<Cell>& layer = room.layer;
  layer.problem = &problem;
  layer.in = widest_input(problem);
  const Index out = problem.out();
  const Index rows = largest_span(problem);
  layer.panels = arena.take<TermOf<Cell>>(Cell::Input::kSpan * layer.Hp() * layer.K());
  layer.bias = arena.take<Real>(layer.gate_columns());
  layer.c_state = arena.take<Real>(problem.N * layer.Hp());
  if (problem.P > 0) {
    layer.hr_panels = arena.take<Real>(rounded_up(out, kPanel<Real>) * problem.H);
    layer.h_full = arena.take<Real>(problem.N * layer.Hp());
  }
  if constexpr (kTiled<Cell>)
    if (recompute_plan<Cell>(call, layer.in, call.threads).tiled)
      layer.tiles = forward_tile_scratch(arena, problem, layer.in, call.threads);
  if (brings_by_block(problem, call.inputs.x.rows != nullptr))
    layer.brought = arena.take<ElementOf<Cell>>(call.threads * largest_block(problem) * padded<Cell>(problem.I));
  room.gates = arena.take<Real>(rows * layer.gate_columns());
  room.c = arena.take<Real>((rows + 2 * problem.N) * layer.Hp());
  room.output = arena.take<ElementOf<Cell>>((rows + 2 * problem.N) * problem.D * out);
  return room;
}

// What forward multiplied: backward's x and h_0 or, where terms are pairs, those as it rounded them.
template <class Cell>
class ForwardOperands {
 public:
  using Real = RealOf<Cell>;

  ForwardOperands(Arena& arena, const BackwardCall<Real>& call, const CallShapes& shapes) {
    if constexpr (kNumbers<Cell> > 1) {
      if (!call.problem.checkpoints()) return;
      if (!brings_by_block(call.problem, call.inputs.x.rows != nullptr))
        own_x_ = take_own_as<TermOf<Cell>>(arena, call.inputs.x, shapes.x);
      own_h_0_ = take_own_as<TermOf<Cell>>(arena, call.inputs.h_0, shapes.h);
      if (call.problem.layers > 1) own_output_ = arena.take<ElementOf<Cell>>(shapes.output.count());
    }
  }
  // Of layer k, whose input in backward is x: `below` the output of the layer before it, x without its mask. A member's share
  // brought, complete after a barrier.
  void bring(const BackwardCall<Real>& call, const CallShapes& shapes, Index k, const Real* x, const Real* h_0, const Real* below,
             const Member& member) {
    if constexpr (kNumbers<Cell> == 1) {
      x_ = x;
      h_0_ = h_0;
    } else if (k == 0) {
      x_ = brought_as<TermOf<Cell>>(call.inputs.x, own_x_, shapes.x, member);
    } else {
      const Range mine = share(shapes.output.count(), member.rank, member.size);
      convert(below + mine.first, own_output_ + mine.first, mine.last - mine.first);
      if (const Source<Real> mask = mask_of(call.inputs, k - 1); mask != nullptr)
        apply_mask(own_output_, mask, own_output_, shapes.output.count(), member);
      x_ = own_output_;
    }
    if constexpr (kNumbers<Cell> > 1) h_0_ = brought_as<TermOf<Cell>>(call.inputs.h_0, own_h_0_, shapes.h, member);
  }
  const ElementOf<Cell>* x() const { return x_; }
  // Of chain l.
  const ElementOf<Cell>* h_0(const Problem& problem, Index l) const {
    return h_0_ == nullptr ? nullptr : h_0_ + l * problem.N * problem.out();
  }

 private:
  const ElementOf<Cell>* x_ = nullptr;
  const ElementOf<Cell>* h_0_ = nullptr;
  ElementOf<Cell>* own_x_ = nullptr;
  ElementOf<Cell>* own_h_0_ = nullptr;
  ElementOf<Cell>* own_output_ = nullptr;
};

// The layer's gates, cells and h_before for a span, once its forward layer is prepared, by the members of a group together.
template <class Cell>
void recompute(LayerBackward<Cell>& layer, Index span, const Group& group) {
  const Problem& problem = *layer.problem;
  const Recomputed<Cell>& room = layer.recomputed;
  const Range blocks{problem.span(span), problem.span(span + 1)};
  const Index t0 = problem.block(blocks.first);
  const Index t1 = problem.block(blocks.last);
  const Index Hp = layer.Hp();
  const Index ld = problem.D * problem.out();
  LayerForward<Cell> forward = room.layer;
  forward.gates = room.gates - problem.row(t0) * layer.gate_columns();
  forward.c = room.c + (problem.N - problem.row(t0)) * Hp;
  forward.output = room.output + (problem.N - problem.row(t0)) * ld;
  const Index before = layer.direction == 0 ? t0 - 1 : t1;
  layer.h_before = nullptr;
  if (0 <= before && before < problem.T) {
    const Index checkpoint = layer.direction == 0 ? span - 1 : span;
    layer.h_before = forward.checkpoint_h(checkpoint);
    const RealOf<Cell>* const c = forward.checkpoint_c(checkpoint);
    const Range rows = share(problem.batch(before), group.rank, group.size);
    for (Index n = rows.first; n < rows.last; ++n) {
      const Index row = problem.row(before) + n;
      convert(layer.h_before + n * problem.out(), forward.output + row * ld, problem.out());
      convert(c + n * Hp, forward.c + row * Hp, Hp);
    }
    group.barrier->wait();
  }
  forward.checkpoints = nullptr;
  forward_blocks(forward, blocks, group);
  layer.gates = forward.gates;
  layer.c = forward.c;
}

}  // namespace fastlstm::FASTLSTM_ISA
