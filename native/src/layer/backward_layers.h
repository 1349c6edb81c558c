// All layers and directions of a call, backward: who gets which arrays, which piece of scratch memory.
#pragma once
#include "isa/kernels.h"
#include "layer/backward.h"
#include "layer/backward_one_step.h"
#include "layer/layers.h"
#include "layer/saved.h"
#include "plan/forward.h"

namespace fastlstm::FASTLSTM_ISA {

template <class Cell>
inline BackwardPlan plan_of(const BackwardCall<RealOf<Cell>>& call, int threads) {
  return plan_backward(call.problem, threads, machine<Cell>(), {call.inputs.x.rows != nullptr, call.gradients.dsteps != nullptr});
}

template <class Cell>
struct BackwardScratch {
  using Real = RealOf<Cell>;
  BackwardPlan plan;
  LayerBackward<Cell> arrays;  // those of a direction: one after the other uses them
  Real* doutputs[2];           // gradients of the outputs of the layers in between, in turn
  Real* masked;
  Arena arena;
  CallShapes shapes;
  OwnInputs<Real> inputs;
  Real* doutput;  // brought
  Real* dh_n;
  Real* dc_n;
  Real* dx;  // before they are sent
  Real* dh_0;
  Real* dc_0;
  Real* dsteps[kStepArrays<Cell>];  // of one direction, brought
  ForwardOperands<Cell> operands;
  std::size_t bytes;

  explicit BackwardScratch(const BackwardCall<Real>& call)
      : plan(plan_of<Cell>(call, call.threads)),
        arrays{},
        doutputs{},
        masked{},
        arena(call.scratch),
        shapes(call.problem),
        inputs(arena, call.inputs, initial_state<Cell>(call.inputs), block_or(call.problem, shapes.x), shapes),
        doutput(take_own<Real>(arena, call.gradients.doutput, block_or(call.problem, shapes.output))),
        dh_n(take_own<Real>(arena, call.gradients.dh_n, shapes.h)),
        dc_n(take_own<Real>(arena, call.gradients.dc_n, shapes.c)),
        dx(take_own<Real>(arena, call.gradients.dx, block_or(call.problem, shapes.x))),
        dh_0(take_own<Real>(arena, call.gradients.dh_0, shapes.h)),
        dc_0(take_own<Real>(arena, call.gradients.dc_0, shapes.c)),
        dsteps{},
        operands(arena, call, shapes) {
    const Problem& problem = call.problem;
    if (call.gradients.dsteps != nullptr && !as_it_is(*call.gradients.dsteps))  // they are all alike
      for (Real*& own : dsteps) own = arena.take<Real>(shapes.steps.count());
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    const Index out_padded = rounded_up(out, kPanel<Real>);
    const Index H_padded = rounded_up(problem.H, kPanel<Real>);
    const Index in = widest_input(problem);
    const Index block = largest_block(problem);
    LayerBackward<Cell>& a = arrays;
    a.hh_panels = arena.take<TermOf<Cell>>(out_padded * terms<Cell>(Cell::Hidden::kSpan * Hp));
    a.ih_panels = arena.take<TermOf<Cell>>(rounded_up(in, kPanel<TermOf<Cell>>) * terms<Cell>(Cell::Input::kSpan * Hp));
    a.dh = arena.take<Real>(problem.N * out_padded);
    a.dc = arena.take<Real>(problem.N * Hp);
    a.dgates = arena.take<ElementOf<Cell>>(block * Cell::kSums * Hp);
    if (kNumbers<Cell> > 1) a.dgate_pairs = arena.take<TermOf<Cell>>(terms<Cell>(block) * Cell::kSums * Hp);
    a.dsums = arena.take<Real>((in + out + 1) * Cell::kSums * Hp);
    if (plan.restores_hidden) a.h = arena.take<Real>((block + problem.N) * Hp);
    a.features = arena.take<TermOf<Cell>>((in / kTileRows + out / kTileRows + 3) * feature_tile_size<TermOf<Cell>>(block));
    if (plan.halves) {
      a.second.dgates = arena.take<ElementOf<Cell>>(block * Cell::kSums * Hp);
      a.second.features =
          arena.take<TermOf<Cell>>((in / kTileRows + out / kTileRows + 3) * feature_tile_size<TermOf<Cell>>(block));
      a.second.dsums = arena.take<Real>((in + out + 1) * Cell::kSums * Hp);
      if (plan.restores_hidden) a.second.h = arena.take<Real>((block + problem.N) * Hp);
      if (plan.by_block) {
        a.second.brought_x = arena.take<Real>(block * problem.I);
        a.second.brought_doutput = arena.take<Real>(block_or(call.problem, shapes.output).count());
        a.second.dx = arena.take<Real>(block * problem.I);
      }
    }
    if (problem.P > 0) {
      a.hr_panels = arena.take<Real>(H_padded * problem.P);
      a.dh_projected = arena.take<Real>(block * problem.P);
      a.dh_full = arena.take<Real>(problem.N * Hp);
      a.h_full = arena.take<Real>(H_padded * block);
      a.dhr_sums = arena.take<Real>(problem.P * H_padded);
      a.projected_features = arena.take<Real>((problem.P + kTileRows) * block);
    }
    if constexpr (kTiled<Cell>)
      if (plan.tiled) a.tiles = backward_tile_scratch<Cell>(arena, problem, in, call.threads);
    if (problem.checkpoints()) a.recomputed = recompute_scratch<Cell>(arena, call);
    for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) doutputs[k] = arena.take<Real>(shapes.output.count());
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(shapes.output.count());
    bytes = arena.used();
  }
  Shape block_or(const Problem& problem, const Shape& whole) const {
    return plan.by_block ? Shape{largest_block(problem), whole.width} : whole;
  }
  bool any_brought() const { return inputs.any() || doutput != nullptr || dh_n != nullptr || dc_n != nullptr; }
};

template <class Cell>
std::size_t backward_scratch(const BackwardCall<RealOf<Cell>>& call) {
  return BackwardScratch<Cell>(call).bytes;
}

template <class Real>
inline bool any_wanted(const WeightGradients<Real>& d) {
  return d.w_ih != nullptr || d.w_hh != nullptr || d.b_ih != nullptr || d.b_hh != nullptr || d.w_hr != nullptr;
}

// Does anything below layer k want a gradient?
template <class Real>
inline bool wanted_below(const BackwardCall<Real>& call, Index k) {
  const Gradients<Real>& g = call.gradients;
  if (g.dx != nullptr) return true;
  if (k > 0 && (g.dh_0 != nullptr || g.dc_0 != nullptr)) return true;
  for (Index l = 0; l < k * call.problem.D; ++l)
    if (any_wanted(g.dweights[l])) return true;
  return false;
}

// Of all layers and directions.
template <class Real>
struct BackwardStates {
  const Real* h_0;
  const Real* c_0;
  const Real* dh_n;
  const Real* dc_n;
  Real* dh_0;
  Real* dc_0;
};

// Direction d of layer k: the arrays that it has whatever the layer behind.
template <class Cell>
LayerBackward<Cell> direction_of(const BackwardCall<RealOf<Cell>>& call, const BackwardScratch<Cell>& scratch,
                                 const BackwardStates<RealOf<Cell>>& states, Index k, Index d) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Saved<Cell> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const Index l = k * problem.D + d;
  const auto of_layer = [&](auto* array, Index width) { return array == nullptr ? nullptr : array + l * problem.N * width; };
  LayerBackward<Cell> layer = scratch.arrays;
  layer.problem = &problem;
  layer.direction = static_cast<int>(d);
  layer.in = problem.layer_input(k);
  layer.h_0 = of_layer(states.h_0, problem.out());
  layer.c_0 = of_layer(states.c_0, problem.H);
  layer.weights = call.inputs.weights[l];
  if (problem.P > 0) layer.output = saved.output(k) + d * problem.out();
  layer.gates = saved.gates(k, d);
  layer.c = saved.c(k, d);
  layer.dh_n = of_layer(states.dh_n, problem.out());
  layer.dc_n = of_layer(states.dc_n, problem.H);
  if constexpr (kTiled<Cell>) layer.tiles.x_parts = parts_of(k == 0 ? call.inputs.x.element : Element::real);
  layer.dh_0 = of_layer(states.dh_0, problem.out());
  layer.dc_0 = of_layer(states.dc_0, problem.H);
  layer.dweights = call.gradients.dweights[l];
  if (problem.checkpoints()) {
    LayerForward<Cell>& forward = layer.recomputed.layer;
    forward.direction = layer.direction;
    forward.in = layer.in;
    forward.weights = layer.weights;
    forward.c_0 = layer.c_0;
    forward.keep_gates = Step<Cell>::Keep::stored;
    forward.x = scratch.operands.x();
    forward.h_0 = scratch.operands.h_0(problem, l);
    forward.checkpoints = saved.checkpoints(k, d);
    if constexpr (kTiled<Cell>) forward.tiles.x_parts = layer.tiles.x_parts;
  }
  return layer;
}

// The gradients of a direction's single steps: a member's share brought, complete after a barrier.
template <class Cell>
void bring_step_gradients(const Source<RealOf<Cell>>* from, const BackwardScratch<Cell>& scratch, LayerBackward<Cell>& layer,
                          const Member& member) {
  for (Index k = 0; k < kStepArrays<Cell>; ++k)
    layer.dsteps[k] = from[k] == nullptr ? nullptr : brought(from[k], scratch.dsteps[k], scratch.shapes.steps, member);
  layer.any_dsteps = true;
}

template <class Cell>
void backward_layers(const BackwardCall<RealOf<Cell>>& call, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Gradients<Real>& g = call.gradients;
  BackwardScratch<Cell> scratch(call);
  const BackwardPlan plan = plan_of<Cell>(call, member.size);
  [[maybe_unused]] const Tiles registers(
      plan.tiled || (problem.checkpoints() && recompute_plan<Cell>(call, widest_input(problem), member.size).tiled));
  const Saved<Cell> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const Index out = problem.out();
  const CallShapes& shapes = scratch.shapes;
  const bool by_block = plan.by_block;
  const Real* const input = by_block ? nullptr : brought(call.inputs.x, scratch.inputs.x, shapes.x, member);
  const BackwardStates<Real> states{brought(call.inputs.h_0, scratch.inputs.h_0, shapes.h, member),
                                    brought(initial_state<Cell>(call.inputs), scratch.inputs.c_0, shapes.c, member),
                                    brought(g.dh_n, scratch.dh_n, shapes.h, member),
                                    brought(g.dc_n, scratch.dc_n, shapes.c, member),
                                    own_or_there(g.dh_0, scratch.dh_0),
                                    own_or_there(g.dc_0, scratch.dc_0)};
  const Real* doutput = by_block ? nullptr : brought(g.doutput, scratch.doutput, shapes.output, member);
  if (scratch.any_brought()) member.barrier->wait();
  for (Index k = problem.layers - 1; k >= 0; --k) {
    const Real* x = k == 0 ? input : saved.output(k - 1);
    const Source<Real> mask = k == 0 ? Source<Real>{} : mask_of(call.inputs, k - 1);
    if (mask != nullptr) {
      apply_mask(x, mask, scratch.masked, shapes.output.count(), member);
      x = scratch.masked;
    }
    if (problem.checkpoints())
      scratch.operands.bring(call, shapes, k, x, states.h_0, k == 0 ? nullptr : saved.output(k - 1), member);
    const bool goes_on = wanted_below(call, k);
    Real* const dx = !goes_on ? nullptr : k == 0 ? own_or_there(g.dx, scratch.dx) : scratch.doutputs[(k - 1) % 2];
    for (Index d = 0; d < problem.D; ++d) {
      LayerBackward<Cell> layer = direction_of(call, scratch, states, k, d);
      layer.plan = plan;
      layer.x = x;
      if (doutput != nullptr) layer.doutput = doutput + d * out;
      layer.dx = dx;
      layer.add_dx = d > 0;
      if (problem.checkpoints()) layer.recomputed.layer.plan = recompute_plan<Cell>(call, layer.in, member.size);
      if (by_block && k == 0) {
        layer.bring_x = call.inputs.x;
        layer.brought_x = scratch.inputs.x;
        layer.send_dx = g.dx;
        layer.recomputed.layer.bring = call.inputs.x;
      }
      if (by_block && k + 1 == problem.layers) {
        layer.bring_doutput = g.doutput;
        layer.brought_doutput = scratch.doutput;
      }
      if (g.dsteps != nullptr) {
        bring_step_gradients(g.dsteps + (k * problem.D + d) * kStepArrays<Cell>, scratch, layer, member);
        member.barrier->wait();
      }
      const Group group = group_of(false, member);
      if (plan.one_step) {
        if constexpr (kNumbers<Cell> == 1) backward_one_step(layer, group);  // no pairs in a single step
      } else {
        backward_direction(layer, group);
      }
      member.barrier->wait();
    }
    if (!goes_on) break;
    if (mask != nullptr) {
      apply_mask<Real>(dx, mask, dx, shapes.output.count(), member);
      member.barrier->wait();
    }
    if (g.dhidden != nullptr && k > 0) {
      add_share(g.dhidden[k - 1], dx, shapes.output, member);
      member.barrier->wait();
    }
    doutput = dx;
  }
  if (!by_block) send_share(scratch.dx, g.dx, shapes.x, member);  // every direction ended with a barrier
  send_share(scratch.dh_0, g.dh_0, shapes.h, member);
  send_share(scratch.dc_0, g.dc_0, shapes.c, member);
}

}  // namespace fastlstm::FASTLSTM_ISA
