// 16-bit numbers one by one, in integers: denormal numbers count as zeros in a call's own arithmetic.
#pragma once
#include <cstdint>
#include <cstring>

#include "fastlstm/engine.h"

namespace fastlstm::FASTLSTM_ISA {

inline float real_of_bits(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float widened(BFloat16 x) { return real_of_bits(std::uint32_t{x.bits} << 16); }

inline float widened(Float16 x) {
  const std::uint32_t sign = std::uint32_t{x.bits & 0x8000U} << 16;
  const std::uint32_t size = x.bits & 0x7FFFU;
  if (size >= 0x7C00U) return real_of_bits(sign | 0x7F800000U | (size & 0x3FFU) << 13);
  if (size < 0x400U) return real_of_bits(sign | bits_of(static_cast<float>(size) * 0x1p-24F));
  return real_of_bits(sign | ((size << 13) + 0x38000000U));
}

inline void round_to(BFloat16& to, float x) {
  const std::uint32_t bits = bits_of(x);
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  to.bits = static_cast<std::uint16_t>(is_nan ? 0x7FC0U : (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

inline void round_to(Float16& to, float x) {
  const std::uint32_t sign = bits_of(x) >> 16 & 0x8000U;
  const std::uint32_t size = bits_of(x) & 0x7FFFFFFFU;
  std::uint32_t half;
  if (size > 0x7F800000U) {
    half = 0x7E00U;
  } else if (size >= 0x477FF000U) {  // 65520: the middle between the largest number and the next power of two
    half = 0x7C00U;
  } else if (size >= 0x38800000U) {
    half = (size + 0xFFFU + (size >> 13 & 1U) - 0x38000000U) >> 13;
  } else if (size >= 0x33000000U) {  // denormal: units of 2^-24
    const std::uint32_t mantissa = (size & 0x7FFFFFU) | 0x800000U;
    const std::uint32_t shift = 126U - (size >> 23);
    const std::uint32_t rest = mantissa & ((1U << shift) - 1U);
    const std::uint32_t middle = 1U << (shift - 1U);
    half = mantissa >> shift;
    half += rest > middle || (rest == middle && (half & 1U) != 0) ? 1U : 0U;
  } else {
    half = 0;
  }
  to.bits = static_cast<std::uint16_t>(sign | half);
}

}  // namespace fastlstm::FASTLSTM_ISA
