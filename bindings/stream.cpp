// A stream's step is a microsecond: it is checked here, once, and Python has nothing to add.
#include "stream.h"

#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "arrays.h"
#include "fastlstm/stream.h"
#include "packed_weights.h"

namespace nb = nanobind;
using namespace nb::literals;
using arrays::Index;
using arrays::Shape;

namespace {

// Multiply-adds from which on a call takes more than some 50 us: a step that gave the GIL back would wait for 5 ms to have it
// again where another thread runs Python.
constexpr Index kReleases = 1'000'000;

class Stream {
 public:
  Stream(const PackedWeights& weights, Index N)
      : layer_(weights.layer),
        dtype_(weights.dtype),
        N_(N),
        stream_(std::visit([&](const auto& w) { return start(w, N); }, weights.weights)) {
    const Index in = layer_.I + (layer_.layers - 1) * layer_.out() + layer_.layers * layer_.out();
    adds_a_step_ = fastlstm::counts_of(layer_.cell).gates * layer_.H * in * N;
  }

  Stream(const Stream& other)
      : layer_(other.layer_),
        dtype_(other.dtype_),
        N_(other.N_),
        adds_a_step_(other.adds_a_step_),
        stream_(std::visit([](const auto& s) { return copy(*s); }, other.stream_)) {}

  // A frame, (N, I) or, of one sequence, (I); `steps`: many, with a dimension of time before. None: it is no such array.
  nb::object run(nb::handle frames, nb::handle out, bool steps) {
    const auto x = arrays::view(frames.ptr());
    if (!x || x->dtype != dtype_ || !x->is_dense() || x->features() != layer_.I) return nb::none();
    const std::size_t time = steps ? 1 : 0;
    const std::size_t dims = x->shape.size();
    if (dims != time + 2 && (N_ != 1 || dims != time + 1)) return nb::none();
    if (dims == time + 2 && x->shape[time] != N_) return nb::none();
    Shape shape = x->lead();
    shape.push_back(layer_.out());
    nb::object result = nb::borrow(out);
    void* y = nullptr;
    if (out.is_none()) {
      const arrays::New fresh(frames.ptr(), *dtype_, shape);
      result = fresh.object;
      y = fresh.data;
    } else if (const auto array = arrays::view(out.ptr(), true);
               array && array->dtype == dtype_ && array->has(shape) && array->is_dense()) {
      y = array->data;
    }
    if (y == nullptr) return nb::none();
    const Index count = steps ? x->shape[0] : 1;
    std::visit(
        [&](auto& stream) {
          using Real = typename std::decay_t<decltype(*stream)>::Element;
          const auto* const from = static_cast<const Real*>(x->data);
          if (count * adds_a_step_ < kReleases) return stream->block(count, from, static_cast<Real*>(y));
          const nb::gil_scoped_release release;
          stream->block(count, from, static_cast<Real*>(y));
        },
        stream_);
    return result;
  }

  void reset(Index n) {
    if (n >= N_) throw nb::index_error("row: expected one of the stream's");
    std::visit([&](auto& stream) { stream->reset(n); }, stream_);
  }

  // Into arrays (layers, N, features), or from there. false: they are not such.
  bool move_state(nb::handle states, bool set) {
    void* data[2] = {nullptr, nullptr};
    const nb::tuple all(states);
    if (all.size() != layer_.states()) return false;
    for (std::size_t k = 0; k < layer_.states(); ++k) {
      const auto array = arrays::view(nb::object(all[k]).ptr(), !set);
      if (!array || array->dtype != dtype_ || !array->is_dense() || !array->has({layer_.layers, N_, layer_.state_features(k)}))
        return false;
      data[k] = array->data;
    }
    std::visit(
        [&](auto& stream) {
          using Real = typename std::decay_t<decltype(*stream)>::Element;
          auto* const h = static_cast<Real*>(data[0]);
          auto* const c = static_cast<Real*>(data[1]);
          if (set) {
            stream->set_state(h, c);
          } else {
            stream->get_state(h, c);
          }
        },
        stream_);
    return true;
  }

 private:
  template <class Real>
  using Own = std::unique_ptr<fastlstm::Stream<Real>>;
  using Any = std::variant<Own<float>, Own<double>>;

  template <class Real>
  static Any start(const PackedWeights::Shared<Real>& weights, Index N) {
    return std::make_unique<fastlstm::Stream<Real>>(weights, N);
  }
  template <class Real>
  static Any copy(const fastlstm::Stream<Real>& stream) {
    return std::make_unique<fastlstm::Stream<Real>>(stream);
  }

  Layer layer_;
  const arrays::DType* dtype_;
  Index N_;
  Index adds_a_step_;
  Any stream_;
};

}  // namespace

void define_stream(nb::module_& m) {
  nb::class_<Stream>(m, "Stream")
      .def(nb::init<const PackedWeights&, Index>(), "weights"_a, "batch"_a)
      .def(
          "step", [](Stream& s, nb::handle x, nb::handle out) { return s.run(x, out, false); }, "x"_a.none(),
          "out"_a.none() = nb::none())
      .def(
          "block", [](Stream& s, nb::handle x, nb::handle out) { return s.run(x, out, true); }, "x"_a.none(),
          "out"_a.none() = nb::none())
      .def("reset", &Stream::reset, "row"_a = -1)
      .def(
          "get_state", [](Stream& s, nb::handle states) { return s.move_state(states, false); }, "into"_a)
      .def(
          "set_state", [](Stream& s, nb::handle states) { return s.move_state(states, true); }, "states"_a)
      .def("copy", [](const Stream& s) { return Stream(s); });
}
