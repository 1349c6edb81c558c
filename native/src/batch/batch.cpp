#include "fastlstm/batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fastlstm {

namespace {

using Index = std::int64_t;

// Whether no two rows share a place: each would write its output there.
bool apart(const Index* starts, const std::vector<Index>& lengths) {
  std::vector<std::pair<Index, Index>> filled;
  for (std::size_t n = 0; n < lengths.size(); ++n)
    if (lengths[n] > 0) filled.emplace_back(starts[n], lengths[n]);
  std::sort(filled.begin(), filled.end());
  for (std::size_t k = 1; k < filled.size(); ++k)
    if (filled[k - 1].first + filled[k - 1].second > filled[k].first) return false;
  return true;
}

}  // namespace

Batch Batch::dense(const Sizes& sizes, Index T, Index N) { return Batch(sizes.problem(N == 0 ? 1 : T, N)); }

std::optional<Batch> Batch::packed(const Sizes& sizes, const Index* batch_sizes, Index T, Index rows) {
  std::vector<Index> steps(batch_sizes, batch_sizes + T);
  for (std::size_t t = 0; t < steps.size(); ++t) {
    if (steps[t] < 0 || steps[t] > rows || (t > 0 && steps[t] > steps[t - 1])) return {};
    rows -= steps[t];
  }
  if (rows != 0) return {};
  while (!steps.empty() && steps.back() == 0) steps.pop_back();  // steps that no row has
  Batch batch(steps.empty() ? sizes.problem(1, 0) : sizes.problem(static_cast<Index>(steps.size()), steps[0], steps));
  batch.is_packed_ = true;
  return batch;
}

std::optional<Batch> Batch::padded(const Sizes& sizes, Index T, Index N, const Index* lengths, const Resets& resets,
                                   bool batch_first) {
  const auto fits = [&](Index length) { return 0 <= length && length <= T; };
  if (lengths != nullptr && !std::all_of(lengths, lengths + N, fits)) return {};
  Segments segments(T, N, lengths, resets);
  if (segments.whole() && !batch_first) return dense(sizes, T, N);
  return ragged(sizes, std::move(segments), nullptr, batch_first ? 1 : N, batch_first ? T : 1, T * N);
}

std::optional<Batch> Batch::jagged(const Sizes& sizes, Index N, const Index* starts, const Index* lengths, Index places) {
  std::vector<Index> own(static_cast<std::size_t>(N));
  Index T = 0;
  for (Index n = 0; n < N; ++n) {
    Index& length = own[static_cast<std::size_t>(n)];
    if (starts[n] < 0 || starts[n] > places) return {};
    if (lengths != nullptr) {
      length = lengths[n];
    } else if (__builtin_sub_overflow(starts[n + 1], starts[n], &length)) {
      return {};
    }
    if (length < 0 || length > places - starts[n]) return {};
    T = std::max(T, length);
  }
  if (lengths != nullptr && !apart(starts, own)) return {};  // else a row ends where the next one starts
  Batch batch = ragged(sizes, Segments(T, N, own.data(), {}), starts, 1, 0, places);
  batch.is_jagged_ = true;
  return batch;
}

Batch Batch::ragged(const Sizes& sizes, Segments segments, const Index* starts, Index step, Index row, Index x_rows) {
  const std::vector<Index>& steps = segments.batch_sizes();
  Batch batch(sizes.problem(std::max<Index>(1, static_cast<Index>(steps.size())), segments.count(), steps));
  batch.places.resize(static_cast<std::size_t>(segments.steps()));
  batch.initial.resize(static_cast<std::size_t>(sizes.layers * sizes.D * segments.count()));
  batch.final.resize(batch.initial.size());
  segments.places(step, row, starts, batch.places.data());
  segments.initial(sizes.layers, sizes.D, batch.initial.data());
  segments.final(sizes.layers, sizes.D, batch.final.data());
  batch.x_rows_ = x_rows;
  batch.step_ = step;
  batch.row_ = row;
  batch.segments_ = std::move(segments);
  return batch;
}

std::vector<Index> Batch::rows_of_masks() const {
  if (!segments_ || is_jagged_) return places;
  std::vector<Index> rows(places.size());
  segments_->places(segments_->N(), 1, nullptr, rows.data());
  return rows;
}

void Batch::clear(void* array, Index width) const {
  if (fills()) return;
  if (is_jagged_ || segments_->N() == 0) {  // with holes, or nothing but one
    std::memset(array, 0, static_cast<std::size_t>(x_rows_ * width));
  } else {
    segments_->clear(step_, row_, width, array);
  }
}

void Batch::clear_state(void* array, Index width) const {
  if (segments_) std::memset(array, 0, static_cast<std::size_t>(problem.layers * problem.D * segments_->N() * width));
}

void Batch::carry(const void* from, void* to, Index width) const {
  if (segments_) segments_->carry(problem.layers * problem.D, width, from, to);
}

}  // namespace fastlstm
