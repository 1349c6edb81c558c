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
  fastlstm::CellKind cell;
  std::int64_t in, H, P;  // P = 0: no projection
  Array w_ih, w_hh, b_ih, b_hh, w_hr;
  std::int64_t out() const { return P > 0 ? P : H; }
};

struct Step {
  Array x, h_prev, c_prev;
  Array gates[4];  // i, f, g, o; or r, z, n and R_n h + b_hn
  Array c, full, h;
};

struct LayerGradients {
  Array w_ih, w_hh, b_ih, b_hh, w_hr;
};

inline Number row_times(const Array& w, std::size_t row, const Array& x) {
  Number sum = 0;
  for (std::size_t k = 0; k < x.size(); ++k) sum += w[row * x.size() + k] * x[k];
  return sum;
}

// From the gradient of a row of the weights times x: that of the row, added to dw, and that of x, added to dx.
inline void row_times_backward(const Array& w, std::size_t row, const Array& x, Number d, Array& dw, Array& dx) {
  for (std::size_t k = 0; k < x.size(); ++k) {
    dw[row * x.size() + k] += d * x[k];
    dx[k] += d * w[row * x.size() + k];
  }
}

inline Step lstm_step(const Layer& layer, const Array& x, const Array& h_prev, const Array& c_prev) {
  const auto H = static_cast<std::size_t>(layer.H);
  Step s{x, h_prev, c_prev, {Array(H), Array(H), Array(H), Array(H)}, Array(H), Array(H), {}};
  auto& [i, f, g, o] = s.gates;
  for (std::size_t u = 0; u < H; ++u) {
    Number a[4];
    for (std::size_t gate = 0; gate < 4; ++gate) {
      const std::size_t row = gate * H + u;
      a[gate] = layer.b_ih[row] + layer.b_hh[row] + row_times(layer.w_ih, row, x) + row_times(layer.w_hh, row, h_prev);
    }
    i[u] = sigmoid(a[0]);
    f[u] = sigmoid(a[1]);
    g[u] = std::tanh(a[2]);
    o[u] = sigmoid(a[3]);
    s.c[u] = f[u] * c_prev[u] + i[u] * g[u];
    s.full[u] = o[u] * std::tanh(s.c[u]);
  }
  s.h = s.full;
  if (layer.P > 0) {
    s.h.clear();
    for (std::size_t p = 0; p < static_cast<std::size_t>(layer.P); ++p) s.h.push_back(row_times(layer.w_hr, p, s.full));
  }
  return s;
}

inline Step gru_step(const Layer& layer, const Array& x, const Array& h_prev) {
  const auto H = static_cast<std::size_t>(layer.H);
  Step s{x, h_prev, {}, {Array(H), Array(H), Array(H), Array(H)}, {}, {}, Array(H)};
  auto& [r, z, n, n_h] = s.gates;
  const auto of_x = [&](std::size_t row) { return row_times(layer.w_ih, row, x) + layer.b_ih[row]; };
  const auto of_h = [&](std::size_t row) { return row_times(layer.w_hh, row, h_prev) + layer.b_hh[row]; };
  for (std::size_t u = 0; u < H; ++u) {
    r[u] = sigmoid(of_x(u) + of_h(u));
    z[u] = sigmoid(of_x(H + u) + of_h(H + u));
    n_h[u] = of_h(2 * H + u);
    n[u] = std::tanh(of_x(2 * H + u) + r[u] * n_h[u]);
    s.h[u] = (1 - z[u]) * n[u] + z[u] * h_prev[u];
  }
  return s;
}

inline Step step(const Layer& layer, const Array& x, const Array& h_prev, const Array& c_prev) {
  return layer.cell == fastlstm::CellKind::gru ? gru_step(layer, x, h_prev) : lstm_step(layer, x, h_prev, c_prev);
}

// dh, dc: gradients of h_t and c_t; they become those of h_{t-1} and c_{t-1}. of_steps: those of what `trace` reads. Returns dx;
// adds to d.
inline Array lstm_backward(const Layer& layer, const Step& s, const std::vector<Array>& of_steps, Array& dh, Array& dc,
                           LayerGradients& d) {
  const auto H = static_cast<std::size_t>(layer.H);
  Array full = dh;
  if (layer.P > 0) {
    full.assign(H, 0);
    for (std::size_t p = 0; p < dh.size(); ++p) row_times_backward(layer.w_hr, p, s.full, dh[p], d.w_hr, full);
  }
  const auto& [i, f, g, o] = s.gates;
  Array dx(s.x.size(), 0);
  Array dh_prev(s.h_prev.size(), 0);
  for (std::size_t u = 0; u < H; ++u) {
    const Number tanh_c = std::tanh(s.c[u]);
    const Number dc_t = dc[u] + of_steps[0][u] + full[u] * o[u] * (1 - tanh_c * tanh_c);
    dc[u] = dc_t * f[u];
    const Number da[4] = {
        (dc_t * g[u] + of_steps[1][u]) * i[u] * (1 - i[u]), (dc_t * s.c_prev[u] + of_steps[2][u]) * f[u] * (1 - f[u]),
        (dc_t * i[u] + of_steps[3][u]) * (1 - g[u] * g[u]), (full[u] * tanh_c + of_steps[4][u]) * o[u] * (1 - o[u])};
    for (std::size_t gate = 0; gate < 4; ++gate) {
      const std::size_t row = gate * H + u;
      d.b_ih[row] += da[gate];
      d.b_hh[row] += da[gate];
      row_times_backward(layer.w_ih, row, s.x, da[gate], d.w_ih, dx);
      row_times_backward(layer.w_hh, row, s.h_prev, da[gate], d.w_hh, dh_prev);
    }
  }
  dh = dh_prev;
  return dx;
}

inline Array gru_backward(const Layer& layer, const Step& s, const std::vector<Array>& of_steps, Array& dh, LayerGradients& d) {
  const auto H = static_cast<std::size_t>(layer.H);
  const auto& [r, z, n, n_h] = s.gates;
  Array dx(s.x.size(), 0);
  Array dh_prev(s.h_prev.size(), 0);
  for (std::size_t u = 0; u < H; ++u) {
    const Number of_n = (dh[u] * (1 - z[u]) + of_steps[2][u]) * (1 - n[u] * n[u]);
    const Number of_x[3] = {(of_n * n_h[u] + of_steps[0][u]) * r[u] * (1 - r[u]),
                            (dh[u] * (s.h_prev[u] - n[u]) + of_steps[1][u]) * z[u] * (1 - z[u]), of_n};
    const Number of_h[3] = {of_x[0], of_x[1], of_n * r[u]};
    for (std::size_t gate = 0; gate < 3; ++gate) {
      const std::size_t row = gate * H + u;
      d.b_ih[row] += of_x[gate];
      d.b_hh[row] += of_h[gate];
      row_times_backward(layer.w_ih, row, s.x, of_x[gate], d.w_ih, dx);
      row_times_backward(layer.w_hh, row, s.h_prev, of_h[gate], d.w_hh, dh_prev);
    }
    dh_prev[u] += dh[u] * z[u];
  }
  dh = dh_prev;
  return dx;
}

inline Array step_backward(const Layer& layer, const Step& s, const std::vector<Array>& of_steps, Array& dh, Array& dc,
                           LayerGradients& d) {
  return layer.cell == fastlstm::CellKind::gru ? gru_backward(layer, s, of_steps, dh, d)
                                               : lstm_backward(layer, s, of_steps, dh, dc, d);
}

}  // namespace naive
