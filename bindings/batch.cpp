#include "batch.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;
using arrays::Index;
using arrays::View;

namespace {

// So many int64, one number where there is no dimension; nullptr: none are given. Anything else: nothing.
std::optional<const Index*> read_integers(nb::handle numbers, std::size_t ndim, Index count) {
  if (numbers.is_none()) return nullptr;
  const auto array = arrays::view_integers(numbers.ptr(), ndim);
  if (!array || array->count() != count) return {};
  return static_cast<const Index*>(array->data);
}

// Resets as the engine reads them: of bool, and of the sizes of x but its features; `time`: which of them is. Anything else:
// nothing.
std::optional<fastlstm::Resets> read_resets(nb::handle reset, const View& x, std::size_t time) {
  if (reset.is_none()) return fastlstm::Resets{};
  const auto array = arrays::view(reset.ptr());
  if (!array || !arrays::is_bool(*array) || !array->has(x.lead())) return {};
  return fastlstm::Resets{static_cast<const bool*>(array->data), array->strides[time],
                          array->shape.size() == 2 ? array->strides[1 - time] : 0};
}

std::optional<fastlstm::Batch> read_packed(const Layer& layer, const View& x, const Rows& rows) {
  const auto sizes = arrays::view_integers(rows.batch_sizes.ptr(), 1);
  if (x.shape.size() != 2 || !sizes || sizes->count() == 0) return {};
  return fastlstm::Batch::packed(layer, static_cast<const Index*>(sizes->data), sizes->count(), x.rows());
}

std::optional<fastlstm::Batch> read_jagged(const Layer& layer, const View& x, const Rows& rows) {
  const auto offsets = arrays::view_integers(rows.offsets.ptr(), 1);
  if (x.shape.size() != 2 || !offsets || offsets->count() == 0) return {};
  const Index N = offsets->count() - 1;
  const auto lengths = read_integers(rows.lengths, 1, N);
  if (!lengths) return {};
  return fastlstm::Batch::jagged(layer, N, static_cast<const Index*>(offsets->data), *lengths, x.rows());
}

std::optional<fastlstm::Batch> read_padded(const Layer& layer, const View& x, const Rows& rows, std::size_t time) {
  const bool batched = x.shape.size() == 3;
  const Index T = x.shape[time];
  const Index N = batched ? x.shape[1 - time] : 1;
  if (!rows.lengths.is_none() || !rows.reset.is_none()) {
    const auto lengths = read_integers(rows.lengths, batched ? 1 : 0, N);
    const auto resets = read_resets(rows.reset, x, time);
    if (!lengths || !resets || (T == 0 && *lengths == nullptr)) return {};
    return fastlstm::Batch::padded(layer, T, N, *lengths, *resets, time == 1);
  }
  if (T == 0 || (time == 1 && T > 1 && N > 1)) return {};  // such rows must be reordered first
  return fastlstm::Batch::dense(layer, T, N);
}

nb::object rows_of(const Layer& layer, const std::vector<Index>& x_shape, nb::handle batch_first, nb::handle lengths,
                   nb::handle reset, nb::handle offsets) {
  if (x_shape.size() > arrays::kMostDimensions) return nb::none();
  View x;
  x.shape = {x_shape.begin(), x_shape.end()};
  x.strides = arrays::dense_strides(x.shape);
  const auto batch = Batch::read(layer, x, {batch_first, lengths, reset, nb::none(), offsets});
  return batch ? batch->as_lists() : nb::none();
}

}  // namespace

std::unique_ptr<Batch> Batch::read(const Layer& layer, const View& x, const Rows& rows) {
  if (x.shape.empty() || x.features() != layer.I || layer.I < 1 || layer.H < 1 || !x.is_dense()) return nullptr;
  const int first = PyObject_IsTrue(rows.batch_first.ptr());  // as nn.LSTM takes any flag
  if (first < 0) throw nb::python_error();
  const bool in_order = !rows.batch_sizes.is_none() || !rows.offsets.is_none();
  if (in_order ? x.shape.size() != 2 : layer.is_cell ? x.shape.size() > 2 : x.shape.size() != 2 && x.shape.size() != 3)
    return nullptr;
  const std::size_t time = !in_order && x.shape.size() == 3 && first != 0 ? 1 : 0;
  auto found = !rows.batch_sizes.is_none() ? read_packed(layer, x, rows)
               : !rows.offsets.is_none()   ? read_jagged(layer, x, rows)
               : layer.is_cell             ? std::optional(fastlstm::Batch::dense(layer, 1, x.rows()))
                                           : read_padded(layer, x, rows, time);
  if (!found) return nullptr;
  const arrays::Shape lead = x.lead();
  const bool has_rows = in_order || x.shape.size() == 3;
  arrays::Shape state = layer.is_cell ? lead : arrays::Shape{layer.chains()};
  if (!layer.is_cell && has_rows) state.push_back(found->rows_of_state());
  const bool is_swapped = time == 1 && !found->is_ragged();
  return std::unique_ptr<Batch>(new Batch{std::move(*found), x.rows(), lead, state, is_swapped});
}

nb::object Batch::as_lists() const {
  std::vector<Index> sizes;
  if (problem.rows() > 0)
    for (Index t = 0; t < problem.T; ++t) sizes.push_back(problem.batch(t));
  if (is_ragged()) return nb::cast(std::make_tuple(rows_of_state(), sizes, places, initial, final, rows_of_masks()));
  return is_packed() ? nb::cast(sizes) : nb::none();
}

void define_batch(nb::module_& m) {
  m.def("rows", rows_of, "layer"_a, "x_shape"_a, "batch_first"_a, "lengths"_a.none(), "reset"_a.none(), "offsets"_a.none());
}
