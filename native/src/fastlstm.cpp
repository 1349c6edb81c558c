// C's face: checks every argument, and lets no exception out.
#include "fastlstm/fastlstm.h"

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "fastlstm/batch.h"
#include "fastlstm/checkpoint.h"
#include "fastlstm/stream.h"

struct fastlstm_layer {
  fastlstm::Checkpoint checkpoint;
};

struct fastlstm_stream {
  template <class Real>
  using Own = std::unique_ptr<fastlstm::Stream<Real>>;

  fastlstm::Sizes sizes;
  int64_t batch;
  std::variant<Own<float>, Own<double>> stream;

  std::size_t number() const { return stream.index() == 0 ? sizeof(float) : sizeof(double); }
};

namespace {

using Index = std::int64_t;

thread_local char last_error[1024] = "";

[[gnu::format(printf, 2, 3)]] fastlstm_status fail(fastlstm_status status, const char* format, ...) {
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(last_error, sizeof last_error, format, values);
  va_end(values);
  return status;
}

template <class Body>
fastlstm_status guarded(const Body& body) {
  try {
    return body();
  } catch (const fastlstm::FileError& error) {
    return fail(FASTLSTM_FILE, "%s", error.what());
  } catch (const std::bad_alloc&) {
    return fail(FASTLSTM_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(FASTLSTM_ARGUMENT, "%s", error.what());
  } catch (...) {
    return fail(FASTLSTM_ARGUMENT, "an unknown exception");
  }
}

fastlstm_status refuse_null(const char* name) { return fail(FASTLSTM_ARGUMENT, "%s: expected a pointer, got NULL", name); }

Index states_of(const fastlstm::Sizes& sizes) { return fastlstm::counts_of(sizes.cell).states; }

// An array by its name: numbers of so many bytes, aligned as they are.
struct Expected {
  const char* name;
  const char* letters;
  std::size_t number;
  int dims;
  Index shape[3];

  bool is(const void* data, std::size_t bytes) const {
    if (data == nullptr) {
      refuse_null(name);
      return false;
    }
    if (reinterpret_cast<std::uintptr_t>(data) % number != 0) {
      fail(FASTLSTM_ARGUMENT, "%s: expected an array aligned as its numbers of %zu bytes are", name, number);
      return false;
    }
    std::size_t expected = number;
    bool counts = true;
    for (int k = 0; k < dims; ++k)
      counts = counts && !__builtin_mul_overflow(expected, static_cast<std::size_t>(shape[k]), &expected);
    if (counts && bytes == expected) return true;
    char sizes[80] = "";
    for (int k = 0, at = 0; k < dims; ++k)
      at += std::snprintf(sizes + at, sizeof sizes - static_cast<std::size_t>(at), "%s%lld", k == 0 ? "" : ", ",
                          static_cast<long long>(shape[k]));
    fail(FASTLSTM_ARGUMENT, "%s: expected (%s) = (%s) numbers of %zu bytes, got %zu bytes", name, letters, sizes, number, bytes);
    return false;
  }
  template <class Array>
  bool is_or_none(const Array& array) const {
    return (array.data == nullptr && array.bytes == 0) || is(array.data, array.bytes);
  }
};

template <class Array>
bool is_none(const char* name, const Array& array) {
  if (array.data == nullptr && array.bytes == 0) return true;
  fail(FASTLSTM_ARGUMENT, "%s: a GRU has none", name);
  return false;
}

// Whether a call is as the header says. No: what is wrong was said.
bool is_right(const fastlstm::Sizes& s, std::size_t number, const fastlstm_call& call) {
  const Index L = call.length;
  const Index N = call.batch;
  if (L < 1 || N < 1 || call.threads < 1) {
    fail(FASTLSTM_ARGUMENT, "length, batch, threads: expected at least 1 each, got %lld, %lld, %d", static_cast<long long>(L),
         static_cast<long long>(N), call.threads);
    return false;
  }
  const auto h = [&](const char* name) { return Expected{name, "num_layers*D, N, out", number, 3, {s.chains(), N, s.out()}}; };
  const auto c = [&](const char* name, const auto& array) {
    if (states_of(s) == 1) return is_none(name, array);
    return Expected{name, "num_layers*D, N, H", number, 3, {s.chains(), N, s.H}}.is_or_none(array);
  };
  return Expected{"x", "L, N, I", number, 3, {L, N, s.I}}.is(call.x.data, call.x.bytes) && h("h_0").is_or_none(call.h_0) &&
         c("c_0", call.c_0) && Expected{"lengths", "N", sizeof(Index), 1, {N}}.is_or_none(call.lengths) &&
         Expected{"reset", "L, N", 1, 2, {L, N}}.is_or_none(call.reset) &&
         Expected{"output", "L, N, D*out", number, 3, {L, N, s.D * s.out()}}.is(call.output.data, call.output.bytes) &&
         h("h_n").is_or_none(call.h_n) && c("c_n", call.c_n);
}

template <class Real>
fastlstm_status run(const fastlstm::Sizes& sizes, const fastlstm::TrainedWeights<Real>& weights, const fastlstm_call& call) {
  const fastlstm::Resets resets{static_cast<const bool*>(call.reset.data), call.batch, 1};
  const auto* const lengths = static_cast<const Index*>(call.lengths.data);
  const bool is_ragged = lengths != nullptr || resets.data != nullptr;
  const auto batch = is_ragged ? fastlstm::Batch::padded(sizes, call.length, call.batch, lengths, resets, false)
                               : std::optional(fastlstm::Batch::dense(sizes, call.length, call.batch));
  if (!batch) return fail(FASTLSTM_ARGUMENT, "lengths: expected numbers from 0 to L = %lld", static_cast<long long>(call.length));
  std::vector<Real> own_h;  // where they are not wanted
  std::vector<Real> own_c;
  const auto state = [&](void* given, std::vector<Real>& own, Index features) {
    if (given == nullptr) own.resize(static_cast<std::size_t>(sizes.chains() * call.batch * features));
    return given == nullptr ? own.data() : given;
  };
  const bool has_c = states_of(sizes) > 1;
  void* const h_n = state(call.h_n.data, own_h, sizes.out());
  void* const c_n = has_c ? state(call.c_n.data, own_c, sizes.H) : nullptr;
  batch->clear(call.output.data, sizes.D * sizes.out() * static_cast<Index>(sizeof(Real)));
  batch->carry(call.h_0.data, h_n, sizes.out() * static_cast<Index>(sizeof(Real)));
  if (has_c) batch->carry(call.c_0.data, c_n, sizes.H * static_cast<Index>(sizeof(Real)));
  constexpr auto real = fastlstm::Element::real;
  const fastlstm::Inputs<Real> inputs{{call.x.data, real, fastlstm::rows_or_null(batch->places)},
                                      {call.h_0.data, real, fastlstm::rows_or_null(batch->initial)},
                                      {call.c_0.data, real, fastlstm::rows_or_null(batch->initial)},
                                      weights.chains.data(),
                                      nullptr,
                                      weights.packed.get()};
  const fastlstm::Outputs<Real> outputs{{call.output.data, real, fastlstm::rows_or_null(batch->places)},
                                        {h_n, real, fastlstm::rows_or_null(batch->final)},
                                        {c_n, real, fastlstm::rows_or_null(batch->final)}};
  fastlstm::forward<Real>(batch->problem, inputs, outputs, nullptr, call.threads);
  return FASTLSTM_OK;
}

template <class Load>
fastlstm_status make_layer(fastlstm_layer** layer, const Load& load) {
  if (layer == nullptr) return refuse_null("layer");
  *layer = nullptr;
  return guarded([&] {
    *layer = new fastlstm_layer{load()};
    return FASTLSTM_OK;
  });
}

// x and y of a stream's call: how many steps. Nothing: what is wrong was said.
std::optional<Index> steps_of(const fastlstm_stream* stream, const void* x, std::size_t x_bytes, const void* y,
                              std::size_t y_bytes) {
  if (stream == nullptr) return (void)refuse_null("stream"), std::nullopt;
  const std::size_t number = stream->number();
  const std::size_t frame =
      static_cast<std::size_t>(stream->batch * stream->sizes.I) * number;  // the stream was made: it is countable
  const auto steps = static_cast<Index>(x_bytes / frame);
  const Expected frames{"x", "L, N, I", number, 3, {steps, stream->batch, stream->sizes.I}};
  const Expected results{"y", "L, N, out", number, 3, {steps, stream->batch, stream->sizes.out()}};
  if (!frames.is(x, x_bytes) || !results.is(y, y_bytes)) return std::nullopt;
  return steps;
}

void run_steps(fastlstm_stream* stream, Index steps, const void* x, void* y) {
  std::visit(
      [&](auto& s) {
        using Real = typename std::decay_t<decltype(*s)>::Element;
        s->block(steps, static_cast<const Real*>(x), static_cast<Real*>(y));
      },
      stream->stream);
}

bool is_state(const fastlstm_stream* stream, const void* h, std::size_t h_bytes, const void* c, std::size_t c_bytes) {
  if (stream == nullptr) return refuse_null("stream") == FASTLSTM_OK;
  const fastlstm::Sizes& s = stream->sizes;
  if (!Expected{"h", "num_layers, N, out", stream->number(), 3, {s.layers, stream->batch, s.out()}}.is(h, h_bytes)) return false;
  if (states_of(s) == 1) return is_none("c", fastlstm_in{c, c_bytes});
  return Expected{"c", "num_layers, N, H", stream->number(), 3, {s.layers, stream->batch, s.H}}.is(c, c_bytes);
}

}  // namespace

const char* fastlstm_error(void) { return last_error; }

const char* fastlstm_version(void) { return FASTLSTM_VERSION; }

fastlstm_status fastlstm_layer_load(const char* path, const char* prefix, fastlstm_layer** layer) {
  if (path == nullptr) return refuse_null("path");
  return make_layer(layer, [&] { return fastlstm::Checkpoint::load(path, prefix == nullptr ? "" : prefix); });
}

fastlstm_status fastlstm_layer_read(const void* file, std::size_t bytes, const char* prefix, fastlstm_layer** layer) {
  if (file == nullptr) return refuse_null("file");
  return make_layer(layer, [&] { return fastlstm::Checkpoint::read(file, bytes, prefix == nullptr ? "" : prefix); });
}

fastlstm_status fastlstm_layer_sizes(const fastlstm_layer* layer, fastlstm_sizes* sizes) {
  if (layer == nullptr) return refuse_null("layer");
  if (sizes == nullptr) return refuse_null("sizes");
  const fastlstm::Sizes& s = layer->checkpoint.sizes;
  *sizes = {s.cell == fastlstm::CellKind::gru ? FASTLSTM_GRU : FASTLSTM_LSTM,       s.I, s.H, s.P, s.layers, s.D, s.out(),
            layer->checkpoint.weights.index() == 0 ? sizeof(float) : sizeof(double)};
  return FASTLSTM_OK;
}

void fastlstm_layer_free(fastlstm_layer* layer) { delete layer; }

fastlstm_status fastlstm_run(const fastlstm_layer* layer, const fastlstm_call* call) {
  if (layer == nullptr) return refuse_null("layer");
  if (call == nullptr) return refuse_null("call");
  const fastlstm::Checkpoint& checkpoint = layer->checkpoint;
  return guarded([&] {
    const std::size_t number = checkpoint.weights.index() == 0 ? sizeof(float) : sizeof(double);
    if (!is_right(checkpoint.sizes, number, *call)) return FASTLSTM_ARGUMENT;
    return std::visit([&](const auto& weights) { return run(checkpoint.sizes, weights, *call); }, checkpoint.weights);
  });
}

fastlstm_status fastlstm_stream_new(const fastlstm_layer* layer, int64_t batch, fastlstm_stream** stream) {
  if (layer == nullptr) return refuse_null("layer");
  if (stream == nullptr) return refuse_null("stream");
  *stream = nullptr;
  if (batch < 1) return fail(FASTLSTM_ARGUMENT, "batch: expected at least 1, got %lld", static_cast<long long>(batch));
  return guarded([&] {
    auto made = std::make_unique<fastlstm_stream>(fastlstm_stream{layer->checkpoint.sizes, batch, {}});
    std::visit(
        [&]<class Real>(const fastlstm::TrainedWeights<Real>& weights) {
          made->stream = std::make_unique<fastlstm::Stream<Real>>(weights.packed, batch);
        },
        layer->checkpoint.weights);
    *stream = made.release();
    return FASTLSTM_OK;
  });
}

void fastlstm_stream_free(fastlstm_stream* stream) { delete stream; }

fastlstm_status fastlstm_stream_copy(const fastlstm_stream* stream, fastlstm_stream** copy) {
  if (stream == nullptr) return refuse_null("stream");
  if (copy == nullptr) return refuse_null("copy");
  *copy = nullptr;
  return guarded([&] {
    auto made = std::make_unique<fastlstm_stream>(fastlstm_stream{stream->sizes, stream->batch, {}});
    std::visit(
        [&](const auto& s) {
          using One = std::decay_t<decltype(*s)>;
          made->stream = std::make_unique<One>(*s);
        },
        stream->stream);
    *copy = made.release();
    return FASTLSTM_OK;
  });
}

fastlstm_status fastlstm_step(fastlstm_stream* stream, const void* x, std::size_t x_bytes, void* y, std::size_t y_bytes) {
  const auto steps = steps_of(stream, x, x_bytes, y, y_bytes);
  if (!steps) return FASTLSTM_ARGUMENT;
  if (*steps != 1) return fail(FASTLSTM_ARGUMENT, "x: expected one step, got %lld", static_cast<long long>(*steps));
  run_steps(stream, 1, x, y);
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_block(fastlstm_stream* stream, const void* x, std::size_t x_bytes, void* y, std::size_t y_bytes) {
  const auto steps = steps_of(stream, x, x_bytes, y, y_bytes);
  if (!steps) return FASTLSTM_ARGUMENT;
  run_steps(stream, *steps, x, y);
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_reset(fastlstm_stream* stream, int64_t row) {
  if (stream == nullptr) return refuse_null("stream");
  if (row < -1 || row >= stream->batch)
    return fail(FASTLSTM_ARGUMENT, "row: expected one from 0 to %lld, or -1, got %lld", static_cast<long long>(stream->batch - 1),
                static_cast<long long>(row));
  std::visit([&](auto& s) { s->reset(row); }, stream->stream);
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_get_state(const fastlstm_stream* stream, void* h, std::size_t h_bytes, void* c, std::size_t c_bytes) {
  if (!is_state(stream, h, h_bytes, c, c_bytes)) return FASTLSTM_ARGUMENT;
  std::visit(
      [&](const auto& s) {
        using Real = typename std::decay_t<decltype(*s)>::Element;
        s->get_state(static_cast<Real*>(h), static_cast<Real*>(c));
      },
      stream->stream);
  return FASTLSTM_OK;
}

fastlstm_status fastlstm_set_state(fastlstm_stream* stream, const void* h, std::size_t h_bytes, const void* c,
                                   std::size_t c_bytes) {
  if (!is_state(stream, h, h_bytes, c, c_bytes)) return FASTLSTM_ARGUMENT;
  std::visit(
      [&](auto& s) {
        using Real = typename std::decay_t<decltype(*s)>::Element;
        s->set_state(static_cast<const Real*>(h), static_cast<const Real*>(c));
      },
      stream->stream);
  return FASTLSTM_OK;
}
