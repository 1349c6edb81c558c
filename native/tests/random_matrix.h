// Matrices of random numbers for the tests of products, and how far a product may be off.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "fastlstm/engine.h"
#include "normal.h"

template <class Real>
std::vector<Real> random_matrix(std::int64_t count, std::mt19937& random) {
  Normal normal;
  std::vector<Real> all(static_cast<std::size_t>(count));
  for (Real& number : all) number = static_cast<Real>(normal(random));
  return all;
}

// The nearest numbers of fewer digits that bfloat16 has: cut off.
inline std::vector<fastlstm::BFloat16> as_bfloat16(std::vector<float>& numbers) {
  std::vector<fastlstm::BFloat16> all;
  for (float& number : numbers) {
    std::uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    all.push_back({static_cast<std::uint16_t>(bits >> 16)});
    bits &= 0xFFFF0000U;
    std::memcpy(&number, &bits, sizeof bits);
  }
  return all;
}

// Of a sum of K products of numbers around 1, in any order.
template <class Real>
double allowed(std::int64_t K) {
  return 2 * std::numeric_limits<Real>::epsilon() * static_cast<double>(K + 4);
}

// Where gate `gate` of a unit stands among columns in gate order.
inline std::size_t gate_column(std::int64_t gate, std::int64_t unit, std::int64_t lanes) {
  return static_cast<std::size_t>((unit / lanes * 4 + gate) * lanes + unit % lanes);
}
