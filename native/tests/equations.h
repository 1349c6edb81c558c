// Calls by the equations (naive.h): every row alone, step by step, through all layers and directions.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "calls.h"
#include "naive.h"

using naive::Array;

template <class Real>
Array part(const std::vector<Real>& from, std::int64_t start, std::int64_t count) {
  if (from.empty()) return Array(static_cast<std::size_t>(count), 0);
  return Array(from.begin() + start, from.begin() + start + count);
}

// The results of a call by the equations, under the names of the call's own.
template <class Real>
class Equations {
 public:
  Array output, h_n, c_n, dx, dh_0, dc_0;
  std::vector<naive::LayerGradients> dweights;
  std::vector<Array> steps, hidden;  // where the call is traced

  explicit Equations(const Call<Real>& call)
      : output(call.output.size()),
        h_n(call.h_n.size()),
        c_n(call.c_n.size()),
        dx(call.dx.size()),
        dh_0(call.dh_n.size()),
        dc_0(call.dc_n.size()),
        call_(call),
        p_(call.problem),
        chains_(call.sizes.layers * call.sizes.D) {
    const std::int64_t G = fastlstm::counts_of(p_.cell).gates;
    for (std::int64_t l = 0; l < chains_; ++l) {
      const auto* w = &call.weights[index(5 * l)];
      const std::int64_t in = p_.layer_input(l / p_.D);
      layers_.push_back({p_.cell, in, p_.H, p_.P, part(w[0], 0, G * p_.H * in), part(w[1], 0, G * p_.H * p_.out()),
                         part(w[2], 0, G * p_.H), part(w[3], 0, G * p_.H), part(w[4], 0, p_.P * p_.H)});
      const naive::Layer& layer = layers_.back();
      dweights.push_back({Array(layer.w_ih.size()), Array(layer.w_hh.size()), Array(layer.b_ih.size()), Array(layer.b_hh.size()),
                          Array(layer.w_hr.size())});
    }
    for (const auto& array : call.steps) steps.emplace_back(array.size());
    for (const auto& array : call.hidden) hidden.emplace_back(array.size());
    for (std::int64_t n = 0; n < p_.N; ++n) {
      const std::int64_t length = length_of(n);
      forward(n, length);
      backward(n, length);
    }
  }

  // In the order of Call::results().
  std::vector<Array> results() const {
    const bool hx = !call_.h_0.empty();
    const bool bias = call_.sizes.bias;
    std::vector<Array> all{output, h_n, c_n, dx, hx ? dh_0 : Array{}, hx ? dc_0 : Array{}};
    for (const naive::LayerGradients& d : dweights)
      all.insert(all.end(), {d.w_ih, d.w_hh, bias ? d.b_ih : Array{}, bias ? d.b_hh : Array{}, d.w_hr});
    all.insert(all.end(), steps.begin(), steps.end());
    all.insert(all.end(), hidden.begin(), hidden.end());
    return all;
  }

 private:
  static std::size_t index(std::int64_t n) { return static_cast<std::size_t>(n); }
  static void put(Array& to, std::int64_t start, const Array& from) { std::copy(from.begin(), from.end(), to.begin() + start); }
  std::int64_t length_of(std::int64_t n) const {
    std::int64_t t = 0;
    while (t < p_.T && p_.batch(t) > n) ++t;
    return t;
  }
  // Row n of an array of (layers * D, N, width), at chain l.
  Array state(const std::vector<Real>& from, std::int64_t l, std::int64_t n) const {
    const std::int64_t width = &from == &call_.c_0 || &from == &call_.dc_n ? p_.H : p_.out();
    return part(from, (l * p_.N + n) * width, width);
  }
  void mask(std::int64_t layer, std::int64_t t, std::int64_t n, Array& row) const {
    if (!call_.sizes.masks) return;
    const Array factors = part(call_.masks[index(layer)], (p_.row(t) + n) * p_.D * p_.out(), p_.D * p_.out());
    for (std::size_t j = 0; j < row.size(); ++j) row[j] *= factors[j];
  }
  // What `trace` reads of a step; likewise the gradients of it.
  std::int64_t step_arrays() const { return fastlstm::counts_of(p_.cell).steps; }
  void put_step(std::int64_t l, std::int64_t row, const naive::Step& s) {
    if (steps.empty()) return;
    Array* const to = &steps[index(l * step_arrays())];
    const std::int64_t states = step_arrays() - fastlstm::counts_of(p_.cell).gates;
    if (states > 0) put(to[0], row * p_.H, s.c);
    for (std::int64_t gate = 0; gate + states < step_arrays(); ++gate) put(to[states + gate], row * p_.H, s.gates[gate]);
  }
  std::vector<Array> step_gradients(std::int64_t l, std::int64_t row) const {
    std::vector<Array> all;
    for (std::int64_t k = 0; k < step_arrays(); ++k)
      all.push_back(call_.dsteps.empty() ? Array(index(p_.H), 0)
                                         : part(call_.dsteps[index(l * step_arrays() + k)], row * p_.H, p_.H));
    return all;
  }

  void forward(std::int64_t n, std::int64_t length) {
    const std::int64_t out = p_.out();
    steps_.assign(index(chains_), std::vector<naive::Step>(index(length)));
    std::vector<Array> x;
    for (std::int64_t t = 0; t < length; ++t) x.push_back(part(call_.x, (p_.row(t) + n) * p_.I, p_.I));
    for (std::int64_t k = 0; k < p_.layers; ++k) {
      std::vector<Array> rows(index(length), Array(index(p_.D * out)));
      for (std::int64_t dir = 0; dir < p_.D; ++dir) {
        const std::int64_t l = k * p_.D + dir;
        Array h = state(call_.h_0, l, n);
        Array c = state(call_.c_0, l, n);
        for (std::int64_t i = 0; i < length; ++i) {
          const std::int64_t t = dir == 0 ? i : length - 1 - i;
          const naive::Step step = naive::step(layers_[index(l)], x[index(t)], h, c);
          h = step.h;
          c = step.c;
          put(rows[index(t)], dir * out, h);
          put_step(l, p_.row(t) + n, step);
          steps_[index(l)][index(t)] = step;
        }
        put(h_n, (l * p_.N + n) * out, h);
        put(c_n, (l * p_.N + n) * p_.H, c);
      }
      for (std::int64_t t = 0; t < length; ++t) {
        const bool is_last = k + 1 == p_.layers;
        if (is_last) put(output, (p_.row(t) + n) * p_.D * out, rows[index(t)]);
        if (!is_last && !hidden.empty()) put(hidden[index(k)], (p_.row(t) + n) * p_.D * out, rows[index(t)]);
        if (!is_last) mask(k, t, n, rows[index(t)]);
      }
      x = rows;
    }
  }

  void backward(std::int64_t n, std::int64_t length) {
    const std::int64_t out = p_.out();
    const auto row_of = [&](const std::vector<Real>& from, std::int64_t t) {
      return part(from, (p_.row(t) + n) * p_.D * out, p_.D * out);
    };
    std::vector<Array> doutput;
    for (std::int64_t t = 0; t < length; ++t) doutput.push_back(row_of(call_.doutput, t));
    for (std::int64_t k = p_.layers - 1; k >= 0; --k) {
      std::vector<Array> below(index(length), Array(index(p_.layer_input(k)), 0));
      for (std::int64_t dir = 0; dir < p_.D; ++dir) {
        const std::int64_t l = k * p_.D + dir;
        Array dh = state(call_.dh_n, l, n);
        Array dc = state(call_.dc_n, l, n);
        for (std::int64_t i = 0; i < length; ++i) {
          const std::int64_t t = dir == 0 ? length - 1 - i : i;
          for (std::int64_t j = 0; j < out; ++j) dh[index(j)] += doutput[index(t)][index(dir * out + j)];
          const Array of_x = naive::step_backward(layers_[index(l)], steps_[index(l)][index(t)], step_gradients(l, p_.row(t) + n),
                                                  dh, dc, dweights[index(l)]);
          for (std::size_t j = 0; j < of_x.size(); ++j) below[index(t)][j] += of_x[j];
        }
        put(dh_0, (l * p_.N + n) * out, dh);
        if (!dc_0.empty()) put(dc_0, (l * p_.N + n) * p_.H, dc);
      }
      for (std::int64_t t = 0; t < length; ++t) {
        if (k == 0) put(dx, (p_.row(t) + n) * p_.I, below[index(t)]);
        if (k == 0) continue;
        mask(k - 1, t, n, below[index(t)]);
        if (call_.dhidden.empty()) continue;
        const Array more = row_of(call_.dhidden[index(k - 1)], t);
        for (std::size_t j = 0; j < more.size(); ++j) below[index(t)][j] += more[j];
      }
      doutput = below;
    }
  }

  const Call<Real>& call_;
  const fastlstm::Problem& p_;
  std::int64_t chains_;
  std::vector<naive::Layer> layers_;
  std::vector<std::vector<naive::Step>> steps_;  // of a row, by chains, in the order of time
};

template <class Real>
std::string name_of(const Call<Real>& call, std::size_t k) {
  static const char* const names[] = {"output", "h_n", "c_n", "dx", "dh_0", "dc_0", "dw_ih", "dw_hh", "db_ih", "db_hh", "dw_hr"};
  const std::size_t weights = 6 + call.dweights.size();
  if (k < weights) return names[k < 6 ? k : 6 + (k - 6) % 5];
  return k < weights + call.steps.size() ? "steps " + std::to_string(k - weights) : "hidden";
}

// |mine - exact| <= tolerance * (1 + the largest of exact)
template <class Real>
void compare(const Call<Real>& call, double tolerance) {
  const auto mine = call.results();
  const auto exact = Equations<Real>(call).results();
  REQUIRE(mine.size() == exact.size());
  for (std::size_t k = 0; k < mine.size(); ++k) {
    CAPTURE(name_of(call, k));
    REQUIRE(mine[k].size() == exact[k].size());
    long double largest = 1;
    long double error = 0;
    for (std::size_t j = 0; j < mine[k].size(); ++j) {
      largest = std::max(largest, std::abs(exact[k][j]));
      error = std::max(error, std::abs(mine[k][j] - exact[k][j]));
    }
    CHECK(static_cast<double>(error / largest) <= tolerance);
  }
}
