// The segments of a batch that is no rectangle.
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "fastlstm/engine.h"

namespace fastlstm {
namespace {

using Index = std::int64_t;

// use(t, n) for every reset, so that a row's come in the order of time.
template <class Use>
void for_resets(const Resets& resets, Index T, Index N, const Use& use) {
  const bool time_inside = resets.step < resets.row;
  const Index outer = time_inside ? N : T;
  const Index inner = time_inside ? T : N;
  const Index outer_stride = time_inside ? resets.row : resets.step;
  const Index inner_stride = time_inside ? resets.step : resets.row;
  for (Index a = 0; a < outer; ++a) {
    // As bytes: a bool of the caller's may be any number but 0.
    const auto* const line = reinterpret_cast<const unsigned char*>(resets.data) + a * outer_stride;
    const auto found = [&](Index b) { time_inside ? use(b, a) : use(a, b); };
    if (inner_stride != 1) {
      for (Index b = 0; b < inner; ++b)
        if (line[b * inner_stride] != 0) found(b);
      continue;
    }
    // Few steps are resets: a byte a step took 8 us of 128 x 64 steps, eight at a time one.
    constexpr Index word = sizeof(std::uint64_t);
    for (Index b = 0; b < inner;) {
      std::uint64_t eight = 1;
      if (b + word <= inner) std::memcpy(&eight, line + b, word);
      const Index end = b + word < inner ? b + word : inner;
      for (; eight != 0 && b < end; ++b)
        if (line[b] != 0) found(b);
      b = end;
    }
  }
}

// The elements of `from` in `to`, stably, by a key from 0 to keys - 1. Returns how many have a smaller key than k, for each k.
template <class Element, class Key>
std::vector<Index> sort_by_count(const std::vector<Element>& from, std::vector<Element>& to, Index keys, const Key& key) {
  std::vector<Index> before(static_cast<std::size_t>(keys) + 1, 0);
  for (const Element& element : from) ++before[static_cast<std::size_t>(key(element)) + 1];
  for (std::size_t k = 1; k < before.size(); ++k) before[k] += before[k - 1];
  std::vector<Index> next = before;
  for (const Element& element : from) to[static_cast<std::size_t>(next[static_cast<std::size_t>(key(element))]++)] = element;
  return before;
}

}  // namespace

Segments::Segments(Index T, Index N, const Index* lengths, const Resets& resets) : T_(T), N_(N), whole_(T > 0) {
  std::vector<Segment> found;
  std::vector<Index> open(static_cast<std::size_t>(N), -1);  // each row's last segment so far
  std::vector<Index> length(static_cast<std::size_t>(N), T);
  const auto at = [](auto& vector, Index k) -> auto& { return vector[static_cast<std::size_t>(k)]; };
  for (Index n = 0; n < N; ++n) {
    if (lengths != nullptr) at(length, n) = lengths[n];
    if (at(length, n) < 0 || at(length, n) > T)
      throw std::invalid_argument("lengths: expected numbers from 0 to L = " + std::to_string(T) + ", got " +
                                  std::to_string(at(length, n)));
    whole_ = whole_ && at(length, n) == T;
    steps_ += at(length, n);
    empty_ = empty_ || at(length, n) == 0;
    if (at(length, n) == 0) continue;
    at(open, n) = static_cast<Index>(found.size());
    found.push_back({n, 0, at(length, n), true, true});
  }
  if (resets.data != nullptr)
    for_resets(resets, T, N, [&](Index t, Index n) {
      if (t >= at(length, n)) return;
      whole_ = false;
      Segment& before = at(found, at(open, n));
      if (t == 0) {
        before.from_initial = false;
        return;
      }
      before.length = t - before.start;
      before.is_last = false;
      at(open, n) = static_cast<Index>(found.size());
      found.push_back({n, t, at(length, n) - t, false, true});
    });

  // By rows, whose segments were found in the order of time: the layout of `resets` must not show. Then the longest first. Both
  // by counting: at 4,000 segments a sort takes 200 us.
  std::vector<Segment> by_row(found.size());
  sort_by_count(found, by_row, N, [](const Segment& segment) { return segment.n; });
  Index longest = 0;
  for (const Segment& segment : found) longest = segment.length > longest ? segment.length : longest;
  segments_.resize(found.size());
  const auto before =
      sort_by_count(by_row, segments_, longest + 1, [&](const Segment& segment) { return longest - segment.length; });
  for (Index t = 0; t < longest; ++t) batch_sizes_.push_back(at(before, longest - t));  // as many as are longer than t
}

void Segments::places(Index step, Index row, const Index* starts, Index* to) const {
  for (std::size_t t = 0; t < batch_sizes_.size(); ++t)
    for (Index s = 0; s < batch_sizes_[t]; ++s) {
      const Segment& segment = segments_[static_cast<std::size_t>(s)];
      const Index first = starts == nullptr ? segment.n * row : starts[segment.n];
      *to++ = first + (segment.start + static_cast<Index>(t)) * step;
    }
}

void Segments::initial(Index layers, Index D, Index* to) const {
  for (Index l = 0; l < layers * D; ++l)
    for (const Segment& segment : segments_) {
      const bool begins = D == 2 && l % 2 == 1 ? segment.is_last : segment.from_initial;
      *to++ = begins ? l * N_ + segment.n : -1;
    }
}

void Segments::final(Index layers, Index D, Index* to) const {
  for (Index l = 0; l < layers * D; ++l)
    for (const Segment& segment : segments_) {
      const bool ends = D == 2 && l % 2 == 1 ? segment.start == 0 : segment.is_last;
      *to++ = ends ? l * N_ + segment.n : -1;
    }
}

void Segments::clear(Index step, Index row, Index width, void* to) const {
  std::vector<Index> ends(static_cast<std::size_t>(N_), 0);
  for (const Segment& segment : segments_)
    if (segment.is_last) ends[static_cast<std::size_t>(segment.n)] = segment.start + segment.length;
  const auto zeros = [&](Index place, Index count) {
    std::memset(static_cast<char*>(to) + place * width, 0, static_cast<std::size_t>(count * width));
  };
  for (Index n = 0; n < N_; ++n) {
    const Index end = ends[static_cast<std::size_t>(n)];
    if (step == 1) {
      zeros(end + n * row, T_ - end);
    } else {
      for (Index t = end; t < T_; ++t) zeros(t * step + n * row, 1);
    }
  }
}

void Segments::carry(Index cells, Index width, const void* from, void* to) const {
  if (!empty_) return;
  std::vector<bool> has_step(static_cast<std::size_t>(N_), false);
  for (const Segment& segment : segments_) has_step[static_cast<std::size_t>(segment.n)] = true;
  for (Index row = 0; row < cells * N_; ++row) {
    if (has_step[static_cast<std::size_t>(row % N_)]) continue;
    char* const there = static_cast<char*>(to) + row * width;
    const auto bytes = static_cast<std::size_t>(width);
    if (from == nullptr) {
      std::memset(there, 0, bytes);
    } else {
      std::memcpy(there, static_cast<const char*>(from) + row * width, bytes);
    }
  }
}

}  // namespace fastlstm
