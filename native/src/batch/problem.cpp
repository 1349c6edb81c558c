#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "fastlstm/engine.h"

namespace fastlstm {

namespace {

// All that an engine counts for a call, elements and bytes, is below this many times a product of its sizes: five numbers a unit
// and step, padded to a panel of 64, of 8 bytes, for forward and backward.
constexpr double kCountedAtMost = 64.0 * 5 * 8 * 4;

// Whether no count of a call's elements or bytes can overflow.
bool countable(const Problem& p, std::int64_t rows) {
  const auto padded = [](std::int64_t size) { return static_cast<double>(size) + 64; };
  const double cells = static_cast<double>(p.layers) * static_cast<double>(p.D);
  const double features = padded(p.I) + padded(p.H) + padded(p.P);
  const double weights = features * padded(p.H) * cells;
  const double states = (padded(rows) + padded(p.N)) * features * cells;
  return kCountedAtMost * (weights + states) < 9e18;
}

}  // namespace

Problem::Problem(std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P, std::int64_t layers,
                 std::int64_t D, const std::vector<std::int64_t>& batch_sizes, CellKind cell)
    : T(T), N(N), I(I), H(H), P(P), layers(layers), D(D), cell(cell) {
  if (T < 1 || N < 0 || I < 1 || H < 1 || P < 0 || layers < 1 || D < 1 || D > 2)
    throw std::invalid_argument("Problem: T, I, H and layers must be at least 1, N and P at least 0, D 1 or 2");
  if (P >= H && P > 0) throw std::invalid_argument("Problem: P must be smaller than H");
  if (P > 0 && cell == CellKind::gru) throw std::invalid_argument("Problem: a GRU has no projection");
  if (!batch_sizes.empty()) {
    if (static_cast<std::int64_t>(batch_sizes.size()) != T || batch_sizes.front() != N)
      throw std::invalid_argument("Problem: batch_sizes must have T numbers, the first of them N");
    for (std::size_t t = 0; t < batch_sizes.size(); ++t)
      if (batch_sizes[t] < 1 || (t > 0 && batch_sizes[t] > batch_sizes[t - 1]))
        throw std::invalid_argument("Problem: batch_sizes must be positive and must not increase");
  }
  std::int64_t rows = 0;
  bool counted = true;
  if (batch_sizes.empty()) {
    counted = !__builtin_mul_overflow(T, N, &rows);
  } else {
    for (const std::int64_t batch : batch_sizes) counted = counted && !__builtin_add_overflow(rows, batch, &rows);
  }
  if (!counted || !countable(*this, rows)) throw std::runtime_error("Problem: sizes beyond what can be counted");
  offset_.reserve(static_cast<std::size_t>(T) + 1);
  offset_.push_back(0);
  for (std::int64_t t = 0; t < T; ++t)
    offset_.push_back(offset_.back() + (batch_sizes.empty() ? N : batch_sizes[static_cast<std::size_t>(t)]));
  block_.push_back(0);
  for (std::int64_t t = 1; t < T; ++t)
    if (row(t + 1) - row(block_.back()) > kBlockRows) block_.push_back(t);
  block_.push_back(T);
  span_ = {0, blocks()};
}

void Problem::checkpoint_every(std::int64_t steps) {
  span_ = {0};
  for (std::int64_t k = 1; k < blocks(); ++k)
    if (block(k) - block(span_.back()) >= steps) span_.push_back(k);
  span_.push_back(blocks());
}

}  // namespace fastlstm
