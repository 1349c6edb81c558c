// 16-bit arrays: widening and rounding number by number, and whole calls, on every instruction set the host has.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "calls.h"

namespace {

using fastlstm::BFloat16;
using fastlstm::Element;
using fastlstm::Float16;
using fastlstm::Source;
using fastlstm::Target;

// The number that `bits` stand for, by its definition: sign, exponent, mantissa.
double value_of(std::uint16_t bits, Element element) {
  const int mantissa_bits = element == Element::bfloat16 ? 7 : 10;
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

// The nearest of all 16-bit numbers, ties to the even one, as the bits of the first that is not below x are found by bisection.
std::uint16_t nearest(float x, Element element) {
  if (std::isnan(x)) return element == Element::bfloat16 ? 0x7FC0 : 0x7E00;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const std::uint16_t infinity = element == Element::bfloat16 ? 0x7F80 : 0x7C00;
  const double size = std::abs(static_cast<double>(x));
  const auto value = [&](int bits) {  // infinity stands where the next power of two would be
    return bits == infinity
               ? 2 * value_of(static_cast<std::uint16_t>(bits - (element == Element::bfloat16 ? 128 : 1024)), element)
               : value_of(static_cast<std::uint16_t>(bits), element);
  };
  int low = 0;
  int high = infinity;
  if (size >= value(high)) return static_cast<std::uint16_t>(sign | infinity);
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (value(middle) <= size ? low : high) = middle;
  }
  const double below = size - value(low);
  const double above = value(high) - size;
  const int found = below < above || (below == above && low % 2 == 0) ? low : high;
  return static_cast<std::uint16_t>(sign | found);
}

// c_1 = 1 c_0 + 0 g of a single step whose gates are saturated: numbers that go through the engine unchanged.
void pass(const Source<float>& c_0, const Target<float>& c_n, std::int64_t count) {
  const fastlstm::Problem problem(1, 1, 1, count, 0, 1, 1);
  const auto H = static_cast<std::size_t>(count);
  const std::vector<float> w_ih(4 * H), w_hh(4 * H * H), x(1), h_0(H);
  std::vector<float> b(4 * H), h_n(H);
  for (std::size_t j = 0; j < H; ++j) b[j] = -200, b[H + j] = 200;
  const fastlstm::Weights<float> weights{w_ih.data(), w_hh.data(), b.data(), nullptr, nullptr};
  fastlstm::forward<float>(problem, {x.data(), h_0.data(), c_0, &weights, nullptr}, {h_n.data(), h_n.data(), c_n}, nullptr, 1);
}

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

constexpr std::int64_t kCount = 61;  // not a multiple of any vector's width

}  // namespace

TEST_CASE("every 16-bit number is widened exactly") {
  for (const std::string& isa : fastlstm::isas()) {
    fastlstm::use_isa(isa);
    for (const Element element : {Element::bfloat16, Element::float16})
      for (std::uint32_t first = 0; first < 0x10000; first += kCount) {
        std::vector<std::uint16_t> from(kCount);
        std::vector<float> to(kCount);
        for (std::size_t k = 0; k < from.size(); ++k) from[k] = static_cast<std::uint16_t>(first + k);
        pass({from.data(), element}, to.data(), kCount);
        for (std::size_t k = 0; k < from.size(); ++k) {
          const double expected = value_of(from[k], element);
          if (std::abs(expected) < std::numeric_limits<float>::min()) continue;  // denormal float32 count as zeros
          CAPTURE(isa);
          CAPTURE(from[k]);
          if (std::isnan(expected) ? !std::isnan(to[k]) : to[k] != expected) FAIL_CHECK(to[k]);
        }
      }
  }
}

TEST_CASE("rounding is to the nearest, ties to even") {
  std::mt19937 random(11);
  std::vector<float> from;
  for (int k = 0; k < 20000; ++k) {
    const auto bits = static_cast<std::uint32_t>(random());
    float x;
    std::memcpy(&x, &bits, sizeof x);
    from.push_back(x);
  }
  for (int k = 0; k < 5000; ++k) from.push_back(std::ldexp(static_cast<float>(random() % 4096) - 2048.0F, -28 + k % 44));
  for (const Element element : {Element::bfloat16, Element::float16})  // and exactly between two numbers, and next to that
    for (std::uint32_t bits = 0; bits < 0x7F80; bits += 37) {
      const double here = value_of(static_cast<std::uint16_t>(bits), element);
      const double next = value_of(static_cast<std::uint16_t>(bits + 1), element);
      if (!std::isfinite(here) || !std::isfinite(next)) continue;
      const auto middle = static_cast<float>((here + next) / 2);
      for (const float x : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, INFINITY), -middle}) from.push_back(x);
    }
  for (const float x : {65504.0F, 65519.996F, 65520.0F, 3.3895314e38F, 3.4e38F, INFINITY, -INFINITY, NAN}) from.push_back(x);
  while (from.size() % kCount != 0) from.push_back(0);
  for (const std::string& isa : fastlstm::isas()) {
    fastlstm::use_isa(isa);
    for (const Element element : {Element::bfloat16, Element::float16})
      for (std::size_t first = 0; first < from.size(); first += kCount) {
        std::vector<std::uint16_t> to(kCount);
        pass(from.data() + first, {to.data(), element}, kCount);
        for (std::size_t k = 0; k < to.size(); ++k) {
          const float x = from[first + k];
          if (x != 0 && std::abs(x) < std::numeric_limits<float>::min()) continue;
          CAPTURE(isa);
          CAPTURE(bits_of(x));
          const std::uint16_t expected = x == 0 ? 0 : nearest(x, element);
          const bool same =
              std::isnan(x) ? std::isnan(value_of(to[k], element)) : (to[k] == expected || (x == 0 && to[k] == 0x8000));
          if (!same) FAIL_CHECK(to[k]);
        }
      }
  }
}

namespace {

// A call's arrays in 16 bits, each of its exact size.
struct Narrow {
  using Bits = std::vector<std::uint16_t>;
  Element element;
  std::vector<Bits> held;

  Bits& hold(const std::vector<float>& numbers) {
    Bits bits(numbers.size());
    for (std::size_t k = 0; k < bits.size(); ++k) bits[k] = nearest(numbers[k], element);
    return held.emplace_back(std::move(bits));
  }
  // What the call reads: the numbers themselves take the values of their 16 bits.
  Source<float> source(std::vector<float>& numbers) {
    Bits& bits = hold(numbers);
    for (std::size_t k = 0; k < bits.size(); ++k) numbers[k] = static_cast<float>(value_of(bits[k], element));
    return {bits.empty() ? nullptr : bits.data(), element};
  }
  Target<float> target(const std::vector<float>& like) {
    Bits& bits = hold(like);
    return {bits.empty() ? nullptr : bits.data(), element};
  }
};

}  // namespace

TEST_CASE("a 16-bit call is the float32 call, its results rounded") {
  for (const std::string& isa : fastlstm::isas()) {
    fastlstm::use_isa(isa);
    std::mt19937 random(5);
    for (int k = 0; k < 40; ++k) {
      const Sizes s = draw(random);
      CAPTURE(isa);
      CAPTURE(k);
      Call<float> call(s, static_cast<unsigned>(k));
      Narrow narrow{k % 2 == 0 ? Element::bfloat16 : Element::float16, {}};
      narrow.held.reserve(200);
      std::vector<fastlstm::Weights<float>> weights;
      std::vector<Source<float>> masks;
      const Source<float> x = narrow.source(call.x), h_0 = narrow.source(call.h_0), c_0 = narrow.source(call.c_0);
      for (std::size_t w = 0; w < call.weights.size(); w += 5)
        weights.push_back({narrow.source(call.weights[w]), narrow.source(call.weights[w + 1]), narrow.source(call.weights[w + 2]),
                           narrow.source(call.weights[w + 3]), narrow.source(call.weights[w + 4])});
      for (auto& mask : call.masks) masks.push_back(narrow.source(mask));
      const Source<float> doutput = narrow.source(call.doutput), dh_n = narrow.source(call.dh_n), dc_n = narrow.source(call.dc_n);
      const std::size_t first_result = narrow.held.size();
      const fastlstm::Outputs<float> outputs{narrow.target(call.output), narrow.target(call.h_n), narrow.target(call.c_n)};
      const Target<float> dx = narrow.target(call.dx), dh_0 = narrow.target(call.dh_0), dc_0 = narrow.target(call.dc_0);
      std::vector<fastlstm::WeightGradients<float>> dweights;
      for (std::size_t w = 0; w < call.dweights.size(); w += 5)
        dweights.push_back({narrow.target(call.dweights[w]), narrow.target(call.dweights[w + 1]),
                            narrow.target(call.dweights[w + 2]), narrow.target(call.dweights[w + 3]),
                            narrow.target(call.dweights[w + 4])});
      const fastlstm::Inputs<float> inputs{x, h_0, c_0, weights.data(), masks.empty() ? nullptr : masks.data()};
      std::vector<float> saved(static_cast<std::size_t>(fastlstm::saved_size<float>(call.problem, {nullptr, narrow.element})));
      fastlstm::forward<float>(call.problem, inputs, outputs, saved.data(), 1 + k % 3);
      fastlstm::backward<float>(call.problem, inputs, {{nullptr, narrow.element}, {}, {}}, saved.data(),
                                {doutput, dh_n, dc_n, dx, dh_0, dc_0, dweights.data()}, 1 + k % 4);
      call.forward(1);
      call.backward(1);
      const auto expected = call.results();
      REQUIRE(narrow.held.size() == first_result + expected.size());
      for (std::size_t r = 0; r < expected.size(); ++r) {
        CAPTURE(r);
        Narrow::Bits rounded(expected[r].size());
        for (std::size_t j = 0; j < rounded.size(); ++j) rounded[j] = nearest(expected[r][j], narrow.element);
        CHECK(narrow.held[first_result + r] == rounded);
      }
      // At inference, too: there the output has no copy to stay in.
      const Narrow::Bits output = narrow.held[first_result];
      fastlstm::forward<float>(call.problem, inputs, outputs, nullptr, 2);
      CHECK(narrow.held[first_result] == output);
    }
  }
}
