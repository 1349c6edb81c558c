// A chain's passes: forward is the engine's, and the same from x, the adjoint is the tangent transposed, the tangent and what
// `second` finds are slopes of differences, `dual` is forward and tangent. Every array has its exact size, so that the address
// sanitizer sees a step past an end.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "calls.h"
#include "fastlstm/chain.h"

using fastlstm::CellKind;

namespace {

template <class Real>
using Array = std::vector<Real>;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class Real>
double dot(const Array<Real>& a, const Array<Real>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  return sum;
}
template <class Real>
Array<Real> along(const Array<Real>& a, const Array<Real>& direction, double step) {
  Array<Real> moved = a;
  for (std::size_t k = 0; k < a.size(); ++k) moved[k] += static_cast<Real>(step * static_cast<double>(direction[k]));
  return moved;
}

// Of a chain of these sizes: random arrays by name, and the passes on them.
template <class Real>
struct Passes {
  fastlstm::Problem problem;
  bool reverse;
  int threads;
  std::int64_t H, S, slopes_each;
  bool has_c;
  std::mt19937 random;
  Array<Real> w;
  fastlstm::Chain<Real> chain;

  Passes(const Sizes& s, bool reverse, int threads, unsigned seed)
      : problem(s.T, s.N, s.I, s.H, 0, 1, 1, s.batch_sizes, s.cell),
        reverse(reverse),
        threads(threads),
        H(s.H),
        S(fastlstm::sums_of(s.cell)),
        slopes_each(fastlstm::slopes_of(s.cell)),
        has_c(s.cell == CellKind::lstm),
        random(seed),
        w(fill(fastlstm::counts_of(s.cell).gates * H * H, 0.3)),
        chain{problem, reverse, w.data()} {}

  Array<Real> fill(std::int64_t count, double scale = 1) {
    Normal normal;
    Array<Real> all(size(count));
    for (Real& number : all) number = static_cast<Real>(scale * normal(random));
    return all;
  }
  Array<Real> rows(std::int64_t width) { return fill(problem.rows() * width); }
  Array<Real> states() { return fill(problem.N * H); }
  Array<Real> state_or_none() { return has_c ? states() : Array<Real>{}; }
  Array<Real> room(std::int64_t width) const { return Array<Real>(size(problem.rows() * width)); }
  Array<Real> room_or_none() const { return has_c ? room(H) : Array<Real>{}; }

  static fastlstm::Weights<Real> weights_of(const Call<Real>& call) {
    const auto& w = call.weights;
    return {w[0].data(), w[1].data(), w[2].data(), w[3].data(), {}};
  }
  // W x_t + b, in the order of the sums.
  Array<Real> sums_of_input(const Call<Real>& call) const {
    const auto& w = call.weights;
    const std::int64_t in = problem.I;
    Array<Real> a = room(S * H);
    for (std::int64_t row = 0; row < problem.rows(); ++row)
      for (std::int64_t sum = 0; sum < S; ++sum) {
        // A GRU's are n over x, r, z, n over h; its gates r, z, n.
        const std::int64_t gate = has_c ? sum : (sum + 2) % 3;
        const bool of_x = has_c || sum < 3;
        const bool of_h = has_c || sum > 0;
        const std::int64_t hidden = has_c ? sum : sum - 1;
        for (std::int64_t unit = 0; unit < H; ++unit) {
          Real& to = a[size((row * S + sum) * H + unit)];
          if (of_h) to += w[3][size(hidden * H + unit)];
          if (!of_x) continue;
          to += w[2][size(gate * H + unit)];
          for (std::int64_t k = 0; k < in; ++k) to += w[0][size((gate * H + unit) * in + k)] * call.x[size(row * in + k)];
        }
      }
    return a;
  }

  struct Steps {
    Array<Real> h, c, gates;
  };
  Steps forward(const Array<Real>& a, const Array<Real>& h_0, const Array<Real>& c_0) const {
    Steps s{room(H), room_or_none(), room(S * H)};
    fastlstm::forward<Real>(chain, {a.data(), h_0.data(), c_0.data(), s.h.data(), s.c.data(), s.gates.data()}, threads);
    return s;
  }
  Steps tangent(const fastlstm::ChainSlopes<Real>& slopes, const Array<Real>& a, const Array<Real>& h_0, const Array<Real>& c_0,
                const Array<Real>& e_h, const Array<Real>& e_c) const {
    Steps s{room(H), room_or_none(), room(S * H)};
    const auto given = [](const Array<Real>& array) { return array.empty() ? nullptr : array.data(); };
    fastlstm::tangent<Real>(
        chain, {slopes, a.data(), h_0.data(), c_0.data(), given(e_h), given(e_c), s.h.data(), s.c.data(), s.gates.data()},
        threads);
    return s;
  }
  struct Adjoints {
    Array<Real> da, dh_0, dc_0, all_dh, all_dc;
  };
  Adjoints adjoint(const fastlstm::ChainSlopes<Real>& slopes, const Array<Real>& dh, const Array<Real>& dc,
                   const Array<Real>& ds) const {
    Adjoints d{room(S * H), Array<Real>(size(problem.N * H)), Array<Real>(has_c ? size(problem.N * H) : 0), room(H),
               room_or_none()};
    fastlstm::adjoint<Real>(chain,
                            {slopes, dh.data(), dc.data(), ds.empty() ? nullptr : ds.data(), d.da.data(), d.dh_0.data(),
                             d.dc_0.data(), d.all_dh.data(), d.all_dc.data()},
                            threads);
    return d;
  }
};

const Sizes kSizes[] = {
    {4, 3, 2, 5, 0, 1, 1, true, true, false, {}},           {1, 1, 3, 1, 0, 1, 1, true, true, false, {}},
    {3, 7, 5, 17, 0, 1, 1, true, true, false, {}},          {2, 13, 1, 33, 0, 1, 1, true, true, false, {}},
    {4, 5, 3, 8, 0, 1, 1, true, true, false, {5, 3, 3, 1}},
};

template <class Use>
void each_chain(const Use& use) {
  unsigned seed = 0;
  for (const std::string& isa : tested_isas()) {
    fastlstm::use_isa(isa);
    for (const CellKind cell : kCells)
      for (Sizes sizes : kSizes)
        for (const bool reverse : {false, true}) {
          sizes.cell = cell;
          CAPTURE(isa);
          CAPTURE(sizes.H);
          CAPTURE(static_cast<int>(cell));
          CAPTURE(reverse);
          fastlstm::let_teams_run();
          use(sizes, reverse, ++seed);
        }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the adjoint is the tangent transposed", Real, float, double) {
  each_chain([](const Sizes& sizes, bool reverse, unsigned seed) {
    Passes<Real> p(sizes, reverse, 2, seed);
    const Array<Real> slopes = p.fill(p.problem.rows() * p.slopes_each * p.H, 0.5);
    const fastlstm::ChainSlopes<Real> of{slopes.data(), nullptr, nullptr, nullptr};
    const auto a = p.rows(p.S * p.H), h_0 = p.states(), c_0 = p.state_or_none(), e_h = p.rows(p.H);
    const auto e_c = p.has_c ? p.rows(p.H) : Array<Real>{};
    const auto dh = p.rows(p.H), dc = p.has_c ? p.rows(p.H) : Array<Real>{}, ds = p.rows(p.S * p.H);
    const auto t = p.tangent(of, a, h_0, c_0, e_h, e_c);
    const auto d = p.adjoint(of, dh, dc, ds);
    const double one = dot(t.h, dh) + dot(t.c, dc) + dot(t.gates, ds);
    const double other = dot(d.da, a) + dot(d.dh_0, h_0) + dot(d.dc_0, c_0) + dot(d.all_dh, e_h) + dot(d.all_dc, e_c);
    const double terms =
        std::sqrt(dot(t.h, t.h) + dot(t.c, t.c) + dot(t.gates, t.gates)) * std::sqrt(dot(dh, dh) + dot(dc, dc) + dot(ds, ds));
    CHECK(std::abs(one - other) <= 20 * std::numeric_limits<Real>::epsilon() * (terms + 1));
  });
}

TEST_CASE("tangents are slopes of differences, and so is what second finds") {
  each_chain([](const Sizes& sizes, bool reverse, unsigned seed) {
    Passes<double> p(sizes, reverse, 1, seed);
    const auto a = p.rows(p.S * p.H), h_0 = p.states(), c_0 = p.state_or_none();
    const auto a_t = p.rows(p.S * p.H), h_t = p.states(), c_t = p.state_or_none();
    const auto s = p.forward(a, h_0, c_0);
    const auto& state = p.has_c ? s.c : s.h;
    const auto& state_0 = p.has_c ? c_0 : h_0;
    const fastlstm::ChainSlopes<double> of{nullptr, s.gates.data(), state.data(), state_0.data()};
    const auto t = p.tangent(of, a_t, h_t, c_t, {}, {});
    constexpr double step = 1e-5;
    const auto forth = p.forward(along(a, a_t, step), along(h_0, h_t, step), along(c_0, c_t, step));
    const auto back = p.forward(along(a, a_t, -step), along(h_0, h_t, -step), along(c_0, c_t, -step));
    const auto near = [&](const Array<double>& found, const Array<double>& after, const Array<double>& before) {
      for (std::size_t k = 0; k < found.size(); ++k)
        REQUIRE(found[k] == doctest::Approx((after[k] - before[k]) / (2 * step)).epsilon(1e-5));
    };
    near(t.h, forth.h, back.h);
    near(t.c, forth.c, back.c);
    near(t.gates, forth.gates, back.gates);

    const auto dh = p.rows(p.H), dc = p.has_c ? p.rows(p.H) : Array<double>{};
    const auto of_da = p.rows(p.S * p.H), of_h = p.states(), of_c = p.state_or_none();
    const auto d = p.adjoint(of, dh, dc, {});
    auto out_h = p.room(p.H), out_c = p.room_or_none(), gates = p.room(p.S * p.H), out_state = p.room(p.H);
    Array<double> out_0(size(p.problem.N * p.H));
    fastlstm::second<double>(p.chain,
                             {of, d.all_dh.data(), d.all_dc.data(), of_da.data(), of_h.data(), of_c.data(), out_h.data(),
                              out_c.data(), gates.data(), out_state.data(), out_0.data()},
                             1);
    const auto gates_t = p.rows(p.S * p.H), state_t = p.rows(p.H), first_t = p.states();
    const auto scalar = [&](double by) {
      const auto g = along(s.gates, gates_t, by), c = along(state, state_t, by), c0 = along(state_0, first_t, by);
      const auto moved = p.adjoint({nullptr, g.data(), c.data(), c0.data()}, dh, dc, {});
      return dot(moved.da, of_da) + dot(moved.dh_0, of_h) + dot(moved.dc_0, of_c);
    };
    const double slope = (scalar(step) - scalar(-step)) / (2 * step);
    CHECK(dot(gates, gates_t) + dot(out_state, state_t) + dot(out_0, first_t) == doctest::Approx(slope).epsilon(1e-4));
    CHECK(dot(out_h, dh) + dot(out_c, dc) == doctest::Approx(scalar(0)).epsilon(1e-9));  // it is linear in them
  });
}

TEST_CASE_TEMPLATE("forward from x is the engine's, and finds the steps that forward from its sums does", Real, float, double) {
  each_chain([](const Sizes& sizes, bool reverse, unsigned seed) {
    Call<Real> call(sizes, seed);
    Passes<Real> p(sizes, reverse, 2, seed);
    const auto own = p.weights_of(call);
    const auto c_0 = p.has_c ? call.c_0 : Array<Real>{};
    auto h = p.room(p.H), c = p.room_or_none(), gates = p.room(p.S * p.H);
    fastlstm::forward<Real>(p.chain, {sizes.I, own, call.x.data(), call.h_0.data(), c_0.data(), h.data(), c.data(), gates.data()},
                            p.threads);
    const double close = 100 * std::numeric_limits<Real>::epsilon();
    const auto near = [&](const Array<Real>& found, const Array<Real>& expected) {
      for (std::size_t k = 0; k < found.size(); ++k) REQUIRE(std::abs(found[k] - expected[k]) <= close);
    };
    p.w = call.weights[1];
    p.chain.w_hh = p.w.data();
    const auto steps = p.forward(p.sums_of_input(call), call.h_0, c_0);
    near(h, steps.h);
    near(c, steps.c);
    near(gates, steps.gates);
    if (reverse) return;  // the engine's own call of one direction has no other
    call.forward(1);
    near(h, call.output);
  });
}

TEST_CASE_TEMPLATE("dual is the engine's forward and the tangent", Real, float, double) {
  each_chain([](const Sizes& sizes, bool reverse, unsigned seed) {
    if (reverse) return;  // the engine's own call of one direction has no other
    for (const bool weights : {false, true}) {
      Call<Real> call(sizes, seed), other(sizes, seed + 1000);
      call.forward(1);
      Passes<Real> p(sizes, false, 2, seed);
      const auto own = p.weights_of(call), own_t = p.weights_of(other);
      auto h = p.room(p.H), h_t = p.room(p.H);
      Array<Real> c_n(p.has_c ? size(p.problem.N * p.H) : 0), c_n_t = c_n;
      const auto c_0 = p.has_c ? call.c_0.data() : nullptr;
      fastlstm::dual<Real>(p.chain,
                           {sizes.I, own, weights ? &own_t : nullptr, call.x.data(), other.x.data(), call.h_0.data(), nullptr,
                            c_0, nullptr, h.data(), h_t.data(), c_n.data(), c_n_t.data()},
                           2);
      const double close = 100 * std::numeric_limits<Real>::epsilon();
      for (std::size_t k = 0; k < h.size(); ++k) REQUIRE(std::abs(h[k] - call.output[k]) <= close);
      for (std::size_t k = 0; k < c_n.size(); ++k) REQUIRE(std::abs(c_n[k] - call.c_n[k]) <= close);
      if (sizeof(Real) == sizeof(float)) continue;
      constexpr double step = 1e-5;
      Call<Real> ends[] = {Call<Real>(sizes, seed), Call<Real>(sizes, seed)};
      for (int k = 0; k < 2; ++k) {
        const double by = k == 0 ? -step : step;
        ends[k].x = along(call.x, other.x, by);
        for (std::size_t w = 0; weights && w < 4; ++w) ends[k].weights[w] = along(call.weights[w], other.weights[w], by);
        ends[k].forward(1);
      }
      for (std::size_t k = 0; k < h_t.size(); ++k)
        REQUIRE(h_t[k] == doctest::Approx((ends[1].output[k] - ends[0].output[k]) / (2 * step)).epsilon(1e-5));
      for (std::size_t k = 0; k < c_n_t.size(); ++k)
        REQUIRE(c_n_t[k] == doctest::Approx((ends[1].c_n[k] - ends[0].c_n[k]) / (2 * step)).epsilon(1e-5));
    }
  });
}
