// Normally distributed numbers, the same on every system: std::normal_distribution's are each standard library's own.
#pragma once
#include <cmath>
#include <random>

// Marsaglia's polar method: two numbers at a time.
class Normal {
 public:
  double operator()(std::mt19937& random) {
    has_other_ = !has_other_;
    if (!has_other_) return other_;
    double x, y, square;
    do {
      x = 2 * uniform(random) - 1;
      y = 2 * uniform(random) - 1;
      square = x * x + y * y;
    } while (square > 1 || square == 0);
    const double stretch = std::sqrt(-2 * std::log(square) / square);
    other_ = x * stretch;
    return y * stretch;
  }

 private:
  static double uniform(std::mt19937& random) {  // from 0 to 1
    const double low = static_cast<double>(random());
    return (low + static_cast<double>(random()) * 0x1p32) * 0x1p-64;
  }

  double other_ = 0;
  bool has_other_ = false;
};
