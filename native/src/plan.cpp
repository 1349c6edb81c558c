#include "plan.h"

namespace fastlstm {

namespace {

using Index = std::int64_t;

constexpr double kFlopsPerMicrosecond = 40e3;       // of one core, on the small sizes where the choice matters
constexpr double kPeakFlopsPerMicrosecond = 100e3;  // of one core, in full tiles
constexpr double kBarrierMicroseconds = 1;
constexpr double kWorthMicroseconds = 20;  // of work for each thread, or waking it costs more than it does
constexpr double kL2Bytes = 512 << 10;     // per core: weights beyond it come from L3 or memory
constexpr double kStreamBytesPerMicrosecond = 12e3;

// The time of one step for one thread that has `rows` rows and `1 / parts` of the units.
double step_microseconds(double rows, double parts, double weights, double bytes) {
  const double flops = 2 * rows * weights / parts / kPeakFlopsPerMicrosecond;
  const double streamed = weights * bytes / parts;
  const double stream = streamed > kL2Bytes ? streamed / kStreamBytesPerMicrosecond : 0;
  return flops + stream;  // they overlap little: a panel is used as soon as it has come
}

}  // namespace

Plan plan_layer(const Problem& problem, Index in, int threads, Index bytes, bool has_tiles) {
  Plan plan{};
  plan.by_direction = problem.D == 2 && threads >= 2 && threads % 2 == 0;
  const int team = plan.by_direction ? threads / 2 : threads;
  const bool tiled = has_tiles && problem.T > 1 && in >= kTiledSize && problem.H >= kTiledSize;
  const double N = static_cast<double>(problem.rows()) / static_cast<double>(problem.T);
  const double weights = 4 * static_cast<double>(problem.H) * static_cast<double>(problem.out() + (N < 12 || tiled ? 0 : in));
  if (team > 1) {
    const double rows = static_cast<double>((static_cast<Index>(N) + team - 1) / team);
    const double by_rows = step_microseconds(rows < 1 ? 1 : rows, 1, weights, static_cast<double>(bytes));
    const double by_unit =
        step_microseconds(N, team, weights, static_cast<double>(bytes)) + kBarrierMicroseconds * (problem.P > 0 ? 2 : 1);
    plan.by_unit = 1.3 * by_unit < by_rows && problem.H >= 16 * team;
  }
  const double rows_each = plan.by_unit ? N : N / team;
  plan.tiled = tiled;
  plan.project = plan.tiled || (problem.T > 1 && rows_each < 12);
  return plan;
}

int useful_threads(const Problem& problem, int threads, bool training, Index bytes) {
  const double macs = static_cast<double>(problem.rows()) * 4 * static_cast<double>(problem.H) *
                      static_cast<double>(problem.layer_input(0) + problem.out() +
                                          (problem.layers - 1) * (problem.layer_input(1) + problem.out())) *
                      static_cast<double>(problem.D) * (training ? 2 : 1);
  const double worth = 2 * macs / kFlopsPerMicrosecond / kWorthMicroseconds;
  const int useful = worth < threads ? (worth < 1 ? 1 : static_cast<int>(worth)) : threads;
  const Plan plan = plan_layer(problem, problem.I, useful, bytes, false);
  // One row in one direction, and its units not worth a barrier a step: the others would only wait.
  if (problem.N == 1 && problem.T > 1 && !plan.by_unit && !plan.by_direction && !training) return 1;
  return useful;
}

Range share(Index count, int rank, int size) { return {count * rank / size, count * (rank + 1) / size}; }

Range share_rows(const Problem& problem, int rank, int size) {
  const Index total = problem.rows();
  if (total == problem.T * problem.N) return share(problem.N, rank, size);
  // The first n rows of the batch have sum over t of min(n, batch(t)) rows of the sequence.
  const auto boundary = [&](int part) {
    if (part == size) return problem.N;
    Index low = 0;
    Index high = problem.N;
    while (low < high) {
      const Index n = (low + high) / 2;
      Index rows = 0;
      for (Index t = 0; t < problem.T; ++t) rows += n < problem.batch(t) ? n : problem.batch(t);
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
