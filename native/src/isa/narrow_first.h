// The first `count` of a vector's 16-bit numbers through the stack: reads and writes nothing past them. Included inside an ISA's
// namespace, after its `load` and `store` of them.

template <class Narrow>
inline Vec<float> load_first_narrow(const Narrow* p, int count) {
  Narrow lane[Vec<float>::lanes] = {};
  for (int k = 0; k < count; ++k) lane[k] = p[k];
  return load(lane);
}
template <class Narrow>
inline void store_first_narrow(Narrow* p, Vec<float> a, int count) {
  Narrow lane[Vec<float>::lanes];
  store(lane, a);
  for (int k = 0; k < count; ++k) p[k] = lane[k];
}
inline Vec<float> load_first(const BFloat16* p, int count) { return load_first_narrow(p, count); }
inline Vec<float> load_first(const Float16* p, int count) { return load_first_narrow(p, count); }
inline void store_first(BFloat16* p, Vec<float> a, int count) { store_first_narrow(p, a, count); }
inline void store_first(Float16* p, Vec<float> a, int count) { store_first_narrow(p, a, count); }
