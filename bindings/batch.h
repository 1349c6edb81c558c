// The batch of a call, from what the caller gave.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>

#include "arrays.h"
#include "fastlstm/batch.h"
#include "layer.h"

// As Python has them; each None where it does not apply.
struct Rows {
  nanobind::handle batch_first;
  nanobind::handle lengths;      // (N) of int64: how many steps a row has; of a padded batch, or, with offsets, a jagged one
  nanobind::handle reset;        // bool, of the sizes of x but its features: a row starts anew
  nanobind::handle batch_sizes;  // (T) of int64: a packed batch
  nanobind::handle offsets;      // (N + 1) of int64: where the rows of a jagged batch start
};

// What rows there are, and the shapes of the caller's arrays.
struct Batch : fastlstm::Batch {
  arrays::Index mask_rows;
  arrays::Shape lead;       // what stands before the features in the shape of x and output
  arrays::Shape state;      // and in that of h_n and c_n
  bool is_swapped = false;  // the lead is (N, T), memory in the order of (T, N)

  // nullptr: not what the engine reads: the caller brings it in order, or says what is wrong. Throws std::runtime_error where
  // sizes are too large to be counted.
  static std::unique_ptr<Batch> read(const Layer& layer, const arrays::View& x, const Rows& rows);

  // None: dense. batch_sizes of a packed batch. Of a ragged one N, those of the packed batch it makes, `places`, `initial`,
  // `final` and `rows_of_masks`.
  nanobind::object as_lists() const;
};

void define_batch(nanobind::module_& m);
