// What forward keeps for backward, and where. Included inside an ISA's namespace.

// What forward keeps for backward: for every layer and direction its gates and cells, and the output of every layer but the last;
// of that, too, where the caller's is rounded or stands elsewhere.
template <class Real>
struct Saved {
  const Problem& problem;
  Real* base;
  bool all_outputs;

  Index Hp() const { return unit_blocks<Real>(problem.H) * kLanes<Real>; }
  Index per_direction() const { return problem.rows() * 5 * Hp(); }
  Index per_output() const { return problem.rows() * problem.D * problem.out(); }
  Index size() const {
    return problem.layers * problem.D * per_direction() + (problem.layers - (all_outputs ? 0 : 1)) * per_output();
  }
  Real* gates(Index layer, Index direction) const { return base + (layer * problem.D + direction) * per_direction(); }
  Real* c(Index layer, Index direction) const { return gates(layer, direction) + problem.rows() * 4 * Hp(); }
  Real* output(Index layer) const { return base + problem.layers * problem.D * per_direction() + layer * per_output(); }
};

template <class Real>
Index saved_size(const Problem& problem, const Target<Real>& output) {
  return Saved<Real>{problem, nullptr, !as_it_is(output)}.size();
}
