#include "plan.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace fastlstm {

namespace {

using Index = std::int64_t;

constexpr double kFlopsPerMicrosecond = 40e3;        // of one core, on the small sizes where the choice matters
constexpr double kPeakFlopsPerMicrosecond = 100e3;   // of one core, in full tiles
constexpr double kBarrierMicroseconds = 0.3;         // 0.05 to 0.15 of it between two idle cores, the rest unequal work
constexpr double kWorthMicroseconds = 20;            // of work for each thread, or waking it costs more than it does
constexpr double kL2BytesPerMicrosecond = 100e3;     // of one core: few rows wait for their weights
constexpr double kStreamBytesPerMicrosecond = 30e3;  // what does not stay in L2
constexpr double kFarBytesPerMicrosecond = 12e3;     // what does not stay in the caches at all,
constexpr double kFarBytes = 12 << 20;               // as where so many are in use (L3: 32 MiB, shared with nobody knows whom)

// The time of one step for one thread that has `rows` rows and `1 / parts` of the units; far: no cache holds its weights. Of
// weights a little too large for L2 (or for three quarters of it: there are gates and states, too) every other step finds a part
// (Step::backwards).
double step_microseconds(double rows, double parts, double weights, bool far, const Machine& machine) {
  const double each = weights * static_cast<double>(machine.weight_bytes) / parts;
  const double flops = 2 * rows * weights / parts / (machine.products * kPeakFlopsPerMicrosecond);
  const double read = std::ceil(rows / 6) * each / kL2BytesPerMicrosecond;
  const double missing = std::clamp(2 * (each - 0.75 * static_cast<double>(machine.l2_bytes)), 0.0, each);
  return std::max(flops, read) + missing / (far ? kFarBytesPerMicrosecond : kStreamBytesPerMicrosecond);
}

}  // namespace

Plan plan_layer(const Problem& problem, Index in, int threads, const Machine& machine) {
  Plan plan{};
  plan.by_direction = problem.D == 2 && threads >= 2 && threads % 2 == 0;
  const int team = plan.by_direction ? threads / 2 : threads;
  plan.tiled = machine.has_tiles && problem.T > 1 && in >= kTiledSize && problem.H >= kTiledSize;
  const double N = static_cast<double>(problem.rows()) / static_cast<double>(problem.T);
  const double weights = 4 * static_cast<double>(problem.H) * static_cast<double>(problem.out() + (plan.tiled ? 0 : in));
  const bool far = weights * (plan.by_direction ? 2 : 1) * static_cast<double>(machine.weight_bytes) > kFarBytes;
  if (team > 1) {
    const double rows = std::max(1.0, std::ceil(N / team));
    const double barriers = kBarrierMicroseconds * (problem.P > 0 ? 2 : 1);
    const double by_rows = step_microseconds(rows, 1, weights, far, machine);
    const double by_unit = step_microseconds(N, team, weights, far, machine) + barriers;
    // Members by units wait for each other at every step; where the steps are that long, it matters less.
    const double waiting = far ? 1.1 : 1.3;
    plan.by_unit = waiting * by_unit < by_rows && problem.H >= 16 * team;
  }
  // Where a step's own rows would not fill tiles, but those of all steps of a block do. Or where half of the weights then come
  // from memory once a block, not once a step, and the buffer in between is small beside them: 2 N numbers a gate, not `in`. Not
  // by rows: they stand apart in the block.
  const bool worth = N < 12 || (far && 8 * N <= static_cast<double>(in));
  plan.project = plan.tiled || (problem.T > 1 && worth && (plan.by_unit || team == 1));
  return plan;
}

bool fits_pairs(const Problem& problem) {
  return problem.T > 1 && problem.P == 0 && problem.H >= kPairedSize && problem.H % 2 == 0;
}

bool all_bfloat16(const Problem& problem, const Inputs<float>& inputs, Element output) {
  const auto narrow = [](const auto& array) { return array.element == Element::bfloat16; };
  if (!narrow(inputs.x) || output != Element::bfloat16 || !(inputs.h_0 == nullptr || narrow(inputs.h_0))) return false;
  for (Index l = 0; l < problem.layers * problem.D; ++l)
    if (!narrow(inputs.weights[l].w_ih) || !narrow(inputs.weights[l].w_hh)) return false;
  return true;
}

double work_microseconds(const Problem& problem, bool training, const Machine& machine) {
  const double weights = 4 * static_cast<double>(problem.H) *
                         static_cast<double>(problem.layer_input(0) + problem.out() +
                                             (problem.layers - 1) * (problem.layer_input(1) + problem.out())) *
                         static_cast<double>(problem.D);
  const double products = 2 * static_cast<double>(problem.rows()) * weights / kFlopsPerMicrosecond;
  const double each = weights / static_cast<double>(problem.layers);  // a layer ends with a barrier
  const double read = problem.T > 1 ? 0 : each * static_cast<double>(machine.weight_bytes) / kStreamBytesPerMicrosecond;
  return std::max(products, read) * (training ? 2 : 1);
}

int useful_threads(const Problem& problem, int threads, bool training, const Machine& machine) {
  const double worth = work_microseconds(problem, training, machine) / kWorthMicroseconds;
  const int useful = worth < threads ? (worth < 1 ? 1 : static_cast<int>(worth)) : threads;
  const Plan plan = plan_layer(problem, problem.I, useful, machine);
  // One row in one direction, and its units not worth a barrier a step: the others would only wait.
  if (problem.N == 1 && problem.T > 1 && !plan.by_unit && !plan.by_direction && !training) return 1;
  return useful;
}

Index l2_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const Index known = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (known > 0) return known;
#endif
  return Index{512} << 10;
}

Range share(Index count, int rank, int size) { return {count * rank / size, count * (rank + 1) / size}; }

Range share_rows(const Problem& problem, Index t0, Index t1, int rank, int size) {
  const Index total = problem.row(t1) - problem.row(t0);
  if (total == (t1 - t0) * problem.N) return share(problem.N, rank, size);
  // The first n rows of the batch have sum over t of min(n, batch(t)) rows of the sequence.
  const auto boundary = [&](int part) {
    if (part == size) return problem.N;
    Index low = 0;
    Index high = problem.N;
    while (low < high) {
      const Index n = (low + high) / 2;
      Index rows = 0;
      for (Index t = t0; t < t1; ++t) rows += n < problem.batch(t) ? n : problem.batch(t);
      if (rows * size < total * part) {
        low = n + 1;
      } else {
        high = n;
      }
    }
    return low;
  };
  return {boundary(rank), boundary(rank + 1)};
}

}  // namespace fastlstm
