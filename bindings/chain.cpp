// A chain's passes (fastlstm/chain.h): arrays in, new arrays out.
#include "chain.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "fastlstm/chain.h"
#include "operands.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace operands;

namespace {

// The rows of a chain's sequences, and its weights' memory.
struct Steps {
  fastlstm::Problem problem;
  bool reverse;
  int threads;

  Steps(const std::string& cell, Index T, Index N, Index H, const std::optional<std::vector<Index>>& batch_sizes, bool reverse,
        int threads)
      : problem(T, N, 1, H, 0, 1, 1, batch_sizes.value_or(std::vector<Index>{}),
                cell == "GRU" ? fastlstm::CellKind::gru : fastlstm::CellKind::lstm),
        reverse(reverse),
        threads(std::max(threads, 1)) {}

  Index rows() const { return problem.rows(); }
  Index states() const { return fastlstm::counts_of(problem.cell).states; }
  Index sums() const { return fastlstm::sums_of(problem.cell) * problem.H; }
  Index slopes() const { return fastlstm::slopes_of(problem.cell) * problem.H; }
  Index gates() const { return fastlstm::counts_of(problem.cell).gates * problem.H; }
};

// What a pass reads and writes: all of one dtype, of (rows, width).
struct Operands {
  nb::handle like;
  const arrays::DType* dtype;
  std::vector<nb::object> results;

  static std::optional<Operands> of(nb::handle like) {
    const auto view = arrays::view(like.ptr());
    if (!view || view->dtype == nullptr || view->dtype->element != fastlstm::Element::real) return {};
    return Operands{like, view->dtype, {}};
  }
  // false: not dense, of this dtype and of these sizes. Not there at all: `optional`.
  bool read(nb::handle array, Index rows, Index width, void*& data, bool optional = false) const {
    return (optional || !array.is_none()) && read_array(array.ptr(), *dtype, {rows, width}, data);
  }
  void* create(Index rows, Index width) {
    const New fresh(like.ptr(), *dtype, {rows, width});
    results.push_back(fresh.object);
    return fresh.data;
  }
  nb::object all() const {
    nb::list list;
    for (const nb::object& result : results) list.append(result);
    return std::move(list);
  }
  // use(Real{}), without the GIL.
  template <class Use>
  void compute(const Use& use) const {
    const nb::gil_scoped_release release;
    if (dtype->bits == 64) {
      use(double{});
    } else {
      use(float{});
    }
  }
};

nb::object forward(const Steps& rows, nb::handle w_hh, nb::handle a, nb::handle h_0, nb::handle c_0) {
  auto operands = Operands::of(a);
  const fastlstm::Problem& problem = rows.problem;
  const bool has_c = rows.states() > 1;
  void *w, *sums, *first_h, *first_c = nullptr;
  if (!operands || !operands->read(w_hh, rows.gates(), problem.H, w) || !operands->read(a, rows.rows(), rows.sums(), sums) ||
      !operands->read(h_0, problem.N, problem.H, first_h) || (has_c && !operands->read(c_0, problem.N, problem.H, first_c)))
    return nb::none();
  void* const h = operands->create(rows.rows(), problem.H);
  void* const c = has_c ? operands->create(rows.rows(), problem.H) : nullptr;
  void* const gates = operands->create(rows.rows(), rows.sums());
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto in = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    fastlstm::forward<Real>({rows.problem, rows.reverse, in(w)}, {in(sums), in(first_h), in(first_c), out(h), out(c), out(gates)},
                            rows.threads);
  });
  return operands->all();
}

// The slopes of a chain's steps as they are, or a tuple: the gates, states and initial states whose they are.
struct Slopes {
  void* data[4] = {nullptr, nullptr, nullptr, nullptr};

  bool read(const Steps& rows, nb::handle slopes, std::optional<Operands>& operands) {
    const Index count = rows.rows();
    if (!PyTuple_CheckExact(slopes.ptr())) {
      operands = Operands::of(slopes);
      return operands && operands->read(slopes, count, rows.slopes(), data[0]);
    }
    const Items steps(slopes);
    if (steps.size() != 3) return false;
    operands = Operands::of(steps[0]);
    return operands && operands->read(steps[0], count, rows.sums(), data[1]) &&
           operands->read(steps[1], count, rows.problem.H, data[2]) &&
           operands->read(steps[2], rows.problem.N, rows.problem.H, data[3]);
  }
  template <class Real>
  fastlstm::ChainSlopes<Real> as() const {
    return {static_cast<const Real*>(data[0]), static_cast<const Real*>(data[1]), static_cast<const Real*>(data[2]),
            static_cast<const Real*>(data[3])};
  }
};

nb::object tangent(const Steps& rows, nb::handle slopes, nb::handle w_hh, nb::handle a, nb::handle h_0, nb::handle c_0,
                   nb::handle e_h, nb::handle e_c) {
  const Index count = rows.rows();
  const Index H = rows.problem.H;
  const Index N = rows.problem.N;
  const bool has_c = rows.states() > 1;
  std::optional<Operands> operands;
  Slopes s;
  void *w, *sums, *first_h, *first_c = nullptr, *of_h, *of_c = nullptr;
  if (!s.read(rows, slopes, operands) || !operands->read(w_hh, rows.gates(), H, w) ||
      !operands->read(a, count, rows.sums(), sums) || !operands->read(h_0, N, H, first_h) ||
      !operands->read(e_h, count, H, of_h, true) ||
      (has_c && (!operands->read(c_0, N, H, first_c) || !operands->read(e_c, count, H, of_c, true))))
    return nb::none();
  void* const h = operands->create(count, H);
  void* const c = has_c ? operands->create(count, H) : nullptr;
  void* const all = operands->create(count, rows.sums());
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto in = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    fastlstm::tangent<Real>({rows.problem, rows.reverse, in(w)},
                            {s.as<Real>(), in(sums), in(first_h), in(first_c), in(of_h), in(of_c), out(h), out(c), out(all)},
                            rows.threads);
  });
  return operands->all();
}

nb::object adjoint(const Steps& rows, nb::handle slopes, nb::handle w_hh, nb::handle dh, nb::handle dc, nb::handle ds) {
  const Index count = rows.rows();
  const Index H = rows.problem.H;
  const Index N = rows.problem.N;
  const bool has_c = rows.states() > 1;
  std::optional<Operands> operands;
  Slopes s;
  void *w, *of_h, *of_c = nullptr, *of_sums;
  if (!s.read(rows, slopes, operands) || !operands->read(w_hh, rows.gates(), H, w) || !operands->read(dh, count, H, of_h, true) ||
      !operands->read(ds, count, rows.sums(), of_sums, true) || (has_c && !operands->read(dc, count, H, of_c, true)))
    return nb::none();
  void* const da = operands->create(count, rows.sums());
  void* const dh_0 = operands->create(N, H);
  void* const dc_0 = has_c ? operands->create(N, H) : nullptr;
  void* const all_h = operands->create(count, H);
  void* const all_c = has_c ? operands->create(count, H) : nullptr;
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto in = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    fastlstm::adjoint<Real>(
        {rows.problem, rows.reverse, in(w)},
        {s.as<Real>(), in(of_h), in(of_c), in(of_sums), out(da), out(dh_0), out(dc_0), out(all_h), out(all_c)}, rows.threads);
  });
  return operands->all();
}

nb::object second(const Steps& rows, nb::handle steps, nb::handle w_hh, nb::handle all_dh, nb::handle all_dc, nb::handle da,
                  nb::handle dh_0, nb::handle dc_0) {
  const Index count = rows.rows();
  const Index H = rows.problem.H;
  const Index N = rows.problem.N;
  const bool has_c = rows.states() > 1;
  std::optional<Operands> operands;
  Slopes s;
  void *w, *of_h, *of_c = nullptr, *of_sums, *first_h, *first_c = nullptr;
  if (!PyTuple_CheckExact(steps.ptr()) || !s.read(rows, steps, operands) || !operands->read(w_hh, rows.gates(), H, w) ||
      !operands->read(all_dh, count, H, of_h) || !operands->read(da, count, rows.sums(), of_sums) ||
      !operands->read(dh_0, N, H, first_h) ||
      (has_c && (!operands->read(all_dc, count, H, of_c) || !operands->read(dc_0, N, H, first_c))))
    return nb::none();
  void* const h = operands->create(count, H);
  void* const c = has_c ? operands->create(count, H) : nullptr;
  void* const gates = operands->create(count, rows.sums());
  void* const state = operands->create(count, H);
  void* const state_0 = operands->create(N, H);
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto in = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    fastlstm::second<Real>({rows.problem, rows.reverse, in(w)},
                           {s.as<Real>(), in(of_h), in(of_c), in(of_sums), in(first_h), in(first_c), out(h), out(c), out(gates),
                            out(state), out(state_0)},
                           rows.threads);
  });
  return operands->all();
}

// w_ih, w_hh, b_ih, b_hh, the last two or None.
bool read_chain(const Operands& operands, const Steps& rows, Index in, nb::handle from, void* (&to)[4]) {
  const Items items(from);
  const Index G = rows.gates();
  if (items.size() != 4) return false;
  const Shape shapes[] = {{G, in}, {G, rows.problem.H}, {G}, {G}};
  for (std::size_t k = 0; k < 4; ++k)
    if ((k < 2 && items[k] == Py_None) || !read_array(items[k], *operands.dtype, shapes[k], to[k])) return false;
  return true;
}

// Their data as the engine has them.
template <class Real>
fastlstm::Weights<Real> weights_at(void* const (&data)[4]) {
  const auto at = [](void* array) { return static_cast<const Real*>(array); };
  return {at(data[0]), at(data[1]), at(data[2]), at(data[3]), {}};
}

// `forward` from x.
nb::object of_input(const Steps& rows, nb::handle weights, nb::handle x, nb::handle h_0, nb::handle c_0) {
  auto operands = Operands::of(x);
  if (!operands) return nb::none();
  const fastlstm::Problem& problem = rows.problem;
  const Index in = arrays::view(x.ptr())->features();
  const bool has_c = rows.states() > 1;
  void *w[4], *rows_x, *first_h, *first_c = nullptr;
  if (!read_chain(*operands, rows, in, weights, w) || !operands->read(x, rows.rows(), in, rows_x) ||
      !operands->read(h_0, problem.N, problem.H, first_h) || (has_c && !operands->read(c_0, problem.N, problem.H, first_c)))
    return nb::none();
  void* const h = operands->create(rows.rows(), problem.H);
  void* const c = has_c ? operands->create(rows.rows(), problem.H) : nullptr;
  void* const gates = operands->create(rows.rows(), rows.sums());
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto at = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    const fastlstm::Weights<Real> own = weights_at<Real>(w);
    const fastlstm::ChainOfInput<Real> call{in, own, at(rows_x), at(first_h), at(first_c), out(h), out(c), out(gates)};
    fastlstm::forward<Real>({rows.problem, rows.reverse, nullptr}, call, rows.threads);
  });
  return operands->all();
}

// x, h_0, c_0 and the weights, each followed by its tangent or None -> h, c_n, and their tangents.
nb::object dual(const Steps& rows, nb::handle weights, nb::handle weights_t, nb::handle x, nb::handle x_t, nb::handle h_0,
                nb::handle h_0_t, nb::handle c_0, nb::handle c_0_t) {
  auto operands = Operands::of(x);
  const Index count = rows.rows();
  const Index H = rows.problem.H;
  const Index N = rows.problem.N;
  if (!operands) return nb::none();
  const Index in = arrays::view(x.ptr())->features();
  const bool has_c = rows.states() > 1;
  void *w[4], *w_t[4], *rows_x, *rows_x_t, *h, *h_t, *c = nullptr, *c_t = nullptr;
  if (!read_chain(*operands, rows, in, weights, w) ||
      (!weights_t.is_none() && !read_chain(*operands, rows, in, weights_t, w_t)) || !operands->read(x, count, in, rows_x) ||
      !operands->read(x_t, count, in, rows_x_t, true) || !operands->read(h_0, N, H, h) ||
      !operands->read(h_0_t, N, H, h_t, true) ||
      (has_c && (!operands->read(c_0, N, H, c) || !operands->read(c_0_t, N, H, c_t, true))))
    return nb::none();
  void* const out_h = operands->create(count, H);
  void* const out_c = has_c ? operands->create(N, H) : nullptr;
  void* const out_h_t = operands->create(count, H);
  void* const out_c_t = has_c ? operands->create(N, H) : nullptr;
  operands->compute([&](auto real) {
    using Real = decltype(real);
    const auto in_of = [](void* data) { return static_cast<const Real*>(data); };
    const auto out = [](void* data) { return static_cast<Real*>(data); };
    const fastlstm::Weights<Real> own = weights_at<Real>(w);
    const fastlstm::Weights<Real> own_t = weights_t.is_none() ? fastlstm::Weights<Real>{} : weights_at<Real>(w_t);
    fastlstm::dual<Real>({rows.problem, rows.reverse, nullptr},
                         {in, own, weights_t.is_none() ? nullptr : &own_t, in_of(rows_x), in_of(rows_x_t), in_of(h), in_of(h_t),
                          in_of(c), in_of(c_t), out(out_h), out(out_h_t), out(out_c), out(out_c_t)},
                         rows.threads);
  });
  return operands->all();
}

}  // namespace

void define_chain(nb::module_& m) {
  nb::class_<Steps>(m, "Chain")
      .def(nb::init<const std::string&, Index, Index, Index, const std::optional<std::vector<Index>>&, bool, int>(), "cell"_a,
           "T"_a, "N"_a, "H"_a, "batch_sizes"_a.none(), "reverse"_a, "threads"_a)
      .def("forward", forward, "w_hh"_a, "a"_a, "h_0"_a, "c_0"_a.none())
      .def("of_input", of_input, "weights"_a, "x"_a, "h_0"_a, "c_0"_a.none())
      .def("tangent", tangent, "slopes"_a, "w_hh"_a, "a"_a, "h_0"_a, "c_0"_a.none(), "e_h"_a.none(), "e_c"_a.none())
      .def("adjoint", adjoint, "slopes"_a, "w_hh"_a, "dh"_a.none(), "dc"_a.none(), "ds"_a.none())
      .def("second", second, "steps"_a, "w_hh"_a, "all_dh"_a, "all_dc"_a.none(), "da"_a, "dh_0"_a, "dc_0"_a.none())
      .def("dual", dual, "weights"_a, "weights_t"_a.none(), "x"_a, "x_t"_a.none(), "h_0"_a, "h_0_t"_a.none(), "c_0"_a.none(),
           "c_0_t"_a.none());
}
