// A call's sizes as Python knows them: the engine's problem, what its arrays hold, and where their rows stand.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "fastlstm/engine.h"
#include "tensors.h"

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;
using Rows = std::vector<std::int64_t>;

struct PyProblem : fastlstm::Problem {
  const tensors::DType& dtype;  // one of kDTypes
  // Where rows of x and output, of h_0 and c_0, and of h_n and c_n stand; empty: one after the other.
  Rows places;
  Rows initial;
  Rows final;
  // Of the caller's tensors, where they have more: rows of x and output, and of a state in all layers and directions.
  std::int64_t x_rows = rows();
  std::int64_t states = static_cast<std::int64_t>(cells()) * N;

  PyProblem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers,
            std::int64_t directions, const tensors::DType& dtype)
      : Problem(T, N, I, H, P, layers, directions), dtype(dtype) {}

  PyProblem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers,
            std::int64_t directions, const std::string& dtype, const std::optional<std::vector<std::int64_t>>& batch_sizes)
      : Problem(T, N, I, H, P, layers, directions, batch_sizes.value_or(Rows{})), dtype(tensors::dtype_named(dtype)) {}

  // segments: alive as long as this. x_rows: of the caller's x and output.
  PyProblem(const fastlstm::Segments& segments, std::int64_t step, std::int64_t row, Address starts, std::int64_t x_rows,
            std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers, std::int64_t directions,
            const std::string& dtype)
      : Problem(segments.batch_sizes().empty() ? 1 : static_cast<std::int64_t>(segments.batch_sizes().size()), segments.count(),
                I, H, P, layers, directions, segments.batch_sizes()),
        dtype(tensors::dtype_named(dtype)),
        places(static_cast<std::size_t>(segments.steps())),
        initial(cells() * static_cast<std::size_t>(segments.count())),
        final(initial.size()),
        x_rows(x_rows),
        states(static_cast<std::int64_t>(cells()) * segments.N()),
        segments_(&segments),
        step_(step),
        row_(row),
        is_jagged_(starts != 0) {
    segments.places(step, row, reinterpret_cast<const std::int64_t*>(starts), places.data());
    segments.initial(layers, D, initial.data());
    segments.final(layers, D, final.data());
  }

  // Zeros in those rows of x's or output's shape that have no step. The others are not touched.
  void clear(void* array, std::int64_t features) const {
    if (segments_ == nullptr || segments_->steps() == x_rows) return;
    const std::int64_t width = features * dtype.bits / 8;
    if (is_jagged_ || segments_->N() == 0) {  // with holes, or nothing but one; no rows have no address of their starts
      std::memset(array, 0, static_cast<std::size_t>(x_rows * width));
    } else {
      segments_->clear(step_, row_, width, array);
    }
  }
  // Zeros in all of a state, or of its gradient, where the engine may leave out rows of it.
  void clear_state(void* array, std::int64_t features, bool may_leave_out) const {
    if (segments_ != nullptr && may_leave_out)
      std::memset(array, 0, static_cast<std::size_t>(states * features * dtype.bits / 8));
  }
  bool has_empty_rows() const { return segments_ != nullptr && segments_->empty(); }

  bool is_double() const { return dtype.bits == 64; }
  std::size_t cells() const { return static_cast<std::size_t>(layers * D); }
  std::int64_t saved_reals() const {
    return is_double() ? fastlstm::saved_size<double>(*this) : fastlstm::saved_size<float>(*this);
  }
  std::int64_t saved_bytes() const { return saved_reals() * (is_double() ? 8 : 4); }
  template <class Real>
  fastlstm::Source<Real> source(Address address, const Rows& rows = {}) const {
    return {reinterpret_cast<const void*>(address), dtype.element, rows.empty() ? nullptr : rows.data()};
  }
  template <class Real>
  fastlstm::Target<Real> target(Address address, const Rows& rows = {}) const {
    return {reinterpret_cast<void*>(address), dtype.element, rows.empty() ? nullptr : rows.data()};
  }
  template <class Real>
  fastlstm::Source<Real> source(const void* data, const Rows& rows = {}) const {
    return {data, dtype.element, rows.empty() ? nullptr : rows.data()};
  }
  template <class Real>
  fastlstm::Target<Real> target(void* data, const Rows& rows = {}) const {
    return {data, dtype.element, rows.empty() ? nullptr : rows.data()};
  }

 private:
  const fastlstm::Segments* segments_ = nullptr;
  std::int64_t step_ = 0;
  std::int64_t row_ = 0;
  bool is_jagged_ = false;
};
