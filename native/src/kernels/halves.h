// A batch in two halves of its rows, backward: each has gate gradients, features and sums of the weights' gradients of its own,
// which are added up at the end (plan/backward.cpp says why). Included inside an ISA's namespace.

template <class Term>
struct LayerBackward;  // backward.h

// What the second half has of its own.
template <class Term>
struct HalfBackward {
  ElementOf<Term>* dgates;
  Term* features;
  RealOf<Term>* dsums;
  RealOf<Term>* h;
  RealOf<Term>* brought_x;
  RealOf<Term>* brought_doutput;
  RealOf<Term>* dx;  // before it is sent, where it is: the halves are not in the same block
};

inline bool is_whole(const Problem& problem, const Range& of) { return of.first == 0 && of.last == problem.N; }

// A member's own of the rows `of` the batch, in the steps [t0, t1): of all, so that each has as much to do in these.
inline Range own_rows(const Problem& problem, Index t0, Index t1, const Range& of, const Group& group) {
  if (is_whole(problem, of)) return share_rows(problem, t0, t1, group.rank, group.size);
  const Range mine = share(of.last - of.first, group.rank, group.size);
  return {of.first + mine.first, of.first + mine.last};
}

inline Range half_of(const Problem& problem, int half) { return share_rows(problem, 0, problem.T, half, 2); }

// The layer as a half of the batch has it.
template <class Term>
LayerBackward<Term> half_layer(LayerBackward<Term> layer, int half) {
  if (half == 1) {
    layer.dgates = layer.second.dgates;
    layer.features = layer.second.features;
    layer.dsums = layer.second.dsums;
    layer.h = layer.second.h;
    layer.brought_x = layer.second.brought_x;
    layer.brought_doutput = layer.second.brought_doutput;
    if (layer.send_dx.data != nullptr) layer.dx = layer.second.dx;
  }
  return layer;
}

// Half of a team has each half of the batch, where the plan parts it. Else all have all rows, in full tiles, and only the
// sums are two (block_gradients).
template <class Term>
void backward_halves(const LayerBackward<Term>& layer, const Group& group) {
  using Real = RealOf<Term>;
  if (layer.plan.parted) {
    const int half = group.rank % 2;
    const Group members{group.rank / 2, group.size / 2, group.halves + half, nullptr};
    backward_blocks(half_layer(layer, half), half_of(*layer.problem, half), members);
  } else {
    backward_blocks(layer, {0, layer.problem->N}, group);
  }
  group.barrier->wait();
  // The units that a member writes to the caller's arrays.
  const Range units = share(unit_blocks<Real>(layer.problem->H), group.rank, group.size);
  const Index ld = 4 * layer.Hp();
  const auto add = [&](bool wanted, Index first, Index count) {
    for (Index feature = first; wanted && feature < first + count; ++feature)
      for (Index k = units.first * 4 * kLanes<Real>; k < units.last * 4 * kLanes<Real>; k += kLanes<Real>) {
        Real* const at = layer.dsums + feature * ld + k;
        store(at, load(at) + load(layer.second.dsums + feature * ld + k));
      }
  };
  add(layer.dweights.w_ih != nullptr, 0, layer.in);
  add(layer.dweights.w_hh != nullptr, layer.in, layer.problem->out());
  add(layer.wants_bias(), layer.in + layer.problem->out(), 1);
}
