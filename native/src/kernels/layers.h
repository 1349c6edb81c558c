// All layers and directions of a call: who gets which arrays, which piece of saved and scratch memory. Included inside an ISA's
// namespace.

// What forward keeps for backward: for every layer and direction its gates and cells, and the output of every layer but the last.
template <class Real>
struct Saved {
  const Problem& problem;
  Real* base;

  Index Hp() const { return unit_blocks<Real>(problem.H) * kLanes<Real>; }
  Index per_direction() const { return problem.rows() * 5 * Hp(); }
  Index per_output() const { return problem.rows() * problem.D * problem.out(); }
  Index size() const { return problem.layers * problem.D * per_direction() + (problem.layers - 1) * per_output(); }
  Real* gates(Index layer, Index direction) const { return base + (layer * problem.D + direction) * per_direction(); }
  Real* c(Index layer, Index direction) const { return gates(layer, direction) + problem.rows() * 4 * Hp(); }
  Real* output(Index layer) const { return base + problem.layers * problem.D * per_direction() + layer * per_output(); }
};

template <class Real>
Index saved_size(const Problem& problem) {
  return Saved<Real>{problem, nullptr}.size();
}

template <class Real>
inline Index widest_input(const Problem& problem) {
  const Index inner = problem.layers > 1 ? problem.layer_input(1) : 0;
  return problem.I > inner ? problem.I : inner;
}

template <class Real>
inline const Real* mask_of(const Inputs<Real>& inputs, Index layer) {
  return inputs.masks == nullptr ? nullptr : inputs.masks[layer];
}

template <class Real>
inline bool any_mask(const Problem& problem, const Inputs<Real>& inputs) {
  for (Index layer = 0; layer + 1 < problem.layers; ++layer)
    if (mask_of(inputs, layer) != nullptr) return true;
  return false;
}

// y = x * mask over a thread's share; y may be x.
template <class Real>
inline void apply_mask(const Real* x, const Real* mask, Real* y, Index count, const Member& member) {
  const Range mine = share(count, member.rank, member.size);
  for (Index k = mine.first; k < mine.last; k += kLanes<Real>) {
    const Index rest = mine.last - k;
    store_columns(y + k, load_columns(x + k, rest) * load_columns(mask + k, rest), rest);
  }
}

// Whether any layer of a call may go to tiles.
inline bool has_tiles(const Problem& problem) { return problem.T > 1 && problem.H >= kTiledSize; }

// Whether the products of backward go to tiles: the gradients' bits may depend on N.
inline bool tiled_backward(const Problem& problem) {
  return has_tiles(problem) && problem.rows() >= kTiledSize && problem.N >= 8;
}

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
  std::size_t bytes;

  explicit ForwardScratch(const ForwardCall<Real>& call)
      : panels{}, bias{}, hr_panels{}, c_state{}, h_full{}, preactivation{}, outputs{}, masked{}, tiles{} {
    const Problem& problem = call.problem;
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    Arena arena(call.scratch);
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
    const Index between = problem.rows() * problem.D * out;
    if (call.saved == nullptr)
      for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) outputs[k] = arena.take<Real>(between);
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(between);
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
  const Saved<Real> saved{problem, call.saved};
  const Index out = problem.out();
  const Real* x = call.inputs.x;
  for (Index k = 0; k < problem.layers; ++k) {
    const Index in = problem.layer_input(k);
    const Plan plan = plan_layer(problem, in, member.size, machine<Real>());
    Real* output = call.outputs.output;
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
      if (call.inputs.h_0 != nullptr) layer.h_0 = call.inputs.h_0 + l * problem.N * out;
      if (call.inputs.c_0 != nullptr) layer.c_0 = call.inputs.c_0 + l * problem.N * problem.H;
      layer.weights = call.inputs.weights[l];
      layer.output = output + d * out;
      layer.h_n = call.outputs.h_n + l * problem.N * out;
      layer.c_n = call.outputs.c_n + l * problem.N * problem.H;
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
    if (const Real* const mask = mask_of(call.inputs, k)) {
      apply_mask(x, mask, scratch.masked, problem.rows() * problem.D * out, member);
      x = scratch.masked;
      member.barrier->wait();
    }
  }
}

template <class Real>
struct BackwardScratch {
  LayerBackward<Real> arrays;  // those of a direction: one after the other uses them
  Real* doutputs[2];           // gradients of the outputs of the layers in between, in turn
  Real* masked;
  std::size_t bytes;

  explicit BackwardScratch(const BackwardCall<Real>& call) : arrays{}, doutputs{}, masked{} {
    const Problem& problem = call.problem;
    const Index Hp = rounded_up(problem.H, kLanes<Real>);
    const Index out = problem.out();
    const Index out_padded = rounded_up(out, kPanel<Real>);
    const Index H_padded = rounded_up(problem.H, kPanel<Real>);
    const Index in = widest_input<Real>(problem);
    const Index block = largest_block(problem);
    Arena arena(call.scratch);
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
    const Index between = problem.rows() * problem.D * out;
    for (Index k = 0; k < 2 && k < problem.layers - 1; ++k) doutputs[k] = arena.take<Real>(between);
    if (any_mask(problem, call.inputs)) masked = arena.take<Real>(between);
    bytes = arena.used();
  }
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
  const Saved<Real> saved{problem, const_cast<Real*>(call.saved)};  // only read
  const Index out = problem.out();
  const Index between = problem.rows() * problem.D * out;
  const Real* doutput = g.doutput;
  for (Index k = problem.layers - 1; k >= 0; --k) {
    const Index in = problem.layer_input(k);
    const Real* x = k == 0 ? call.inputs.x : saved.output(k - 1);
    const Real* const mask = k == 0 ? nullptr : mask_of(call.inputs, k - 1);
    if (mask != nullptr) {
      apply_mask(x, mask, scratch.masked, between, member);
      x = scratch.masked;
    }
    const bool goes_on = wanted_below(call, k);
    Real* const dx = !goes_on ? nullptr : k == 0 ? g.dx : scratch.doutputs[(k - 1) % 2];
    const Real* const output = k + 1 == problem.layers ? call.outputs.output : saved.output(k);
    Plan plan = plan_layer(problem, 0, member.size, machine<Real>());
    plan.tiled = kTiled<Real> && tiled_backward(problem);
    plan.by_direction = false;  // both directions add to dx: one after the other, so that the order of additions is fixed
    for (Index d = 0; d < problem.D; ++d) {
      const Index l = k * problem.D + d;
      LayerBackward<Real> layer = scratch.arrays;
      layer.problem = &problem;
      layer.plan = plan;
      layer.direction = static_cast<int>(d);
      layer.in = in;
      layer.x = x;
      if (call.inputs.h_0 != nullptr) layer.h_0 = call.inputs.h_0 + l * problem.N * out;
      if (call.inputs.c_0 != nullptr) layer.c_0 = call.inputs.c_0 + l * problem.N * problem.H;
      layer.weights = call.inputs.weights[l];
      layer.output = output + d * out;
      layer.gates = saved.gates(k, d);
      layer.c = saved.c(k, d);
      if (doutput != nullptr) layer.doutput = doutput + d * out;
      if (g.dh_n != nullptr) layer.dh_n = g.dh_n + l * problem.N * out;
      if (g.dc_n != nullptr) layer.dc_n = g.dc_n + l * problem.N * problem.H;
      layer.dx = dx;
      layer.add_dx = d > 0;
      if (g.dh_0 != nullptr) layer.dh_0 = g.dh_0 + l * problem.N * out;
      if (g.dc_0 != nullptr) layer.dc_0 = g.dc_0 + l * problem.N * problem.H;
      layer.dweights = g.dweights[l];
      if (problem.T == 1 && problem.N <= kSingleRows) {
        backward_single(layer, group_of(plan, member));
      } else {
        backward_direction(layer, group_of(plan, member));
      }
      member.barrier->wait();
    }
    if (!goes_on) return;
    if (mask != nullptr) {
      apply_mask<Real>(dx, mask, dx, between, member);
      member.barrier->wait();
    }
    doutput = dx;
  }
}
