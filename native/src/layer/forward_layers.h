// All layers and directions of a call, forward: who gets which arrays, which piece of saved and scratch memory.
#pragma once
#include "isa/kernels.h"
#include "layer/forward.h"
#include "layer/forward_one_step.h"
#include "layer/layers.h"
#include "layer/packed.h"
#include "layer/saved.h"

namespace fastlstm::FASTLSTM_ISA {

// Whether gates and cells of every step are kept.
template <class Real>
inline bool keeps_steps(const ForwardCall<Real>& call) {
  return call.saved != nullptr && !call.problem.checkpoints();
}

template <class Cell>
inline ForwardPlan plan_of(const ForwardCall<RealOf<Cell>>& call, Index in, int threads) {
  return plan_forward(call.problem, in, threads, machine<Cell>(),
                      {keeps_steps(call), call.inputs.x.rows != nullptr, call.packed != nullptr});
}

// Stores past the caches are of whole, aligned vectors.
template <class Cell>
inline typename Step<Cell>::Keep keep_of(const ForwardPlan& plan, const RealOf<Cell>* gates) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(gates) % 64 == 0;
  return plan.stream && aligned ? Step<Cell>::Keep::streamed : Step<Cell>::Keep::stored;
}

template <class Cell>
struct ForwardScratch {
  using Real = RealOf<Cell>;
  TermOf<Cell>* panels[2];
  Real* bias[2];
  Real* hr_panels[2];
  Real* c_state[2];
  Real* h_full[2];
  Real* preactivation[2];
  ElementOf<Cell>* outputs[2];  // of the layers in between, in turn, where they are not saved
  ElementOf<Cell>* masked;      // the input of a layer behind dropout
  ForwardTiles tiles[2];
  Arena arena;
  CallShapes shapes;
  OwnInputs<TermOf<Cell>> inputs;
  Real* h_n;                // before they are sent
  Real* c_n;                // likewise
  ElementOf<Cell>* output;  // likewise, where `saved` does not keep it
  std::size_t bytes;

  explicit ForwardScratch(const ForwardCall<Real>& call)
      : panels{},
        bias{},
        hr_panels{},
        c_state{},
        h_full{},
        preactivation{},
        outputs{},
        masked{},
        tiles{},
        arena(call.scratch),
        shapes(call.problem),
        inputs(arena, call.inputs, initial_state<Cell>(call.inputs),
               brings_by_block(call.problem, call.inputs.x.rows != nullptr)
                   ? Shape{call.threads * largest_block(call.problem), call.problem.I}
                   : shapes.x,
               shapes),
        h_n(take_own<Real>(arena, call.outputs.h_n, shapes.h)),
        c_n(take_own<Real>(arena, call.outputs.c_n, shapes.c)),
        output(own_output(call, arena, shapes.output)) {
    const Problem& problem = call.problem;
    const Index in = widest_input(problem);
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    [[maybe_unused]] const bool uses_tiles = plan_of<Cell>(call, in, call.threads).tiled;
    for (Index d = 0; d < problem.D; ++d) {
      if (problem.T > 1) {
        if (call.packed == nullptr || packs_anyway(problem, call.threads))
          panels[d] = arena.take<TermOf<Cell>>(Cell::Input::kSpan * Hp * (terms<Cell>(in) + terms<Cell>(out)));
        if constexpr (kTiled<Cell>)
          if (uses_tiles) tiles[d] = forward_tile_scratch(arena, problem, in, call.threads);
        c_state[d] = arena.take<Real>(problem.N * Hp);
        if (!keeps_steps(call)) preactivation[d] = arena.take<Real>(largest_block(problem) * Cell::kSums * Hp);
        if (problem.P > 0) hr_panels[d] = arena.take<Real>(rounded_up(out, kPanel<Real>) * problem.H);
      }
      bias[d] = arena.take<Real>(Cell::kSums * Hp);
      if (problem.P > 0) h_full[d] = arena.take<Real>(problem.N * Hp);
    }
    if (call.saved == nullptr || kNumbers<Cell> > 1)
      for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) outputs[k] = arena.take<ElementOf<Cell>>(shapes.output.count());
    if (any_mask(problem, call.inputs)) masked = arena.take<ElementOf<Cell>>(shapes.output.count());
    bytes = arena.used();
  }

  static ElementOf<Cell>* own_output(const ForwardCall<Real>& call, Arena& arena, const Shape& shape) {
    const Target<Real>& output = call.outputs.output;
    if constexpr (kNumbers<Cell> > 1) {
      const bool as_is = output.element == Element::bfloat16 && output.rows == nullptr;
      return as_is ? nullptr : arena.take<ElementOf<Cell>>(shape.count());
    } else {
      const Saved<Cell> saved{call.problem, call.saved};
      const bool saves = call.saved != nullptr && saved.has_output(call.problem.layers - 1);
      return saves ? nullptr : take_own<Real>(arena, output, shape);
    }
  }
};

template <class Cell>
std::size_t forward_scratch(const ForwardCall<RealOf<Cell>>& call) {
  return ForwardScratch<Cell>(call).bytes;
}

// Of all layers and directions.
template <class Cell>
struct ForwardStates {
  const ElementOf<Cell>* h_0;
  const RealOf<Cell>* c_0;
  RealOf<Cell>* h_n;
  RealOf<Cell>* c_n;
};

// Direction d of layer k: the arrays that it has whatever the plan and the layer before.
template <class Cell>
LayerForward<Cell> direction_of(const ForwardCall<RealOf<Cell>>& call, const ForwardScratch<Cell>& scratch,
                                const ForwardStates<Cell>& states, const ForwardPlan& plan, Index k, Index d) {
  const Problem& problem = call.problem;
  const Index l = k * problem.D + d;
  LayerForward<Cell> layer{};
  layer.problem = &problem;
  layer.plan = plan;
  layer.direction = static_cast<int>(d);
  layer.in = problem.layer_input(k);
  if (states.h_0 != nullptr) layer.h_0 = states.h_0 + l * problem.N * problem.out();
  if (states.c_0 != nullptr) layer.c_0 = states.c_0 + l * problem.N * problem.H;
  layer.weights = call.inputs.weights[l];
  layer.h_n = states.h_n + l * problem.N * problem.out();
  if (states.c_n != nullptr) layer.c_n = states.c_n + l * problem.N * problem.H;
  if (call.saved != nullptr) {
    const Saved<Cell> saved{problem, call.saved};
    if (keeps_steps(call)) {
      layer.gates = saved.gates(k, d);
      layer.c = saved.c(k, d);
    } else {
      layer.checkpoints = saved.checkpoints(k, d);
    }
  }
  layer.panels = scratch.panels[d];
  layer.bias = scratch.bias[d];
  layer.hr_panels = scratch.hr_panels[d];
  if (plan.packed) {
    PackedChains<Cell> chains(problem, call.packed);
    for (Index before = 0; before < l; ++before) chains.next();
    const LayerForward<Cell> packed = chains.next();
    layer.panels = packed.panels;
    layer.bias = packed.bias;
    layer.hr_panels = packed.hr_panels;
  }
  layer.c_state = scratch.c_state[d];
  layer.h_full = scratch.h_full[d];
  layer.preactivation = scratch.preactivation[d];
  layer.tiles = scratch.tiles[d];
  if constexpr (kTiled<Cell>) layer.tiles.x_parts = parts_of(k == 0 ? call.inputs.x.element : Element::real);
  return layer;
}

template <class Cell>
void forward_layers(const ForwardCall<RealOf<Cell>>& call, const Member& member) {
  using Real = RealOf<Cell>;
  constexpr bool rounds = kNumbers<Cell> > 1;  // h_t, for the next step and the next layer
  const Problem& problem = call.problem;
  const ForwardScratch<Cell> scratch(call);
  [[maybe_unused]] const Tiles registers(plan_of<Cell>(call, widest_input(problem), member.size).tiled);
  const Saved<Cell> saved{problem, call.saved};
  const Index out = problem.out();
  const CallShapes& shapes = scratch.shapes;
  const bool by_block = brings_by_block(problem, call.inputs.x.rows != nullptr);
  const ElementOf<Cell>* x =
      by_block ? scratch.inputs.x : brought_as<TermOf<Cell>>(call.inputs.x, scratch.inputs.x, shapes.x, member);
  const ForwardStates<Cell> states{brought_as<TermOf<Cell>>(call.inputs.h_0, scratch.inputs.h_0, shapes.h, member),
                                   brought(initial_state<Cell>(call.inputs), scratch.inputs.c_0, shapes.c, member),
                                   own_or_there(call.outputs.h_n, scratch.h_n), own_or_there(call.outputs.c_n, scratch.c_n)};
  ElementOf<Cell>* last_output = scratch.output;
  if (last_output == nullptr) last_output = static_cast<ElementOf<Cell>*>(call.outputs.output.data);
  if constexpr (!rounds)
    if (call.saved != nullptr && saved.has_output(problem.layers - 1)) last_output = saved.output(problem.layers - 1);
  if (scratch.inputs.any()) member.barrier->wait();
  for (Index k = 0; k < problem.layers; ++k) {
    const ForwardPlan plan = plan_of<Cell>(call, problem.layer_input(k), member.size);
    const bool is_last = k + 1 == problem.layers;
    const bool saves = call.saved != nullptr && saved.has_output(k);
    ElementOf<Cell>* output = is_last ? last_output : scratch.outputs[k % 2];
    if constexpr (!rounds)
      if (saves) output = saved.output(k);
    for (Index d = 0; d < problem.D; ++d) {
      if (plan.by_direction && member.rank % 2 != d) continue;
      LayerForward<Cell> layer = direction_of(call, scratch, states, plan, k, d);
      layer.x = x;
      layer.output = output + d * out;
      if constexpr (rounds) {
        if (saves) layer.exact_output = saved.output(k) + d * out;
      }
      if (keeps_steps(call)) layer.keep_gates = keep_of<Cell>(plan, layer.gates);
      if (by_block && k == 0) {
        layer.bring = call.inputs.x;
        layer.brought = scratch.inputs.x;
      }
      if (by_block && is_last) layer.send = call.outputs.output;
      const Group group = group_of(plan.by_direction, member);
      if (plan.one_step) {
        if constexpr (!rounds) forward_one_step(layer, group);  // no pairs in a single step
      } else {
        forward_direction(layer, group);
      }
    }
    if (is_last) break;
    member.barrier->wait();
    x = output;
    if (const Source<Real> mask = mask_of(call.inputs, k); mask != nullptr) {
      apply_mask(x, mask, scratch.masked, shapes.output.count(), member);
      x = scratch.masked;
      member.barrier->wait();
    }
  }
  if (last_output == call.outputs.output.data && scratch.h_n == nullptr && scratch.c_n == nullptr) return;
  member.barrier->wait();
  if (!by_block) send_share(last_output, call.outputs.output, shapes.output, member);
  send_share(scratch.h_n, call.outputs.h_n, shapes.h, member);
  send_share(scratch.c_n, call.outputs.c_n, shapes.c, member);
}

}  // namespace fastlstm::FASTLSTM_ISA
