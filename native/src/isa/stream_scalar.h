// No stores past the caches. Included inside an ISA's namespace.

template <class Real>
inline void stream(Real* p, Vec<Real> a) {
  store(p, a);
}
inline void stream_end() {}
