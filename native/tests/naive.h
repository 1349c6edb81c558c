// The equations of engine.h as plain loops in long double, forward and backward, one layer and direction at a time: what the
// native tests compare the engine with. Slow, and meant to be read.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "fastlstm/engine.h"

namespace naive {

using Number = long double;
using Array = std::vector<Number>;

inline Number sigmoid(Number x) { return 1 / (1 + std::exp(-x)); }

struct Layer {
  std::int64_t in, H, P;  // P = 0: no projection
  Array w_ih, w_hh, b, w_hr;
  std::int64_t out() const { return P > 0 ? P : H; }
};

struct Step {
  Array x, h_prev, c_prev, i, f, g, o, c, full, h;
};

inline Step step(const Layer& layer, const Array& x, const Array& h_prev, const Array& c_prev) {
  const auto H = static_cast<std::size_t>(layer.H);
  const auto in = static_cast<std::size_t>(layer.in);
  const auto out = static_cast<std::size_t>(layer.out());
  Step s{x, h_prev, c_prev, Array(H), Array(H), Array(H), Array(H), Array(H), Array(H), {}};
  for (std::size_t u = 0; u < H; ++u) {
    Number a[4];
    for (std::size_t gate = 0; gate < 4; ++gate) {
      const std::size_t row = gate * H + u;
      a[gate] = layer.b[row];
      for (std::size_t k = 0; k < in; ++k) a[gate] += layer.w_ih[row * in + k] * x[k];
      for (std::size_t k = 0; k < out; ++k) a[gate] += layer.w_hh[row * out + k] * h_prev[k];
    }
    s.i[u] = sigmoid(a[0]);
    s.f[u] = sigmoid(a[1]);
    s.g[u] = std::tanh(a[2]);
    s.o[u] = sigmoid(a[3]);
    s.c[u] = s.f[u] * c_prev[u] + s.i[u] * s.g[u];
    s.full[u] = s.o[u] * std::tanh(s.c[u]);
  }
  s.h = s.full;
  if (layer.P > 0) {
    s.h.assign(out, 0);
    for (std::size_t p = 0; p < out; ++p)
      for (std::size_t u = 0; u < H; ++u) s.h[p] += layer.w_hr[p * H + u] * s.full[u];
  }
  return s;
}

struct LayerGradients {
  Array w_ih, w_hh, b, w_hr;
};

// dh, dc: gradients of h_t and c_t; they become those of h_{t-1} and c_{t-1}. Returns dx; adds to d.
inline Array step_backward(const Layer& layer, const Step& s, Array& dh, Array& dc, LayerGradients& d) {
  const auto H = static_cast<std::size_t>(layer.H);
  const auto in = static_cast<std::size_t>(layer.in);
  const auto out = static_cast<std::size_t>(layer.out());
  Array full = dh;
  if (layer.P > 0) {
    full.assign(H, 0);
    for (std::size_t p = 0; p < out; ++p)
      for (std::size_t u = 0; u < H; ++u) {
        full[u] += layer.w_hr[p * H + u] * dh[p];
        d.w_hr[p * H + u] += dh[p] * s.full[u];
      }
  }
  Array dx(in, 0);
  Array dh_prev(out, 0);
  for (std::size_t u = 0; u < H; ++u) {
    const Number tanh_c = std::tanh(s.c[u]);
    const Number dc_t = dc[u] + full[u] * s.o[u] * (1 - tanh_c * tanh_c);
    dc[u] = dc_t * s.f[u];
    const Number da[4] = {dc_t * s.g[u] * s.i[u] * (1 - s.i[u]), dc_t * s.c_prev[u] * s.f[u] * (1 - s.f[u]),
                          dc_t * s.i[u] * (1 - s.g[u] * s.g[u]), full[u] * tanh_c * s.o[u] * (1 - s.o[u])};
    for (std::size_t gate = 0; gate < 4; ++gate) {
      const std::size_t row = gate * H + u;
      d.b[row] += da[gate];
      for (std::size_t k = 0; k < in; ++k) {
        d.w_ih[row * in + k] += da[gate] * s.x[k];
        dx[k] += da[gate] * layer.w_ih[row * in + k];
      }
      for (std::size_t k = 0; k < out; ++k) {
        d.w_hh[row * out + k] += da[gate] * s.h_prev[k];
        dh_prev[k] += da[gate] * layer.w_hh[row * out + k];
      }
    }
  }
  dh = dh_prev;
  return dx;
}

}  // namespace naive
