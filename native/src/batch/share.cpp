#include "batch/share.h"

namespace fastlstm {

using Index = std::int64_t;

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
