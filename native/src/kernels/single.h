// A single step (T = 1) reads the weights where they are: packing them would cost more than using them once. Both operands lie
// along k, so vectors run along k too. Included inside an ISA's namespace.

// sums[w][b] = sum over k of a[w * lda + k] * x[b * ldx + k], added to what is there, lane by lane.
template <class Real, int A, int B, class Element>
inline void dot(Vec<Real> (&sums)[A][B], const Element* a, Index lda, const Real* x, Index ldx, Index K) {
  constexpr Index lanes = kLanes<Real>;
  const auto add = [&](auto&& read, Index k) {
    Vec<Real> x_k[B];
#pragma GCC unroll 3
    for (int b = 0; b < B; ++b) x_k[b] = read(x + b * ldx + k);
#pragma GCC unroll 8
    for (int w = 0; w < A; ++w) {
      const Vec<Real> a_k = read(a + w * lda + k);
#pragma GCC unroll 3
      for (int b = 0; b < B; ++b) sums[w][b] = fma(a_k, x_k[b], sums[w][b]);
    }
  };
  Index k = 0;
  for (; k + lanes <= K; k += lanes) add([](const auto* p) { return load(p); }, k);
  if (k < K) {
    const int rest = static_cast<int>(K - k);
    add([rest](const auto* p) { return load_first(p, rest); }, k);
  }
}

template <class Real>
inline Real sum_of_lanes(Vec<Real> a) {
  Real lane[kLanes<Real>];
  store(lane, a);
  for (int step = kLanes<Real> / 2; step > 0; step /= 2)
    for (int k = 0; k < step; ++k) lane[k] += lane[k + step];
  return lane[0];
}

// pre[b][lane] for A units of one gate and B rows of the batch: W x + R h.
template <int A, int B, class Real>
inline void preactivations(const LayerForward<Real>& layer, Index weight_row, Index n, Real* pre, Index ld_pre) {
  const Index out = layer.problem->out();
  Vec<Real> sums[A][B];
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) sums[w][b] = broadcast(Real(0));
  // First the recurrent terms: mostly the smaller ones, they would be rounded at the size of the others.
  if (layer.h_0 != nullptr)
    visit(layer.weights.w_hh,
          [&](const auto* w) { dot<Real, A, B>(sums, w + weight_row * out, out, layer.h_0 + n * out, out, out); });
  visit(layer.weights.w_ih, [&](const auto* w) {
    dot<Real, A, B>(sums, w + weight_row * layer.in, layer.in, layer.x + n * layer.in, layer.in, layer.in);
  });
  for (int w = 0; w < A; ++w)
    for (int b = 0; b < B; ++b) pre[b * ld_pre + w] = sum_of_lanes(sums[w][b]);
}

// One block of units, B rows: the cell, as in Step::finish.
template <int B, class Real>
inline void single_block(const LayerForward<Real>& layer, Index u, Index n) {
  constexpr int lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const int units = static_cast<int>(H - u * lanes < lanes ? H - u * lanes : lanes);
  Real pre[B][4 * lanes] = {};
  for (int gate = 0; gate < 4; ++gate) {
    const Index weight_row = gate * H + u * lanes;
    Real* const to = &pre[0][gate * lanes];
    constexpr int wide = B == 1 ? 8 : 4;  // sums in flight: 8 hide the latency, 4 x 3 fill 16 registers
    int lane = 0;
    for (; lane + wide <= units; lane += wide) preactivations<wide, B>(layer, weight_row + lane, n, to + lane, 4 * lanes);
    for (; lane < units; ++lane) preactivations<1, B>(layer, weight_row + lane, n, to + lane, 4 * lanes);
  }
  const Real* const bias = layer.bias + u * 4 * lanes;
  for (int b = 0; b < B; ++b) {
    const auto sum = [&](int gate) { return load(&pre[b][gate * lanes]) + load(bias + gate * lanes); };
    const Gates<Real> gates = activate(Gates<Real>{sum(0), sum(1), sum(2), sum(3)});
    const Index row = n + b;
    const Vec<Real> c_prev =
        layer.c_0 == nullptr ? broadcast(Real(0)) : load_columns(layer.c_0 + row * H + u * lanes, H - u * lanes);
    const Vec<Real> c = cell(gates, c_prev);
    if (layer.gates != nullptr) {
      store_gates(layer.gates + u * kHalves * problem.N * kPanel<Real> + row * kPanel<Real>, problem.N * kPanel<Real>, gates);
      store(layer.c + row * Hp + u * lanes, c);
    }
    store_columns(layer.c_n + row * H + u * lanes, c, H - u * lanes);
    const Vec<Real> h = gates.o * tanh(c);
    Real* const to = problem.P > 0 ? layer.h_full + row * Hp : layer.output + row * problem.D * H;
    store_columns(to + u * lanes, h, H - u * lanes);
  }
}

// A projected h: P is small beside H, one dot product each.
template <class Real>
void single_projection(const LayerForward<Real>& layer, Range columns) {
  const Problem& problem = *layer.problem;
  for (Index n = 0; n < problem.N; ++n)
    for (Index j = columns.first; j < columns.last; ++j) {
      Vec<Real> sums[1][1] = {{broadcast(Real(0))}};
      visit(layer.weights.w_hr, [&](const auto* w) {
        dot<Real, 1, 1>(sums, w + j * problem.H, problem.H, layer.h_full + n * layer.Hp(), layer.Hp(), problem.H);
      });
      layer.output[n * problem.D * problem.P + j] = sum_of_lanes(sums[0][0]);
    }
}

template <class Real>
void forward_single(const LayerForward<Real>& layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const Range blocks = share(unit_blocks<Real>(problem.H), group.rank, group.size);
  pack_bias(layer.weights, problem.H, layer.bias, blocks.first, blocks.last);
  for (Index u = blocks.first; u < blocks.last; ++u) {
    Index n = 0;
    for (; n + 3 <= problem.N; n += 3) single_block<3>(layer, u, n);
    for (; n < problem.N; ++n) single_block<1>(layer, u, n);
  }
  if (problem.P > 0) {
    group.barrier->wait();
    single_projection(layer, share(problem.P, group.rank, group.size));
  }
  group.barrier->wait();
  const Index out = problem.out();
  const Range mine = share(problem.N, group.rank, group.size);
  for (Index n = mine.first; n < mine.last; ++n)
    for (Index j = 0; j < out; ++j) layer.h_n[n * out + j] = layer.output[n * problem.D * out + j];
}

// Backward, where there are few rows.

// part[n][j] = sum over k < K of a[n][k] * w[k][j] for the columns j < count of w, four rows of w at a time: K is a multiple
// of 4. The rows of `part` hold whole Vecs.
template <int B, class Real, class Element>
inline void sum_rows(const Real* a, Index lda, const Element* w, Index K, Index columns, Index count, Real* part, Index ld_part) {
  for (Index k = 0; k < K; k += 4) {
    Vec<Real> a_k[B][4];
    for (int b = 0; b < B; ++b)
      for (int i = 0; i < 4; ++i) a_k[b][i] = broadcast(a[b * lda + k + i]);
    for (Index j = 0; j < count; j += kLanes<Real>) {
      const Index rest = count - j;
      Vec<Real> sums[B];
      for (int b = 0; b < B; ++b) sums[b] = k > 0 ? load(part + b * ld_part + j) : broadcast(Real(0));
      for (int i = 0; i < 4; ++i) {
        const Vec<Real> w_k = load_columns(w + (k + i) * columns + j, rest);
        for (int b = 0; b < B; ++b) sums[b] = fma(a_k[b][i], w_k, sums[b]);
      }
      for (int b = 0; b < B; ++b) store(part + b * ld_part + j, sums[b]);
    }
  }
}

// y[n][j] (+)= sum over k < K of a[n][k] * w[k][j], for the columns [range) of y and w, part by part.
template <int B, class Real, class Element>
inline void add_rows(const Real* a, Index lda, const Element* w, Index K, Index columns, Range range, Real* y, Index ldy,
                     bool add) {
  if (columns == 1) {  // both lie along k
    constexpr Index length = 32 * kLanes<Real>;
    for (Index k = 0; k < K && range.first < range.last; k += length) {
      Vec<Real> sums[1][B];
      for (int b = 0; b < B; ++b) sums[0][b] = broadcast(Real(0));
      dot<Real, 1, B>(sums, w + k, K, a + k, lda, K - k < length ? K - k : length);
      for (int b = 0; b < B; ++b) y[b * ldy] = (k > 0 || add ? y[b * ldy] : Real(0)) + sum_of_lanes(sums[0][b]);
    }
    return;
  }
  constexpr Index at_once = 2048;  // columns: two rows of them stay in L1, and are whole pages of w
  alignas(64) Real part[B * at_once];
  for (Index j0 = range.first; j0 < range.last; j0 += at_once) {
    const Index count = range.last - j0 < at_once ? range.last - j0 : at_once;
    for (Index k = 0, end = 0; k < K; k = end) {
      end = end_of(k, kPart, K);
      sum_rows<B>(a + k, lda, w + k * columns + j0, end - k, columns, count, part, at_once);
      for (int b = 0; b < B; ++b)
        for (Index j = 0; j < count; j += kLanes<Real>) {
          Real* const to = y + b * ldy + j0 + j;
          const Vec<Real> sum = load(part + b * at_once + j);
          store_columns(to, k > 0 || add ? load_columns(to, count - j) + sum : sum, count - j);
        }
    }
  }
}

template <class Real>
void add_all_rows(Index N, const Real* a, Index lda, const Source<Real>& weights, Index K, Index columns, Range range, Real* y,
                  Index ldy, bool add) {
  visit(weights, [&](const auto* w) {
    Index n = 0;
    for (; n + 2 <= N; n += 2) add_rows<2>(a + n * lda, lda, w, K, columns, range, y + n * ldy, ldy, add);
    for (; n < N; ++n) add_rows<1>(a + n * lda, lda, w, K, columns, range, y + n * ldy, ldy, add);
  });
}

// dw[m][j] = sum over n < N of a[n][m] * x[n][j] for the rows [mine); x may be nullptr: zeros.
template <class Real>
void outer_product(Index N, const Real* a, Index lda, const Real* x, Index ldx, Index columns, Range mine,
                   const Target<Real>& gradient) {
  visit(gradient, [&](auto* dw) {
    for (Index m = mine.first; m < mine.last; ++m) {
      Vec<Real> a_m[kOneStepRows];
      for (Index n = 0; n < N; ++n) a_m[n] = broadcast(a[n * lda + m]);
      for (Index j = 0; j < columns; j += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        if (x != nullptr)
          for (Index n = 0; n < N; ++n) sum = fma(a_m[n], load_columns(x + n * ldx + j, columns - j), sum);
        store_columns(dw + m * columns + j, sum, columns - j);
      }
    }
  });
}

// The gate gradients of a single step into dgates, here (N, 4H) in the order of the weights' rows; dc_0; and h before its
// projection.
template <class Real>
void single_gate_gradients(const LayerBackward<Real>& layer, Range blocks) {
  constexpr Index lanes = kLanes<Real>;
  const Problem& problem = *layer.problem;
  const Index N = problem.N;
  const Index H = problem.H;
  const Index Hp = layer.Hp();
  const Index stride = N * kPanel<Real>;
  for (Index u = blocks.first; u < blocks.last; ++u)
    for (Index n = 0; n < N; ++n) {
      const Index unit = u * lanes;
      const Index rest = H - unit;
      const Gates<Real> kept = load_gates(layer.gates + u * kHalves * stride + n * kPanel<Real>, stride);
      const Vec<Real> tanh_c = tanh(load(layer.c + n * Hp + unit));
      const Vec<Real> zero = broadcast(Real(0));
      const Vec<Real> c_prev = layer.c_0 == nullptr ? zero : load_columns(layer.c_0 + n * H + unit, rest);
      Vec<Real> dh = zero;
      if (problem.P > 0) {
        dh = load(layer.dh_full + n * Hp + unit);
        store(layer.h_full + n * layer.H_padded() + unit, kept.o * tanh_c);
      } else {
        if (layer.dh_n != nullptr) dh = load_columns(layer.dh_n + n * H + unit, rest);
        if (layer.doutput != nullptr) dh = dh + load_columns(layer.doutput + n * problem.D * H + unit, rest);
      }
      Vec<Real> dc = layer.dc_n == nullptr ? zero : load_columns(layer.dc_n + n * H + unit, rest);
      const Gates<Real> d = cell_backward(kept, c_prev, tanh_c, dh, dc);
      if (layer.dc_0 != nullptr) store_columns(layer.dc_0 + n * H + unit, dc, rest);
      Real* const to = layer.dgates + n * 4 * H + unit;
      store_columns(to, d.i, rest);
      store_columns(to + H, d.f, rest);
      store_columns(to + 2 * H, d.g, rest);
      store_columns(to + 3 * H, d.o, rest);
    }
}

template <class Real>
void backward_single(const LayerBackward<Real>& layer, const Group& group) {
  const Problem& problem = *layer.problem;
  const Index N = problem.N;
  const Index H = problem.H;
  const Index P = problem.P;
  const Index out = problem.out();
  const Range blocks = share(unit_blocks<Real>(H), group.rank, group.size);
  const auto mine = [&](Index count) { return share(count, group.rank, group.size); };
  if (P > 0) {
    const Range columns = mine(P);
    for (Index n = 0; n < N; ++n)
      for (Index j = columns.first; j < columns.last; ++j) {
        Real d = layer.dh_n == nullptr ? Real(0) : layer.dh_n[n * P + j];
        if (layer.doutput != nullptr) d += layer.doutput[n * problem.D * P + j];
        layer.dh_projected[n * P + j] = d;
      }
    group.barrier->wait();
    const Index last = blocks.last * kLanes<Real> < H ? blocks.last * kLanes<Real> : H;
    for (Index n = 0; n < N; ++n)
      for (Index j = blocks.first * kLanes<Real>; j < last; j += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        visit(layer.weights.w_hr, [&](const auto* w) {
          for (Index p = 0; p < P;) {
            Vec<Real> part = broadcast(Real(0));
            for (const Index end = end_of(p, kPart, P); p < end; ++p)
              part = fma(broadcast(layer.dh_projected[n * P + p]), load_columns(w + p * H + j, H - j), part);
            sum = sum + part;
          }
        });
        store(layer.dh_full + n * layer.Hp() + j, sum);
      }
  }
  single_gate_gradients(layer, blocks);
  group.barrier->wait();
  const Index K = 4 * H;
  if (layer.dx != nullptr)
    add_all_rows(N, layer.dgates, K, layer.weights.w_ih, K, layer.in, mine(layer.in), layer.dx, layer.in, layer.add_dx);
  if (layer.dh_0 != nullptr) add_all_rows(N, layer.dgates, K, layer.weights.w_hh, K, out, mine(out), layer.dh_0, out, false);
  const WeightGradients<Real>& d = layer.dweights;
  const Range rows = mine(K);
  if (d.w_ih != nullptr) outer_product(N, layer.dgates, K, layer.x, layer.in, layer.in, rows, d.w_ih);
  if (d.w_hh != nullptr) outer_product(N, layer.dgates, K, layer.h_0, out, out, rows, d.w_hh);
  for (const Target<Real>* const bias : {&d.b_ih, &d.b_hh}) {
    if (*bias == nullptr) continue;
    visit(*bias, [&](auto* db) {
      for (Index m = rows.first; m < rows.last; m += kLanes<Real>) {
        Vec<Real> sum = broadcast(Real(0));
        for (Index n = 0; n < N; ++n) sum = sum + load_columns(layer.dgates + n * K + m, rows.last - m);
        store_columns(db + m, sum, rows.last - m);
      }
    });
  }
  if (d.w_hr != nullptr) outer_product(N, layer.dh_projected, P, layer.h_full, layer.H_padded(), H, mine(P), d.w_hr);
}
