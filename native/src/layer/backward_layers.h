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
  Ends ends;
  OwnInputs<Real> inputs;
  Real* doutput;  // brought
  Real* dh_n;
  Real* dc_n;
  Real* dx;  // before they are sent
  Real* dh_0;
  Real* dc_0;
  Steps<Real*> dsteps;  // of one direction, brought
  std::size_t bytes;

  explicit BackwardScratch(const BackwardCall<Real>& call)
      : plan(plan_of<Cell>(call, call.threads)),
        arrays{},
        doutputs{},
        masked{},
        arena(call.scratch),
        ends(call.problem),
        inputs(arena, call.inputs, block_or(call.problem, ends.x), ends),
        doutput(take_own<Real>(arena, call.gradients.doutput, block_or(call.problem, ends.output))),
        dh_n(take_own<Real>(arena, call.gradients.dh_n, ends.h)),
        dc_n(take_own<Real>(arena, call.gradients.dc_n, ends.c)),
        dx(take_own<Real>(arena, call.gradients.dx, block_or(call.problem, ends.x))),
        dh_0(take_own<Real>(arena, call.gradients.dh_0, ends.h)),
        dc_0(take_own<Real>(arena, call.gradients.dc_0, ends.c)),
        dsteps{} {
    const Problem& problem = call.problem;
    if (call.gradients.dsteps != nullptr && !as_it_is(call.gradients.dsteps->c))  // they are all alike
      for (Real** const array : {&dsteps.c, &dsteps.i, &dsteps.f, &dsteps.g, &dsteps.o})
        *array = arena.take<Real>(ends.steps.count());
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    const Index out_padded = rounded_up(out, kPanel<Real>);
    const Index H_padded = rounded_up(problem.H, kPanel<Real>);
    const Index in = widest_input(problem);
    const Index block = largest_block(problem);
    LayerBackward<Cell>& a = arrays;
    a.hh_panels = arena.take<TermOf<Cell>>(out_padded * terms<Cell>(Cell::kSums * Hp));
    a.ih_panels = arena.take<TermOf<Cell>>(rounded_up(in, kPanel<TermOf<Cell>>) * terms<Cell>(Cell::kSums * Hp));
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
        a.second.brought_doutput = arena.take<Real>(block_or(call.problem, ends.output).count());
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
    for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) doutputs[k] = arena.take<Real>(ends.output.count());
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(ends.output.count());
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

template <class Cell>
void backward_layers(const BackwardCall<RealOf<Cell>>& call, const Member& member) {
  using Real = RealOf<Cell>;
  const Problem& problem = call.problem;
  const Gradients<Real>& g = call.gradients;
  const BackwardScratch<Cell> scratch(call);
  const BackwardPlan plan = plan_of<Cell>(call, member.size);
  [[maybe_unused]] const Tiles registers(plan.tiled);
  const Saved<Cell> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const Index out = problem.out();
  const Ends& ends = scratch.ends;
  const bool by_block = plan.by_block;
  const Real* const input = by_block ? nullptr : brought(call.inputs.x, scratch.inputs.x, ends.x, member);
  const Real* const h_0 = brought(call.inputs.h_0, scratch.inputs.h_0, ends.h, member);
  const Real* const c_0 = brought(call.inputs.c_0, scratch.inputs.c_0, ends.c, member);
  const Real* doutput = by_block ? nullptr : brought(g.doutput, scratch.doutput, ends.output, member);
  const Real* const dh_n = brought(g.dh_n, scratch.dh_n, ends.h, member);
  const Real* const dc_n = brought(g.dc_n, scratch.dc_n, ends.c, member);
  Real* const dh_0 = own_or_there(g.dh_0, scratch.dh_0);
  Real* const dc_0 = own_or_there(g.dc_0, scratch.dc_0);
  if (scratch.any_brought()) member.barrier->wait();
  for (Index k = problem.layers - 1; k >= 0; --k) {
    const Index in = problem.layer_input(k);
    const Real* x = k == 0 ? input : saved.output(k - 1);
    const Source<Real> mask = k == 0 ? Source<Real>{} : mask_of(call.inputs, k - 1);
    if (mask != nullptr) {
      apply_mask(x, mask, scratch.masked, ends.output.count(), member);
      x = scratch.masked;
    }
    const bool goes_on = wanted_below(call, k);
    Real* const dx = !goes_on ? nullptr : k == 0 ? own_or_there(g.dx, scratch.dx) : scratch.doutputs[(k - 1) % 2];
    for (Index d = 0; d < problem.D; ++d) {
      const Index l = k * problem.D + d;
      LayerBackward<Cell> layer = scratch.arrays;
      layer.problem = &problem;
      layer.plan = plan;
      layer.direction = static_cast<int>(d);
      layer.in = in;
      layer.x = x;
      if (h_0 != nullptr) layer.h_0 = h_0 + l * problem.N * out;
      if (c_0 != nullptr) layer.c_0 = c_0 + l * problem.N * problem.H;
      layer.weights = call.inputs.weights[l];
      if (problem.P > 0) layer.output = saved.output(k) + d * out;
      layer.gates = saved.gates(k, d);
      layer.c = saved.c(k, d);
      if (doutput != nullptr) layer.doutput = doutput + d * out;
      if (dh_n != nullptr) layer.dh_n = dh_n + l * problem.N * out;
      if (dc_n != nullptr) layer.dc_n = dc_n + l * problem.N * problem.H;
      layer.dx = dx;
      if (by_block && k == 0) {
        layer.bring_x = call.inputs.x;
        layer.brought_x = scratch.inputs.x;
        layer.send_dx = g.dx;
      }
      if (by_block && k + 1 == problem.layers) {
        layer.bring_doutput = g.doutput;
        layer.brought_doutput = scratch.doutput;
      }
      layer.add_dx = d > 0;
      if constexpr (kTiled<Cell>) layer.tiles.x_parts = parts_of(k == 0 ? call.inputs.x.element : Element::real);
      if (dh_0 != nullptr) layer.dh_0 = dh_0 + l * problem.N * out;
      if (dc_0 != nullptr) layer.dc_0 = dc_0 + l * problem.N * problem.H;
      layer.dweights = g.dweights[l];
      if (g.dsteps != nullptr) {
        const Steps<Source<Real>>& d_l = g.dsteps[l];
        const auto bring = [&](const Source<Real>& array, Real* own) {
          return array == nullptr ? nullptr : brought(array, own, ends.steps, member);
        };
        layer.dsteps = {bring(d_l.c, scratch.dsteps.c), bring(d_l.i, scratch.dsteps.i), bring(d_l.f, scratch.dsteps.f),
                        bring(d_l.g, scratch.dsteps.g), bring(d_l.o, scratch.dsteps.o)};
        layer.any_dsteps = true;
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
      apply_mask<Real>(dx, mask, dx, ends.output.count(), member);
      member.barrier->wait();
    }
    if (g.dhidden != nullptr && k > 0) {
      add_share(g.dhidden[k - 1], dx, ends.output, member);
      member.barrier->wait();
    }
    doutput = dx;
  }
  if (!by_block) send_share(scratch.dx, g.dx, ends.x, member);  // every direction ended with a barrier
  send_share(scratch.dh_0, g.dh_0, ends.h, member);
  send_share(scratch.dc_0, g.dc_0, ends.c, member);
}

}  // namespace fastlstm::FASTLSTM_ISA
