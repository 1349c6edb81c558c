// What the page asks of the engine: a layer by seed or from a file, a call with its trace, and the sums of one unit at one step.
// Numbers go out as doubles. A function that can fail returns false, and `said` has the reason.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <iterator>
#include <limits>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "fastlstm/batch.h"
#include "fastlstm/checkpoint.h"
#include "fastlstm/engine.h"
#include "isa/vec.h"

#define LIVE_EXPORT extern "C" __attribute__((used, visibility("default")))

using fastlstm::BFloat16;
using fastlstm::CellKind;
using fastlstm::Checkpoint;
using fastlstm::Element;
using fastlstm::Float16;
using fastlstm::Sizes;
using fastlstm::TrainedWeights;
using Index = std::int64_t;
using Numbers = std::vector<double>;

namespace {

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// The layer and its last call. There is one page.
Checkpoint layer{};
Element element = Element::real;  // what its numbers are rounded to
Index T = 0;
Index N = 0;
bool batch_first = false;
std::vector<Index> lengths;         // (N)
std::vector<unsigned char> resets;  // as x without its features
Numbers x;
std::vector<Numbers> results;  // output, h_n, an LSTM's c_n; what a step computes of each chain; the outputs of the lower layers
std::vector<unsigned char> bytes;
Numbers sums;
std::string error;

template <class Body>
bool guarded(const Body& body) {
  try {
    body();
    return true;
  } catch (const std::bad_alloc&) {
    error = "out of memory";
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  return false;
}

template <class Narrow>
float rounded(float number) {
  Narrow narrow;
  fastlstm::FASTLSTM_ISA::round_to(narrow, number);
  return fastlstm::FASTLSTM_ISA::widened(narrow);
}
double as_element(double number) {
  if (element == Element::bfloat16) return rounded<BFloat16>(static_cast<float>(number));
  if (element == Element::float16) return rounded<Float16>(static_cast<float>(number));
  return number;
}

// torch's generator and its uniform_ on a CPU, so that a seed means the same here and there: as many random bits as the type has
// digits. 16-bit numbers are drawn as floats and rounded; the end, which some are rounded to, is the beginning.
template <class Real>
class Uniform {
 public:
  Uniform(std::uint32_t seed, double bound) : random_(seed), from_(static_cast<Real>(-bound)), width_(-2 * from_) {}
  Real operator()() {
    std::uint64_t bits = random_();
    if (sizeof(Real) == sizeof(double)) bits = bits << 32 | random_();
    constexpr std::uint64_t kOne = std::uint64_t{1} << std::numeric_limits<Real>::digits;
    const double share = static_cast<double>(bits & (kOne - 1)) / static_cast<double>(kOne);
    const Real exact = static_cast<Real>(std::fma(share, static_cast<double>(width_), static_cast<double>(from_)));
    const double number = as_element(exact);
    return static_cast<Real>(number == as_element(-from_) ? -number : number);
  }

 private:
  std::mt19937 random_;
  Real from_;
  Real width_;
};

// As `reset_parameters` leaves a layer after `torch.manual_seed(seed)`.
template <class Real>
TrainedWeights<Real> weights_by_seed(const Checkpoint& of, std::uint32_t seed) {
  const Sizes& s = of.sizes;
  Uniform<Real> next(seed, 1 / std::sqrt(static_cast<double>(s.H)));
  TrainedWeights<Real> all;
  const auto array = [&](Index count) -> fastlstm::Source<Real> {
    std::vector<Real>& numbers = all.arrays.emplace_back(size(count));
    for (Real& number : numbers) number = next();
    return numbers.data();
  };
  const Index rows = counts_of(s.cell).gates * s.H;
  for (Index chain = 0; chain < s.chains(); ++chain) {
    fastlstm::Weights<Real> weights;
    weights.w_ih = array(rows * s.input(chain / s.D));
    weights.w_hh = array(rows * s.out());
    if (of.bias) {
      weights.b_ih = array(rows);
      weights.b_hh = array(rows);
    }
    if (s.P > 0) weights.w_hr = array(s.P * s.H);
    all.chains.push_back(weights);
  }
  return all;
}

Index place(Index t, Index n) { return batch_first ? n * T + t : t * N + n; }

// The array `output`, `h_n`, .. of a call as doubles.
template <class Real>
void keep(const std::vector<Real>& numbers) {
  Numbers& kept = results.emplace_back(numbers.begin(), numbers.end());
  if (element != Element::real) std::transform(kept.begin(), kept.end(), kept.begin(), as_element);
}

template <class Real>
void run(const TrainedWeights<Real>& weights) {
  using Array = std::vector<Real>;
  const Sizes& s = layer.sizes;
  const fastlstm::CellCounts counts = counts_of(s.cell);
  const fastlstm::Resets where{reinterpret_cast<const bool*>(resets.data()), batch_first ? 1 : N, batch_first ? T : 1};
  const std::optional<fastlstm::Batch> batch = fastlstm::Batch::padded(s, T, N, lengths.data(), where, batch_first);
  if (!batch) throw std::invalid_argument("lengths: expected each to be from 0 to L");
  const Array input(x.begin(), x.end());
  Array output(size(T * N * s.D * s.out()));
  Array h_n(size(s.chains() * N * s.out()));
  Array c_n(size(counts.states > 1 ? s.chains() * N * s.H : 0));
  std::vector<Array> steps(size(counts.steps * s.chains()), Array(size(T * N * s.H)));
  std::vector<Array> hidden(size(s.layers - 1), Array(output.size()));

  const Index* const places = fastlstm::rows_or_null(batch->places);
  const Index* const final = fastlstm::rows_or_null(batch->final);
  const auto to = [&](Array& array) { return fastlstm::Target<Real>{array.data(), Element::real, places}; };
  fastlstm::Inputs<Real> inputs{{input.data(), Element::real, places}, {}, {}, weights.chains.data(), nullptr};
  fastlstm::Outputs<Real> outputs{to(output), {h_n.data(), Element::real, final}, {}};
  if (!c_n.empty()) outputs.c_n = {c_n.data(), Element::real, final};
  const fastlstm::Workspace saved(size(saved_size<Real>(batch->problem)) * sizeof(Real));
  fastlstm::forward<Real>(batch->problem, inputs, outputs, static_cast<Real*>(saved.data()), 1);
  std::vector<fastlstm::Target<Real>> to_steps;
  std::vector<fastlstm::Target<Real>> to_hidden;
  std::transform(steps.begin(), steps.end(), std::back_inserter(to_steps), to);
  std::transform(hidden.begin(), hidden.end(), std::back_inserter(to_hidden), to);
  fastlstm::trace<Real>(batch->problem, static_cast<const Real*>(saved.data()), to_steps.data(), to_hidden.data(), 1);

  results.clear();
  keep(output);
  keep(h_n);
  if (!c_n.empty()) keep(c_n);
  for (const Array& array : steps) keep(array);
  for (const Array& array : hidden) keep(array);
}

// The step whose state step t of row n reads, or -1: zeros. In the reverse direction that is the next one.
Index step_before(Index t, Index n, Index direction) {
  const Index before = direction == 0 ? t - 1 : t + 1;
  if (before < 0 || before >= lengths[size(n)] || resets[size(place(std::max(t, before), n))] != 0) return -1;
  return before;
}

// What gate after gate adds up for one unit, W x_t, R h_{t-1}, b_ih, b_hh and both biases together; then an LSTM's c_{t-1}, and
// h_{t-1}.
template <class Real>
void add_up(const TrainedWeights<Real>& weights, Index chain, Index n, Index t, Index unit) {
  const Sizes& s = layer.sizes;
  const fastlstm::CellCounts counts = counts_of(s.cell);
  const auto& [w_ih, w_hh, b_ih, b_hh, w_hr] = weights.chains[size(chain)];
  const Index k = chain / s.D;
  const Index direction = chain % s.D;
  const std::size_t steps = size(1 + counts.states);
  const std::size_t hidden = steps + size(counts.steps * s.chains());
  const Numbers& below = k == 0 ? x : results[hidden + size(k - 1)];
  const Numbers& above = k == s.layers - 1 ? results[0] : results[hidden + size(k)];
  const Index before = step_before(t, n, direction);
  Numbers h(size(s.out()));
  if (before >= 0) {
    const auto from = above.begin() + (place(before, n) * s.D + direction) * s.out();
    h.assign(from, from + s.out());
  }
  const auto product = [](const fastlstm::Source<Real>& matrix, Index row, const double* vector, Index width) {
    const Real* const of_row = static_cast<const Real*>(matrix.data) + row * width;
    double sum = 0;
    for (Index j = 0; j < width; ++j) sum += static_cast<double>(of_row[j]) * vector[j];
    return sum;
  };
  const auto bias = [](const fastlstm::Source<Real>& of, Index row) {
    return of == nullptr ? 0.0 : static_cast<double>(static_cast<const Real*>(of.data)[row]);
  };
  sums.clear();
  for (Index gate = 0; gate < counts.gates; ++gate) {
    const Index row = gate * s.H + unit;
    sums.push_back(product(w_ih, row, below.data() + place(t, n) * s.input(k), s.input(k)));
    sums.push_back(product(w_hh, row, h.data(), s.out()));
    sums.push_back(bias(b_ih, row));
    sums.push_back(bias(b_hh, row));
    sums.push_back(bias(b_ih, row) + bias(b_hh, row));
  }
  if (counts.states > 1)
    sums.push_back(before < 0 ? 0 : results[steps + size(chain * counts.steps)][size(place(before, n) * s.H + unit)]);
  sums.insert(sums.end(), h.begin(), h.end());
}

}  // namespace

// Memory of the page's, for what it hands over.
LIVE_EXPORT void* take(std::size_t count) { return ::operator new(count, std::nothrow); }
LIVE_EXPORT void give(void* memory) { ::operator delete(memory); }

LIVE_EXPORT const char* said() { return error.c_str(); }
LIVE_EXPORT const char* instructions() {
  static const std::string name = fastlstm::isa();
  return name.c_str();
}

// dtype: 0 float32, 1 float64, 2 bfloat16, 3 float16.
LIVE_EXPORT bool create(int cell, int I, int H, int P, int layers, int D, bool bias, int dtype, std::uint32_t seed) {
  return guarded([&] {
    const Element before = std::exchange(element, dtype == 2 ? Element::bfloat16 : dtype == 3 ? Element::float16 : Element::real);
    try {
      Checkpoint made{{I, H, P, layers, D, cell == 1 ? CellKind::gru : CellKind::lstm}, bias, {}};
      if (dtype == 1) {
        made.weights = weights_by_seed<double>(made, seed);
      } else {
        made.weights = weights_by_seed<float>(made, seed);
      }
      layer = std::move(made);
    } catch (...) {
      element = before;
      throw;
    }
    results.clear();
  });
}

// From the bytes of a safetensors file. prefix: of the names in it.
LIVE_EXPORT bool load(const unsigned char* file, std::size_t count, const char* prefix) {
  return guarded([&] {
    layer = Checkpoint::read(file, count, prefix);
    element = Element::real;
    results.clear();
  });
}

// 0 cell (0: LSTM, 1: GRU), 1 I, 2 H, 3 P, 4 layers, 5 D, 6 bias, 7 dtype.
LIVE_EXPORT int setting(int which) {
  const Sizes& s = layer.sizes;
  const int dtype = element == Element::bfloat16 ? 2 : element == Element::float16 ? 3 : static_cast<int>(layer.weights.index());
  const Index all[] = {s.cell == CellKind::gru, s.I, s.H, s.P, s.layers, s.D, layer.bias, dtype};
  return static_cast<int>(all[which]);
}

// Parameter k, in the order of `parameters()`, as bytes of its dtype; `size_of_parameter` of them.
LIVE_EXPORT const unsigned char* parameter(int k) {
  std::visit(
      [&](const auto& weights) {
        const auto& array = weights.arrays[size(k)];
        const auto* const from = reinterpret_cast<const unsigned char*>(array.data());
        bytes.assign(from, from + array.size() * sizeof array[0]);
        if (element == Element::real) return;
        for (std::size_t j = 0; j < array.size(); ++j) {
          std::uint16_t bits;
          const auto round = [&](auto narrow) {
            fastlstm::FASTLSTM_ISA::round_to(narrow, static_cast<float>(array[j]));
            bits = narrow.bits;
          };
          element == Element::bfloat16 ? round(BFloat16{}) : round(Float16{});
          bytes[2 * j] = static_cast<unsigned char>(bits & 0xFF);
          bytes[2 * j + 1] = static_cast<unsigned char>(bits >> 8);
        }
        bytes.resize(array.size() * 2);
      },
      layer.weights);
  return bytes.data();
}
LIVE_EXPORT std::size_t size_of_parameter() { return bytes.size(); }

// from: (steps, rows, I), or (rows, steps, I) with first. ends: (rows), where each ends; anew: as `from` without features.
LIVE_EXPORT bool run(const double* from, int steps, int rows, bool first, const int* ends, const unsigned char* anew) {
  return guarded([&] {
    results.clear();
    T = steps;
    N = rows;
    batch_first = first;
    x.assign(from, from + T * N * layer.sizes.I);
    if (element != Element::real) std::transform(x.begin(), x.end(), x.begin(), as_element);
    lengths.assign(ends, ends + N);
    resets.assign(anew, anew + T * N);
    std::visit([](const auto& weights) { run(weights); }, layer.weights);
  });
}

LIVE_EXPORT const double* result(int k) { return results[size(k)].data(); }
LIVE_EXPORT int size_of_result(int k) { return static_cast<int>(results[size(k)].size()); }

// As `add_up`; chain: layer * D + direction. After a run, of a step that the row has.
LIVE_EXPORT const double* explain(int chain, int row, int step, int unit) {
  std::visit([&](const auto& weights) { add_up(weights, chain, row, step, unit); }, layer.weights);
  return sums.data();
}
LIVE_EXPORT int size_of_explanation() { return static_cast<int>(sums.size()); }
