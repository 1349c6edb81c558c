// The equations of one step for kLanes units of one row. Included inside an ISA's namespace.

template <class Real>
struct Gates {
  Vec<Real> i, f, g, o;
};

// i, f, o = sigmoid(.), g = tanh(.)
template <class Real>
inline __attribute__((always_inline)) Gates<Real> activate(const Gates<Real>& pre) {
  return {sigmoid(pre.i), sigmoid(pre.f), tanh(pre.g), sigmoid(pre.o)};
}

// c_t = f c_{t-1} + i g
template <class Real>
inline Vec<Real> cell(const Gates<Real>& gates, Vec<Real> c_prev) {
  return fma(gates.f, c_prev, gates.i * gates.g);
}

// From dh (the gradient of h_t = o tanh(c_t)) and dc (of c_t, from step t + 1): the gradients of the gates before their
// activations; dc becomes the gradient of c_{t-1}.
template <class Real>
inline Gates<Real> cell_backward(const Gates<Real>& gates, Vec<Real> c_prev, Vec<Real> tanh_c, Vec<Real> dh, Vec<Real>& dc) {
  const Vec<Real> one = broadcast(Real(1));
  const auto& [i, f, g, o] = gates;
  const Vec<Real> dc_t = fma(dh * o, fnma(tanh_c, tanh_c, one), dc);
  dc = dc_t * f;
  return {
      dc_t * g * (i * (one - i)),
      dc_t * c_prev * (f * (one - f)),
      dc_t * i * fnma(g, g, one),
      dh * tanh_c * (o * (one - o)),
  };
}

// The four gates of a row in a gate buffer, whose panels are [panel][row][kPanel]: `at` is the row in the block's first panel.
template <class Real>
inline Gates<Real> load_gates(const Real* at, Index panel_stride) {
  constexpr Index lanes = kLanes<Real>;
  const Real* const second = kHalves == 1 ? at + 2 * lanes : at + panel_stride;
  return {load(at), load(at + lanes), load(second), load(second + lanes)};
}
template <class Element, class Real, class Put>
inline __attribute__((always_inline)) void put_gates(Element* at, Index panel_stride, const Gates<Real>& gates, const Put& put) {
  constexpr Index lanes = kLanes<Real>;
  Element* const second = kHalves == 1 ? at + 2 * lanes : at + panel_stride;
  put(at, gates.i);
  put(at + lanes, gates.f);
  put(second, gates.g);
  put(second + lanes, gates.o);
}
template <class Real>
inline void store_gates(Real* at, Index panel_stride, const Gates<Real>& gates) {
  put_gates(at, panel_stride, gates, [](Real* to, Vec<Real> a) { store(to, a); });
}
template <class Real>
inline void stream_gates(Real* at, Index panel_stride, const Gates<Real>& gates) {
  put_gates(at, panel_stride, gates, [](Real* to, Vec<Real> a) { stream(to, a); });
}
