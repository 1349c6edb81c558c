#include "plan/split.h"

#include <algorithm>
#include <cmath>

namespace fastlstm {
namespace {

constexpr double kPeakFlopsPerMicrosecond = 100e3;   // of one core, in full tiles
constexpr double kBarrierMicroseconds = 0.3;         // 0.05 to 0.15 of it between two idle cores, the rest unequal work
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

Split split_steps(const Problem& problem, std::int64_t in, int threads, const Machine& machine, bool one_by_one) {
  Split split{};
  split.by_direction = !one_by_one && problem.D == 2 && threads >= 2 && threads % 2 == 0;
  split.team = split.by_direction ? threads / 2 : threads;
  split.rows = static_cast<double>(problem.rows()) / static_cast<double>(problem.T);
  const double weights = static_cast<double>(machine.gates * problem.H) * static_cast<double>(problem.out() + in);
  split.far = weights * (split.by_direction ? 2 : 1) * static_cast<double>(machine.weight_bytes) > kFarBytes;
  if (split.team == 1) return split;
  const double rows = std::max(1.0, std::ceil(split.rows / split.team));
  const double barriers = kBarrierMicroseconds * (problem.P > 0 ? 2 : 1);
  const double by_rows = step_microseconds(rows, 1, weights, split.far, machine);
  const double by_unit = step_microseconds(split.rows, split.team, weights, split.far, machine) + barriers;
  // Members by units wait for each other at every step; where the steps are that long, it matters less.
  const double waiting = split.far ? 1.1 : 1.3;
  split.by_unit = waiting * by_unit < by_rows && problem.H >= 16 * split.team;
  return split;
}

}  // namespace fastlstm
