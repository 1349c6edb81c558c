// A chain and its linear passes (fastlstm/chain.h): members split rows of the batch, and wait for nobody once weights are packed.
#pragma once
#include "batch/rows.h"
#include "isa/kernels.h"
#include "memory/arena.h"
#include "product/product.h"

namespace fastlstm::FASTLSTM_ISA {

// Vectors side by side: `count` arrays of H numbers in a row.
template <class Real>
struct Columns {
  Index unit;
  Index H;

  Vec<Real> at(const Real* row, Index array) const { return load_columns(row + array * H + unit, H - unit); }
  Vec<Real> at_or_zeros(const Real* row, Index array = 0) const { return row == nullptr ? broadcast(Real(0)) : at(row, array); }
  void put(Real* row, Index array, Vec<Real> a) const { store_columns(row + array * H + unit, a, H - unit); }
};

template <class Real>
inline auto* row_or_null(Real* array, Index row, Index width) {
  return array == nullptr ? array : array + row * width;
}

template <class Cell>
struct ChainScratch {
  using Real = RealOf<Cell>;
  Real* panels;
  Real* products;  // (N, G * H): R h_{t-1}
  std::size_t bytes;

  ChainScratch(const Problem& problem, void* memory) : panels{}, products{}, bytes{} {
    constexpr Index gates = Cell::Hidden::kGates;
    const Index H = problem.H;
    Arena arena(memory);
    const Index forth = rounded_up(gates * H, kPanel<Real>) * H;
    const Index back = rounded_up(H, kPanel<Real>) * gates * H;
    panels = arena.take<Real>(forth > back ? forth : back);
    products = arena.take<Real>(problem.N * gates * H);
    bytes = arena.used();
  }
};

template <class Cell>
std::size_t chain_bytes(const Problem& problem) {
  return ChainScratch<Cell>(problem, nullptr).bytes;
}

// What all three passes have: who does which rows, and the products.
template <class Cell>
struct ChainPass {
  using Real = RealOf<Cell>;
  static_assert(kNumbers<Cell> == 1 && Cell::Hidden::kGates == Cell::Hidden::kSpan, "the sums of h are neighbours");
  static constexpr Index kGates = Cell::Hidden::kGates;
  static constexpr Index kFirst = Cell::Hidden::kFirst;
  const Chain<Real>& chain;
  ChainScratch<Cell> scratch;
  const Member& member;
  Range rows;

  ChainPass(const ChainCall<Real>& call, const Member& member)
      : chain(call.chain),
        scratch(call.chain.problem, call.scratch),
        member(member),
        rows(share_rows(call.chain.problem, 0, call.chain.problem.T, member.rank, member.size)) {}

  Index H() const { return chain.problem.H; }
  int direction() const { return chain.reverse ? 1 : 0; }
  // step(t) in the order of time, or against it.
  template <class Each>
  void steps(bool in_order, const Each& step) const {
    const Index T = chain.problem.T;
    for (Index k = 0; k < T; ++k) step(in_order != chain.reverse ? k : T - 1 - k);
  }
  // each(run) of this member's rows of a step.
  template <class Each>
  void runs(Index t, const Each& each) const {
    Run found[2];
    const int count = step_runs(chain.problem, direction(), t, rows, found);
    for (int k = 0; k < count; ++k) each(found[k]);
  }
  const Real* before(const Run& run, const Real* states, const Real* initial) const {
    return run.previous < 0 ? initial + run.first * H() : states + run.previous * H();
  }

  void pack_forth() const {
    const Index panels = rounded_up(kGates * H(), kPanel<Real>) / kPanel<Real>;
    const Range mine = share(panels, member.rank, member.size);
    pack_transposed<Real>(chain.w_hh, kGates * H(), H(), scratch.panels, mine.first, mine.last);
    member.barrier->wait();
  }
  void pack_back() const {
    const Range mine = share(rounded_up(H(), kPanel<Real>) / kPanel<Real>, member.rank, member.size);
    pack_columns<Real>(chain.w_hh, kGates * H(), H(), scratch.panels, mine.first, mine.last);
    member.barrier->wait();
  }
  // R h_{t-1} of a run's rows, at the returned place.
  const Real* forth(const Run& run, const Real* h) const {
    Real* const to = scratch.products + run.first * kGates * H();
    const Product<Real> product{{h, H(), kPart, kPart, H()}, scratch.panels, to, kGates * H(), kGates * H(), false};
    product.run(run.last - run.first, 0, rounded_up(kGates * H(), kPanel<Real>) / kPanel<Real>);
    return to;
  }
  // dh_{t-1} = R^T ds_t
  void back(const Run& run, const Real* ds, Real* dh) const {
    const Product<Real> product{
        {ds + kFirst * H(), Cell::kSums * H(), kPart, kPart, kGates * H()}, scratch.panels, dh, H(), H(), false};
    product.run(run.last - run.first, 0, rounded_up(H(), kPanel<Real>) / kPanel<Real>);
  }
  // A step's sums of kLanes units: a_t + R h_{t-1}.
  typename Cell::Gates sums(const Columns<Real>& columns, const Real* a, const Real* products) const {
    typename Cell::Gates sums;
    Cell::each(sums, [&](Index sum, auto& to) {
      to = columns.at(a, sum);
      if (sum >= kFirst && sum < kFirst + kGates) to = to + columns.at(products, sum - kFirst);
    });
    return sums;
  }
  // use(row of the run, columns)
  template <class Use>
  void each(const Run& run, const Use& use) const {
    for (Index r = 0; r < run.last - run.first; ++r)
      for (Index unit = 0; unit < H(); unit += kLanes<Real>) use(r, Columns<Real>{unit, H()});
  }
};

template <class Cell>
void chain_forward(const ChainCall<RealOf<Cell>>& call, const ChainForward<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const ChainPass<Cell> pass(call, member);
  const Index H = pass.H();
  const Index wide = Cell::kSums * H;
  pass.pack_forth();
  pass.steps(true, [&](Index t) {
    pass.runs(t, [&](const Run& run) {
      const Real* const h_before = pass.before(run, of.h, of.h_0);
      const Real* const state = Cell::kStates > 1 ? pass.before(run, of.c, of.c_0) : h_before;
      const Real* const products = pass.forth(run, h_before);
      pass.each(run, [&](Index r, const Columns<Real>& columns) {
        const Index row = run.row + r;
        const auto pre = pass.sums(columns, of.a + row * wide, products + r * pass.kGates * H);
        const typename Cell::Gates gates = Cell::activate(pre);
        const Vec<Real> c = Cell::next_state(gates, columns.at(state + r * H, 0));
        Cell::each(gates, [&](Index sum, const auto& gate) { columns.put(of.gates + row * wide, sum, gate); });
        if constexpr (Cell::kStates > 1) columns.put(of.c + row * H, 0, c);
        columns.put(of.h + row * H, 0, Cell::output(Cell::shown(gates), c).h);
      });
    });
  });
}

template <class Cell>
inline typename Cell::Gates sum_of(typename Cell::Gates a, const typename Cell::Gates& b) {
  Vec<RealOf<Cell>>* to[Cell::kSums];
  Cell::each(a, [&](Index sum, auto& gate) { to[sum] = &gate; });
  Cell::each(b, [&](Index sum, const auto& gate) { *to[sum] = *to[sum] + gate; });
  return a;
}

// The slopes of a chain's steps: read, or computed from gates and states.
template <class Cell>
struct SlopesOf {
  using Real = RealOf<Cell>;
  const ChainSlopes<Real>& of;
  const ChainPass<Cell>& pass;

  bool from_steps() const { return of.slopes == nullptr; }
  typename Cell::Gates gates(const Columns<Real>& columns, Index row) const {
    typename Cell::Gates gates;
    Cell::each(gates, [&](Index sum, auto& gate) { gate = columns.at(of.gates + row * Cell::kSums * pass.H(), sum); });
    return gates;
  }
  Vec<Real> before(const Columns<Real>& columns, const Run& run, Index r) const {
    return columns.at(pass.before(run, of.state, of.state_0) + r * pass.H(), 0);
  }
  Vec<Real> state(const Columns<Real>& columns, Index row) const { return columns.at(of.state + row * pass.H(), 0); }
  typename Cell::Slopes at(const Columns<Real>& columns, const Run& run, Index r) const {
    const Index row = run.row + r;
    if (from_steps()) return Cell::slopes(gates(columns, row), before(columns, run, r), state(columns, row));
    typename Cell::Slopes slopes;
    Cell::each_slope(slopes, [&](Index k, auto& slope) { slope = columns.at(of.slopes + row * Cell::kSlopes * pass.H(), k); });
    return slopes;
  }
};

template <class Cell>
void chain_tangent(const ChainCall<RealOf<Cell>>& call, const ChainTangent<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const ChainPass<Cell> pass(call, member);
  const SlopesOf<Cell> slopes{of.slopes, pass};
  const Index H = pass.H();
  const Index wide = Cell::kSums * H;
  pass.pack_forth();
  pass.steps(true, [&](Index t) {
    pass.runs(t, [&](const Run& run) {
      const Real* const h_before = pass.before(run, of.h, of.h_0);
      const Real* const state = Cell::kStates > 1 ? pass.before(run, of.c, of.c_0) : h_before;
      const Real* const products = pass.forth(run, h_before);
      pass.each(run, [&](Index r, const Columns<Real>& columns) {
        const Index row = run.row + r;
        const auto sums = pass.sums(columns, of.a + row * wide, products + r * pass.kGates * H);
        const typename Cell::States next =
            Cell::tangent(slopes.at(columns, run, r), sums, columns.at(state + r * H, 0),
                          columns.at_or_zeros(row_or_null(of.e_h, row, H)), columns.at_or_zeros(row_or_null(of.e_c, row, H)));
        Cell::each(slopes.from_steps() ? Cell::tangent_of_gates(slopes.gates(columns, row), sums) : sums,
                   [&](Index sum, const auto& s) { columns.put(of.sums + row * wide, sum, s); });
        columns.put(of.h + row * H, 0, next.h);
        if constexpr (Cell::kStates > 1) columns.put(of.c + row * H, 0, next.c);
      });
    });
  });
}

template <class Cell>
void chain_adjoint(const ChainCall<RealOf<Cell>>& call, const ChainAdjoint<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const ChainPass<Cell> pass(call, member);
  const SlopesOf<Cell> slopes{of.slopes, pass};
  const Index H = pass.H();
  const Index wide = Cell::kSums * H;
  pass.pack_back();
  // What step t hands to the one before it stands where, in the end, the gradient of the initial states does.
  Real* const direct = Cell::kStates > 1 ? of.dc_0 : pass.scratch.products;  // past the products: f dc_t, or z dh_t
  for (Index k = pass.rows.first * H; k < pass.rows.last * H; ++k) of.dh_0[k] = direct[k] = Real(0);
  pass.steps(false, [&](Index t) {
    pass.runs(t, [&](const Run& run) {
      pass.each(run, [&](Index r, const Columns<Real>& columns) {
        const Index row = run.row + r;
        const Index n = run.first + r;
        const Vec<Real> dh = columns.at(of.dh_0 + n * H, 0) + columns.at_or_zeros(row_or_null(of.dh, row, H));
        const Vec<Real> dc = columns.at(direct + n * H, 0) + columns.at_or_zeros(row_or_null(of.dc, row, H));
        typename Cell::Adjoint found = Cell::adjoint(slopes.at(columns, run, r), dh, dc);
        if (of.ds != nullptr) {
          typename Cell::Gates ds;
          Cell::each(ds, [&](Index sum, auto& d) { d = columns.at(of.ds + row * wide, sum); });
          if (slopes.from_steps()) ds = Cell::gradient_of_sums(slopes.gates(columns, row), ds);
          found.sums = sum_of<Cell>(found.sums, ds);
        }
        Cell::each(found.sums, [&](Index sum, const auto& s) { columns.put(of.da + row * wide, sum, s); });
        columns.put(of.all_dh + row * H, 0, found.all.h);
        if constexpr (Cell::kStates > 1) columns.put(of.all_dc + row * H, 0, found.all.c);
        columns.put(direct + n * H, 0, found.direct);
      });
      pass.back(run, of.da + run.row * wide, of.dh_0 + run.first * H);
    });
  });
  if constexpr (Cell::kStates == 1)
    for (Index k = pass.rows.first * H; k < pass.rows.last * H; ++k) of.dh_0[k] += direct[k];
}

template <class Cell>
void chain_second(const ChainCall<RealOf<Cell>>& call, const ChainSecond<RealOf<Cell>>& of, const Member& member) {
  using Real = RealOf<Cell>;
  const ChainPass<Cell> pass(call, member);
  const SlopesOf<Cell> slopes{of.slopes, pass};
  const Index H = pass.H();
  const Index wide = Cell::kSums * H;
  pass.pack_forth();
  const Vec<Real> zero = broadcast(Real(0));
  pass.steps(true, [&](Index t) {
    pass.runs(t, [&](const Run& run) {
      const Real* const h_before = pass.before(run, of.dh, of.dh_0);
      const Real* const tangent = Cell::kStates > 1 ? pass.before(run, of.dc, of.dc_0) : h_before;
      Real* const to_before = run.previous < 0 ? of.state_0 + run.first * H : of.state + run.previous * H;
      const Real* const products = pass.forth(run, h_before);
      pass.each(run, [&](Index r, const Columns<Real>& columns) {
        const Index row = run.row + r;
        const auto s = pass.sums(columns, of.da + row * wide, products + r * pass.kGates * H);
        const auto gates = slopes.gates(columns, row);
        const Vec<Real> before = slopes.before(columns, run, r);
        const Vec<Real> state = slopes.state(columns, row);
        const Vec<Real> before_t = columns.at(tangent + r * H, 0);
        const typename Cell::States next = Cell::tangent(Cell::slopes(gates, before, state), s, before_t, zero, zero);
        typename Cell::States d{};
        d.h = columns.at(of.all_dh + row * H, 0);
        Vec<Real> state_t = next.h;
        if constexpr (Cell::kStates > 1) {
          d.c = columns.at(of.all_dc + row * H, 0);
          state_t = next.c;
          columns.put(of.dc + row * H, 0, next.c);
        }
        columns.put(of.dh + row * H, 0, next.h);
        const typename Cell::Second found = Cell::second(gates, before, state, d, s, before_t, state_t);
        Cell::each(found.gates, [&](Index sum, const auto& gate) { columns.put(of.gates + row * wide, sum, gate); });
        columns.put(of.state + row * H, 0, found.c);
        columns.put(to_before + r * H, 0, found.c_prev + (run.previous < 0 ? zero : columns.at(to_before + r * H, 0)));
      });
    });
  });
}

}  // namespace fastlstm::FASTLSTM_ISA
