// All layers and directions of a call: who gets which arrays, which piece of saved and scratch memory. Included inside an ISA's
// namespace.

template <class Real>
inline Index widest_input(const Problem& problem) {
  const Index inner = problem.layers > 1 ? problem.layer_input(1) : 0;
  return problem.I > inner ? problem.I : inner;
}

template <class Real>
inline Source<Real> mask_of(const Inputs<Real>& inputs, Index layer) {
  return inputs.masks == nullptr ? Source<Real>{} : inputs.masks[layer];
}

template <class Real>
inline bool any_mask(const Problem& problem, const Inputs<Real>& inputs) {
  for (Index layer = 0; layer + 1 < problem.layers; ++layer)
    if (mask_of(inputs, layer) != nullptr) return true;
  return false;
}

// y = x * mask over a thread's share; y may be x.
template <class Real>
inline void apply_mask(const Real* x, const Source<Real>& factors, Real* y, Index count, const Member& member) {
  const Range mine = share(count, member.rank, member.size);
  visit(factors, [&](const auto* mask) {
    for (Index k = mine.first; k < mine.last; k += kLanes<Real>) {
      const Index rest = mine.last - k;
      store_columns(y + k, load_columns(x + k, rest) * load_columns(mask + k, rest), rest);
    }
  });
}

// Whether any layer of a call may go to tiles.
inline bool has_tiles(const Problem& problem) { return problem.T > 1 && problem.H >= kTiledSize; }

// Whether the products of backward go to tiles: the gradients' bits may depend on N.
inline bool tiled_backward(const Problem& problem) { return has_tiles(problem) && problem.rows() >= 4 * kTiledRows; }

template <class Real>
inline Machine machine() {
  return {sizeof(Real), kTiled<Real>, l2_bytes()};
}

inline Group group_of(const Plan& plan, const Member& member) {
  if (plan.by_direction) return {member.rank / 2, member.size / 2, member.halves + member.rank % 2};
  return {member.rank, member.size, member.barrier};
}

template <class Real>
struct ForwardScratch {
  Real* panels[2];
  Real* bias[2];
  Real* hr_panels[2];
  Real* c_state[2];
  Real* h_full[2];
  Real* preactivation[2];
  Real* outputs[2];  // of the layers in between, in turn, at inference
  Real* masked;      // the input of a layer behind dropout
  ForwardTiles tiles[2];
  Arena arena;
  Ends ends;
  OwnInputs<Real> inputs;
  Real* h_n;     // before they are sent
  Real* c_n;     // likewise
  Real* output;  // likewise, where `saved` does not keep it
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
        ends(call.problem),
        inputs(arena, call.inputs,
               block_by_block(call.problem, call.inputs.x.rows)
                   ? Shape{call.threads * largest_block(call.problem), call.problem.I}
                   : ends.x,
               ends),
        h_n(take_own<Real>(arena, call.outputs.h_n, ends.h)),
        c_n(take_own<Real>(arena, call.outputs.c_n, ends.c)),
        output(call.saved != nullptr && !as_it_is(call.outputs.output)
                   ? nullptr
                   : take_own<Real>(arena, call.outputs.output, ends.output)) {
    const Problem& problem = call.problem;
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    for (Index d = 0; d < problem.D; ++d) {
      if (problem.T > 1) {
        panels[d] = arena.take<Real>(4 * Hp * (widest_input<Real>(problem) + out));
        if constexpr (kTiled<Real>)
          if (has_tiles(problem)) tiles[d] = forward_tile_scratch(arena, problem, widest_input<Real>(problem), call.threads);
        c_state[d] = arena.take<Real>(problem.N * Hp);
        if (call.saved == nullptr) preactivation[d] = arena.take<Real>(largest_block(problem) * 4 * Hp);
        if (problem.P > 0) hr_panels[d] = arena.take<Real>(rounded_up(out, kPanel<Real>) * problem.H);
      }
      bias[d] = arena.take<Real>(4 * Hp);
      if (problem.P > 0) h_full[d] = arena.take<Real>(problem.N * Hp);
    }
    if (call.saved == nullptr)
      for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) outputs[k] = arena.take<Real>(ends.output.count());
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(ends.output.count());
    bytes = arena.used();
  }
};

template <class Real>
std::size_t forward_scratch(const ForwardCall<Real>& call) {
  return ForwardScratch<Real>(call).bytes;
}

template <class Real>
void forward_layers(const ForwardCall<Real>& call, const Member& member) {
  const Problem& problem = call.problem;
  const ForwardScratch<Real> scratch(call);
  [[maybe_unused]] const Tiles registers(kTiled<Real> && has_tiles(problem));
  const bool kept_whole = !as_it_is(call.outputs.output);
  const Saved<Real> saved{problem, call.saved, kept_whole};
  const Index out = problem.out();
  const Ends& ends = scratch.ends;
  const bool by_block = block_by_block(problem, call.inputs.x.rows);
  const Real* x = by_block ? scratch.inputs.x : brought(call.inputs.x, scratch.inputs.x, ends.x, member);
  const Real* const h_0 = brought(call.inputs.h_0, scratch.inputs.h_0, ends.h, member);
  const Real* const c_0 = brought(call.inputs.c_0, scratch.inputs.c_0, ends.c, member);
  Real* const h_n = own_or_there(call.outputs.h_n, scratch.h_n);
  Real* const c_n = own_or_there(call.outputs.c_n, scratch.c_n);
  Real* const last_output =
      kept_whole && call.saved != nullptr ? saved.output(problem.layers - 1) : own_or_there(call.outputs.output, scratch.output);
  if (scratch.inputs.any()) member.barrier->wait();
  for (Index k = 0; k < problem.layers; ++k) {
    const Index in = problem.layer_input(k);
    const Plan plan = plan_layer(problem, in, member.size, machine<Real>());
    Real* output = last_output;
    if (k + 1 < problem.layers) output = call.saved != nullptr ? saved.output(k) : scratch.outputs[k % 2];
    for (Index d = 0; d < problem.D; ++d) {
      if (plan.by_direction && member.rank % 2 != d) continue;
      const Index l = k * problem.D + d;
      LayerForward<Real> layer{};
      layer.problem = &problem;
      layer.plan = plan;
      layer.direction = static_cast<int>(d);
      layer.in = in;
      layer.x = x;
      if (by_block && k == 0) {
        layer.bring = call.inputs.x;
        layer.brought = scratch.inputs.x;
      }
      if (by_block && k + 1 == problem.layers) layer.send = call.outputs.output;
      if (h_0 != nullptr) layer.h_0 = h_0 + l * problem.N * out;
      if (c_0 != nullptr) layer.c_0 = c_0 + l * problem.N * problem.H;
      layer.weights = call.inputs.weights[l];
      layer.output = output + d * out;
      layer.h_n = h_n + l * problem.N * out;
      layer.c_n = c_n + l * problem.N * problem.H;
      if (call.saved != nullptr) {
        layer.gates = saved.gates(k, d);
        layer.c = saved.c(k, d);
      }
      layer.panels = scratch.panels[d];
      layer.bias = scratch.bias[d];
      layer.hr_panels = scratch.hr_panels[d];
      layer.c_state = scratch.c_state[d];
      layer.h_full = scratch.h_full[d];
      layer.preactivation = scratch.preactivation[d];
      layer.tiles = scratch.tiles[d];
      if constexpr (kTiled<Real>) layer.tiles.x_parts = parts_of(k == 0 ? call.inputs.x.element : Element::real);
      const Group group = group_of(plan, member);
      if (problem.T == 1) {
        forward_single(layer, group);
      } else {
        forward_direction(layer, group);
      }
    }
    if (k + 1 == problem.layers) break;
    member.barrier->wait();
    x = output;
    if (const Source<Real> mask = mask_of(call.inputs, k); mask != nullptr) {
      apply_mask(x, mask, scratch.masked, ends.output.count(), member);
      x = scratch.masked;
      member.barrier->wait();
    }
  }
  if (last_output == call.outputs.output.data && scratch.h_n == nullptr && scratch.c_n == nullptr) return;
  member.barrier->wait();
  if (!by_block) send_share(last_output, call.outputs.output, ends.output, member);
  send_share(scratch.h_n, call.outputs.h_n, ends.h, member);
  send_share(scratch.c_n, call.outputs.c_n, ends.c, member);
}

// Whether backward does. Not on tiles: whether they hold x and doutput is seen before the first block.
template <class Real>
inline bool by_block_backward(const BackwardCall<Real>& call) {
  return block_by_block(call.problem, call.inputs.x.rows) && !(kTiled<Real> && tiled_backward(call.problem));
}

template <class Real>
struct BackwardScratch {
  LayerBackward<Real> arrays;  // those of a direction: one after the other uses them
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
      : arrays{},
        doutputs{},
        masked{},
        arena(call.scratch),
        ends(call.problem),
        inputs(arena, call.inputs, block_or(call, ends.x), ends),
        doutput(take_own<Real>(arena, call.gradients.doutput, block_or(call, ends.output))),
        dh_n(take_own<Real>(arena, call.gradients.dh_n, ends.h)),
        dc_n(take_own<Real>(arena, call.gradients.dc_n, ends.c)),
        dx(take_own<Real>(arena, call.gradients.dx, block_or(call, ends.x))),
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
    const Index in = widest_input<Real>(problem);
    const Index block = largest_block(problem);
    LayerBackward<Real>& a = arrays;
    a.hh_panels = arena.take<Real>(out_padded * 4 * Hp);
    a.ih_panels = arena.take<Real>(rounded_up(in, kPanel<Real>) * 4 * Hp);
    a.dh = arena.take<Real>(problem.N * out_padded);
    a.dc = arena.take<Real>(problem.N * Hp);
    a.dgates = arena.take<Real>(block * 4 * Hp);
    a.dsums = arena.take<Real>((in + out + 1) * 4 * Hp);
    a.features = arena.take<Real>((in + 2 * kTileRows + out + kTileRows) * block);
    if (problem.P > 0) {
      a.hr_panels = arena.take<Real>(H_padded * problem.P);
      a.dh_projected = arena.take<Real>(block * problem.P);
      a.dh_full = arena.take<Real>(problem.N * Hp);
      a.h_full = arena.take<Real>(H_padded * block);
      a.dhr_sums = arena.take<Real>(problem.P * H_padded);
      a.projected_features = arena.take<Real>((problem.P + kTileRows) * block);
    }
    if constexpr (kTiled<Real>)
      if (tiled_backward(problem)) a.tiles = backward_tile_scratch(arena, problem, in, call.threads);
    for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) doutputs[k] = arena.take<Real>(ends.output.count());
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(ends.output.count());
    bytes = arena.used();
  }
  static Shape block_or(const BackwardCall<Real>& call, const Shape& whole) {
    return by_block_backward(call) ? Shape{largest_block(call.problem), whole.width} : whole;
  }
  bool any_brought() const { return inputs.any() || doutput != nullptr || dh_n != nullptr || dc_n != nullptr; }
};

template <class Real>
std::size_t backward_scratch(const BackwardCall<Real>& call) {
  return BackwardScratch<Real>(call).bytes;
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

template <class Real>
void backward_layers(const BackwardCall<Real>& call, const Member& member) {
  const Problem& problem = call.problem;
  const Gradients<Real>& g = call.gradients;
  const BackwardScratch<Real> scratch(call);
  [[maybe_unused]] const Tiles registers(kTiled<Real> && tiled_backward(problem));
  const bool kept_whole = !as_it_is(call.outputs.output);
  const Saved<Real> saved{problem, const_cast<Real*>(call.saved), kept_whole};  // only read
  const Index out = problem.out();
  const Ends& ends = scratch.ends;
  const bool by_block = by_block_backward(call);
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
    const bool kept = kept_whole || k + 1 < problem.layers;
    const Real* const output = kept ? saved.output(k) : static_cast<const Real*>(call.outputs.output.data);
    Plan plan = plan_layer(problem, 0, member.size, machine<Real>());
    plan.tiled = kTiled<Real> && tiled_backward(problem);
    // A tile of one row costs what one of sixteen does, so the rows of a step stay together: with two threads up to 1.3x in
    // packed batches, 1.0 to 1.1x in dense ones.
    if (plan.tiled && tiled_recurrence(problem)) plan.by_unit = problem.H >= 16 * member.size;
    plan.by_direction = false;  // both directions add to dx: one after the other, so that the order of additions is fixed
    for (Index d = 0; d < problem.D; ++d) {
      const Index l = k * problem.D + d;
      LayerBackward<Real> layer = scratch.arrays;
      layer.problem = &problem;
      layer.plan = plan;
      layer.direction = static_cast<int>(d);
      layer.in = in;
      layer.x = x;
      if (h_0 != nullptr) layer.h_0 = h_0 + l * problem.N * out;
      if (c_0 != nullptr) layer.c_0 = c_0 + l * problem.N * problem.H;
      layer.weights = call.inputs.weights[l];
      layer.output = output + d * out;
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
      if constexpr (kTiled<Real>) layer.tiles.x_parts = parts_of(k == 0 ? call.inputs.x.element : Element::real);
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
      if (problem.T == 1 && problem.N <= kSingleRows && g.dsteps == nullptr) {
        backward_single(layer, group_of(plan, member));
      } else {
        backward_direction(layer, group_of(plan, member));
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
