#include "plan/threads.h"

#include <algorithm>

#include "plan/forward.h"

namespace fastlstm {
namespace {

constexpr double kFlopsPerMicrosecond = 40e3;        // of one core, on the small sizes where the choice matters
constexpr double kStreamBytesPerMicrosecond = 30e3;  // weights that do not stay in L2
constexpr double kWorthMicroseconds = 20;            // of work for each thread, or waking it costs more than it does
constexpr double kCopiedBytes = 512 << 10;           // in as many microseconds

// As many threads as have so much work each, of those there are.
int worth(double microseconds, int threads) {
  return static_cast<int>(std::clamp(microseconds / kWorthMicroseconds, 1.0, static_cast<double>(threads)));
}

}  // namespace

double work_microseconds(const Problem& problem, bool training, const Machine& machine) {
  const double weights = static_cast<double>(machine.gates * problem.H) *
                         static_cast<double>(problem.layer_input(0) + problem.out() +
                                             (problem.layers - 1) * (problem.layer_input(1) + problem.out())) *
                         static_cast<double>(problem.D);
  const double products = 2 * static_cast<double>(problem.rows()) * weights / kFlopsPerMicrosecond;
  const double each = weights / static_cast<double>(problem.layers);  // a layer ends with a barrier
  const double read = problem.T > 1 ? 0 : each * static_cast<double>(machine.weight_bytes) / kStreamBytesPerMicrosecond;
  return std::max(products, read) * (training ? 2 : 1);
}

int useful_threads(const Problem& problem, int threads, bool training, const Machine& machine) {
  const int useful = worth(work_microseconds(problem, training, machine), threads);

  const ForwardPlan plan = plan_forward(problem, problem.I, useful, machine);
  // One row in one direction, and its units not worth a barrier a step: the others would only wait.
  if (problem.N == 1 && problem.T > 1 && !plan.by_unit && !plan.by_direction && !training) return 1;
  return useful;
}

double copy_microseconds(double bytes) { return kWorthMicroseconds * bytes / kCopiedBytes; }
int useful_threads_to_copy(double bytes, int threads) { return worth(copy_microseconds(bytes), threads); }

}  // namespace fastlstm
