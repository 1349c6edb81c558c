// Checks, views and new arrays took a Python call each: at one step of one row, where the engine works for 3 us, they took 20.
//
// What is not dense, of one dtype and of sizes that belong together is not taken: None comes back, and nothing was done.
#include "call.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "operands.h"
#include "sequences.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace operands;

namespace {

// use(Real{}) for the Real that a call computes in.
template <class Use>
void as_real(const arrays::DType& dtype, const Use& use) {
  if (dtype.bits == 64) {
    use(double{});
  } else {
    use(float{});
  }
}

std::size_t saved_reals(const arrays::DType& dtype, const fastlstm::Problem& problem) {
  return static_cast<std::size_t>(dtype.bits == 64 ? fastlstm::saved_size<double>(problem)
                                                   : fastlstm::saved_size<float>(problem));
}

std::size_t real_bytes(const arrays::DType& dtype) { return dtype.bits == 64 ? sizeof(double) : sizeof(float); }

// In the caller's array, if there is one, or in the engine's memory. false: the array is not such.
bool set_memory(Kept& kept, nb::handle array) {
  const std::size_t reals = saved_reals(*kept.dtype, kept.batch->problem);
  if (array.ptr() == Py_True) {
    kept.memory.emplace(reals * real_bytes(*kept.dtype));
    kept.data = kept.memory->data();
    return true;
  }
  const auto there = arrays::view(array.ptr(), true);
  if (!there || there->dtype != &arrays::dtype_named(kept.dtype->bits == 64 ? "float64" : "float32") || !there->is_dense() ||
      static_cast<std::size_t>(there->count()) < reals)
    return false;
  kept.array = nb::borrow(array);
  kept.data = there->data;
  return true;
}

// With keep, what is kept: `keep_all`, or as the layer says.
nb::object run_forward(const Layer& layer, nb::handle weights, nb::handle input, nb::handle hx, int threads,
                       nb::handle batch_first, nb::handle lengths, nb::handle reset, nb::handle batch_sizes, nb::handle offsets,
                       nb::handle masks, nb::handle keep, nb::handle out, bool keep_all) {
  const auto x = arrays::view(input.ptr());
  if (!x || x->dtype == nullptr) return nb::none();
  const arrays::DType& dtype = *x->dtype;
  auto batch = Batch::read(layer, *x, {batch_first, lengths, reset, batch_sizes, offsets});
  if (!batch) return nb::none();
  Inputs inputs{x->data};
  if (!hx.is_none()) {
    const bool one = layer.states() == 1;
    if (!one && (!PyTuple_CheckExact(hx.ptr()) || sequences::size(hx) != 2)) return nb::none();
    for (std::size_t k = 0; k < layer.states(); ++k) {
      PyObject* const state = one ? hx.ptr() : sequences::item(hx, static_cast<Py_ssize_t>(k));
      if (arrays::is_tensor(state) != arrays::is_tensor(input.ptr())) return nb::none();
      if (!inputs.read_state(layer, *batch, dtype, k, state) || inputs.states[k] == nullptr) return nb::none();
    }
  }
  if (!inputs.read_weights(layer, dtype, weights, 0) || !inputs.read_masks(layer, *batch, dtype, masks)) return nb::none();
  Results results;
  if (!(out.is_none() ? results.create(layer, *batch, dtype, input.ptr()) : results.read(layer, *batch, dtype, out)))
    return nb::none();
  std::unique_ptr<Kept> kept;
  if (keep.ptr() != Py_False) {
    if (layer.checkpoint_every > 0 && !keep_all) batch->problem.checkpoint_every(layer.checkpoint_every);
    kept.reset(new Kept{layer, std::move(batch), &dtype, {}, {}});
    if (!set_memory(*kept, keep)) return nb::none();
  }
  const Batch& rows = kept ? *kept->batch : *batch;
  rows.clear(results.data[0], layer.D * layer.out() * dtype.bytes());
  for (std::size_t k = 0; k < layer.states(); ++k)
    rows.carry(inputs.states[k], results.data[1 + k], layer.state_features(k) * dtype.bytes());
  as_real(dtype, [&](auto real) {
    using Real = decltype(real);
    Arrays<Real> arrays(layer, rows, dtype);
    const auto from = arrays.inputs(inputs);
    const auto to = arrays.outputs(results.data);
    const nb::gil_scoped_release release;
    fastlstm::forward<Real>(rows.problem, from, to, kept ? static_cast<Real*>(kept->data) : nullptr, threads);
  });
  const nb::object states = results.states(layer);
  if (!kept) return nb::make_tuple(results.objects[0], states);
  return nb::make_tuple(results.objects[0], states, nb::cast(kept.release(), nb::rv_policy::take_ownership));
}

nb::object forward(const Layer& layer, nb::handle weights, nb::handle input, nb::handle hx, int threads, nb::handle batch_first,
                   nb::handle lengths, nb::handle reset, nb::handle batch_sizes, nb::handle offsets, nb::handle masks,
                   nb::handle keep, nb::handle out) {
  return run_forward(layer, weights, input, hx, threads, batch_first, lengths, reset, batch_sizes, offsets, masks, keep, out,
                     false);
}

// What forward left in an array of the caller's, for a backward that comes without it.
nb::object kept_in(const Layer& layer, nb::handle input, nb::handle saved, nb::handle batch_first, nb::handle lengths,
                   nb::handle reset, nb::handle batch_sizes, nb::handle offsets) {
  const auto x = arrays::view(input.ptr());
  if (!x || x->dtype == nullptr) return nb::none();
  std::unique_ptr<Kept> kept(
      new Kept{layer, Batch::read(layer, *x, {batch_first, lengths, reset, batch_sizes, offsets}), x->dtype, {}, {}});
  if (!kept->batch || !set_memory(*kept, saved)) return nb::none();
  return nb::cast(kept.release(), nb::rv_policy::take_ownership);
}

// What backward reads and writes; `to` like the inputs: x, h_0, c_0 and the weights.
struct Differentials {
  std::vector<void*> from;  // of output, h_n, an LSTM's c_n, then, of what `trace` reads, all or none
  nb::list objects;
  std::vector<void*> to;

  bool read(const Layer& layer, const Batch& batch, const arrays::DType& dtype, nb::handle sequence) {
    const Items items(sequence);
    const std::size_t own = 1 + layer.states();
    const auto steps = static_cast<std::size_t>(layer.steps() * layer.chains());
    if (items.size() != own && items.size() != own + steps + static_cast<std::size_t>(layer.layers - 1)) return false;
    const Index width = layer.D * layer.out();
    for (std::size_t k = 0; k < items.size(); ++k) {
      const Shape shape = 1 <= k && k < own ? with(batch.state, layer.state_features(k - 1))
                                            : with(batch.lead, own <= k && k < own + steps ? layer.H : width);
      from.push_back(nullptr);
      if (!read_array(items[k], dtype, shape, from.back())) return false;
    }
    return true;
  }

  bool create(const arrays::DType& dtype, const Items& inputs, nb::handle wanted, nb::handle out) {
    const Items wants(wanted);
    if (wants.size() != inputs.size()) return false;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      to.push_back(nullptr);
      nb::object object = nb::none();
      if (inputs[k] != Py_None && wants[k] == Py_True) {
        const Shape shape = arrays::view(inputs[k])->shape;
        if (!out.is_none()) {
          object = nb::borrow(Items(out)[k]);
          const auto array = arrays::view(object.ptr(), true);
          if (!array || array->dtype != &dtype || !array->has(shape) || !array->is_dense()) return false;
          to.back() = array->data;
        } else {
          const New fresh(inputs[k], dtype, shape);
          object = fresh.object;
          to.back() = fresh.data;
        }
        if (to.back() == nullptr) return false;
      }
      objects.append(object);
    }
    return true;
  }
};

nb::object backward(const Kept& kept, nb::handle sequence, nb::handle masks, nb::handle gradients, nb::handle wanted, int threads,
                    nb::handle out) {
  const Layer& layer = kept.layer;
  const Batch& batch = *kept.batch;
  const arrays::DType& dtype = *kept.dtype;
  const Items items(sequence);
  const std::size_t own = 1 + layer.states();
  if (items.size() != own + layer.arrays()) return nb::none();
  const auto x = arrays::view(items[0], dtype, with(batch.lead, layer.I));
  if (!x) return nb::none();
  Inputs inputs{x->data};
  Differentials d;
  for (std::size_t k = 0; k < layer.states(); ++k)
    if (!inputs.read_state(layer, batch, dtype, k, items[1 + k])) return nb::none();
  if (!inputs.read_weights(layer, dtype, sequence, static_cast<Py_ssize_t>(own)) ||
      !inputs.read_masks(layer, batch, dtype, masks) || !d.read(layer, batch, dtype, gradients) ||
      !d.create(dtype, items, wanted, out))
    return nb::none();
  if (d.to[0] != nullptr) batch.clear(d.to[0], layer.I * dtype.bytes());
  for (std::size_t k = 0; k < layer.states(); ++k)
    if (d.to[1 + k] != nullptr) batch.clear_state(d.to[1 + k], layer.state_features(k) * dtype.bytes());
  const auto of_c = [&](const std::vector<void*>& data) { return layer.states() > 1 ? data[2] : nullptr; };
  as_real(dtype, [&](auto real) {
    using Real = decltype(real);
    Arrays<Real> arrays(layer, batch, dtype);
    const auto from = arrays.inputs(inputs);
    const auto dweights = fives<fastlstm::WeightGradients<Real>, fastlstm::Target<Real>>(layer, d.to.data() + own, dtype.element);
    fastlstm::Gradients<Real> all{arrays.source(d.from[0], batch.places),
                                  arrays.source(d.from[1], batch.final),
                                  arrays.source(of_c(d.from), batch.final),
                                  arrays.target(d.to[0], batch.places),
                                  arrays.target(d.to[1], batch.initial),
                                  arrays.target(of_c(d.to), batch.initial),
                                  dweights.data()};
    std::vector<fastlstm::Source<Real>> dsteps;
    std::vector<fastlstm::Source<Real>> dhidden;
    if (d.from.size() > own) {
      const Index steps = layer.steps() * layer.chains();
      dsteps = arrays.template of_rows<fastlstm::Source<Real>>(d.from.data() + own, steps);
      dhidden = arrays.template of_rows<fastlstm::Source<Real>>(d.from.data() + own + steps, layer.layers - 1);
      all.dsteps = dsteps.data();
      all.dhidden = dhidden.data();
    }
    const nb::gil_scoped_release release;
    fastlstm::backward<Real>(batch.problem, from, dtype.element, static_cast<const Real*>(kept.data), all, threads);
  });
  for (std::size_t k = 0; k < layer.states(); ++k)
    if (d.to[1 + k] != nullptr) batch.carry(d.from[1 + k], d.to[1 + k], layer.state_features(k) * dtype.bytes());
  return std::move(d.objects);
}

nb::object trace(const Layer& layer, nb::handle weights, nb::handle input, nb::handle hx, int threads, nb::handle batch_first,
                 nb::handle lengths, nb::handle reset, nb::handle batch_sizes, nb::handle offsets, nb::handle masks) {
  const nb::object done = run_forward(layer, weights, input, hx, threads, batch_first, lengths, reset, batch_sizes, offsets,
                                      masks, nb::handle(Py_True), nb::handle(Py_None), true);
  if (done.is_none()) return done;
  const auto& kept = nb::cast<const Kept&>(done[2]);
  const Batch& batch = *kept.batch;
  nb::list objects;
  std::vector<void*> data;
  const auto create = [&](Index features) {
    const New fresh(input.ptr(), *kept.dtype, with(batch.lead, features));
    batch.clear(fresh.data, features * kept.dtype->bytes());
    objects.append(fresh.object);
    data.push_back(fresh.data);
  };
  const Index count = layer.steps() * layer.chains();
  for (Index k = 0; k < count; ++k) create(layer.H);
  for (Index k = 0; k + 1 < layer.layers; ++k) create(layer.D * layer.out());
  as_real(*kept.dtype, [&](auto real) {
    using Real = decltype(real);
    const Arrays<Real> arrays(layer, batch, *kept.dtype);
    const auto steps = arrays.template of_rows<fastlstm::Target<Real>>(data.data(), count);
    const auto hidden = arrays.template of_rows<fastlstm::Target<Real>>(data.data() + count, layer.layers - 1);
    const nb::gil_scoped_release release;
    fastlstm::trace<Real>(batch.problem, static_cast<const Real*>(kept.data), steps.data(), hidden.data(), threads);
  });
  return nb::make_tuple(done[0], done[1], done[2], objects);
}

}  // namespace

void define_call(nb::module_& m) {
  nb::class_<Kept>(m, "Kept")
      .def("rows", [](const Kept& kept) { return kept.batch->as_lists(); })
      .def_prop_ro("T", [](const Kept& kept) { return kept.batch->problem.T; })
      .def_prop_ro("reals", [](const Kept& kept) { return saved_reals(*kept.dtype, kept.batch->problem); });
  m.def("kept", kept_in, "layer"_a, "input"_a, "saved"_a, "batch_first"_a, "lengths"_a.none(), "reset"_a.none(),
        "batch_sizes"_a.none(), "offsets"_a.none());
  m.def("forward", forward, "layer"_a, "weights"_a, "input"_a.none(), "hx"_a.none(), "threads"_a, "batch_first"_a.none() = false,
        "lengths"_a.none() = nb::none(), "reset"_a.none() = nb::none(), "batch_sizes"_a.none() = nb::none(),
        "offsets"_a.none() = nb::none(), "masks"_a = nb::tuple(), "keep"_a = false, "out"_a.none() = nb::none());
  m.def("backward", backward, "kept"_a, "inputs"_a, "masks"_a, "gradients"_a, "wanted"_a, "threads"_a,
        "out"_a.none() = nb::none());
  m.def("trace", trace, "layer"_a, "weights"_a, "input"_a.none(), "hx"_a.none(), "threads"_a, "batch_first"_a.none() = false,
        "lengths"_a.none() = nb::none(), "reset"_a.none() = nb::none(), "batch_sizes"_a.none() = nb::none(),
        "offsets"_a.none() = nb::none(), "masks"_a = nb::tuple());
}
