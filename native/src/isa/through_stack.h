// The first `count` numbers of a vector through the stack: nothing past them is read or written.
#pragma once

namespace fastlstm::FASTLSTM_ISA {

template <int LANES, class Number, class Load>
inline __attribute__((always_inline)) auto load_through_stack(const Number* p, int count, const Load& load_all) {
  Number lane[LANES] = {};
  for (int k = 0; k < count; ++k) lane[k] = p[k];
  return load_all(lane);
}
template <int LANES, class Number, class Store>
inline __attribute__((always_inline)) void store_through_stack(Number* p, int count, const Store& store_all) {
  Number lane[LANES];
  store_all(lane);
  for (int k = 0; k < count; ++k) p[k] = lane[k];
}

}  // namespace fastlstm::FASTLSTM_ISA
