// What rows a call has: dense, packed, or ragged, that is padded or jagged. The engine computes a packed batch of a ragged one's
// segments, and is told where its rows stand in the caller's arrays: nothing is moved.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "fastlstm/engine.h"

namespace fastlstm {

// A layer's.
struct Sizes {
  std::int64_t I, H, P, layers, D;
  CellKind cell = CellKind::lstm;

  std::int64_t out() const { return P > 0 ? P : H; }
  std::int64_t chains() const { return layers * D; }  // through time
  std::int64_t input(std::int64_t layer) const { return layer == 0 ? I : D * out(); }
  Problem problem(std::int64_t T, std::int64_t N, const std::vector<std::int64_t>& batch_sizes = {}) const {
    return {T, N, I, H, P, layers, D, batch_sizes, cell};
  }
  bool operator==(const Sizes&) const = default;
};

// Of places of a Batch, as a Source or Target has them.
inline const std::int64_t* rows_or_null(const std::vector<std::int64_t>& rows) { return rows.empty() ? nullptr : rows.data(); }

class Batch {
 public:
  // N rows of T steps. Throws as Problem does; so do the others.
  static Batch dense(const Sizes& sizes, std::int64_t T, std::int64_t N);
  // batch_sizes: (T). Nothing: they rise, or don't add up to `rows`.
  static std::optional<Batch> packed(const Sizes& sizes, const std::int64_t* batch_sizes, std::int64_t T, std::int64_t rows);
  // x has T * N rows, in the order of (T, N), or of (N, T) with batch_first. lengths: (N), or nullptr: T each. Nothing: one is
  // not from 0 to T. All of one segment and in order, the batch is dense.
  static std::optional<Batch> padded(const Sizes& sizes, std::int64_t T, std::int64_t N, const std::int64_t* lengths,
                                     const Resets& resets, bool batch_first);
  // x has so many `places`; row n starts at starts[n]. lengths: (N), or nullptr: up to starts[n + 1]. Nothing: a row is not
  // within them, or two share some.
  static std::optional<Batch> jagged(const Sizes& sizes, std::int64_t N, const std::int64_t* starts, const std::int64_t* lengths,
                                     std::int64_t places);

  Problem problem;
  // Where the problem's rows stand in the caller's arrays (the `rows` of a Source or Target); empty: one after the other.
  std::vector<std::int64_t> places;   // of x and output
  std::vector<std::int64_t> initial;  // of h_0 and c_0
  std::vector<std::int64_t> final;    // of h_n and c_n

  // N, of the caller's states.
  std::int64_t rows_of_state() const { return segments_ ? segments_->N() : problem.N; }
  // Which row of a mask is the problem's: of (T, N) for a padded batch, as x has them for others; empty: in order.
  std::vector<std::int64_t> rows_of_masks() const;
  bool is_ragged() const { return segments_.has_value(); }
  bool is_packed() const { return is_packed_; }
  bool fills() const { return !segments_ || segments_->steps() == x_rows_; }  // every row of x has a step

  // In arrays of x's or output's rows, `width` bytes each: zeros where no step is. The others are not touched.
  void clear(void* array, std::int64_t width) const;
  // In a state's gradient: zeros in all of it, where the engine may leave out rows.
  void clear_state(void* array, std::int64_t width) const;
  // A row without a step ends in the state it began with, `from` (nullptr: zeros); its gradient goes the other way.
  void carry(const void* from, void* to, std::int64_t width) const;

 private:
  explicit Batch(Problem problem) : problem(std::move(problem)) {}
  static Batch ragged(const Sizes& sizes, Segments segments, const std::int64_t* starts, std::int64_t step, std::int64_t row,
                      std::int64_t x_rows);

  std::optional<Segments> segments_;
  std::int64_t x_rows_ = 0;
  std::int64_t step_ = 0;
  std::int64_t row_ = 0;
  bool is_jagged_ = false;
  bool is_packed_ = false;
};

}  // namespace fastlstm
