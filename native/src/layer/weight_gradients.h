// What a block of steps gives to dx and the gradients of the weights, once its gate gradients are complete.
#pragma once
#include "layer/backward_tiles.h"
#include "layer/halves.h"
#include "layer/hidden.h"
#include "layer/transfer.h"
#include "product/feature_product.h"
#include "product/pairs.h"
#include "product/product.h"

namespace fastlstm::FASTLSTM_ISA {

// The features of the rows `of` the batch in a block, [x; h_{t-1}; 1], into the tiles [mine).
template <class Cell>
void pack_block_features(const LayerBackward<Cell>& layer, Index t0, Index t1, Range mine, Range of) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  const Index out = problem.out();
  const Index tile_size = feature_tile_size<TermOf<Cell>>(rows);
  const Index ones = layer.x_tiles() + layer.h_tiles();
  // A member's share of a source's tiles, [first, last), and which of the source's features is the first of them.
  const auto tiles = [&](Index first, Index last, Index& feature) -> FeatureTiles<TermOf<Cell>> {
    const Index from = first > mine.first ? first : mine.first;
    const Index to = last < mine.last ? last : mine.last;
    feature = (from - first) * kTileRows;
    return {layer.features + from * tile_size, tile_size, to > from ? to - from : 0, rows};
  };
  Index j;
  if (const auto to = tiles(0, layer.x_tiles(), j); to.count > 0) {
    Index packed = 0;
    for (Index t = t0; t < t1; ++t) {
      const Range here{of.first, of.last < problem.batch(t) ? of.last : problem.batch(t)};
      if (here.first >= here.last) continue;
      const Index count = here.last - here.first;
      pack_features(layer.x + (problem.row(t) + here.first) * layer.in + j, layer.in, packed, count, layer.in - j, to);
      packed += count;
    }
  }
  if (const auto to = tiles(layer.x_tiles(), ones, j); to.count > 0) {
    Index packed = 0;
    for (Index t = t0; t < t1; ++t) {
      Run runs[2];
      const int count = step_runs(problem, layer.direction, t, of, runs);
      for (int k = 0; k < count; ++k) {
        const Run& run = runs[k];
        const auto h = hidden_of(layer, run, first_row, rows, j);
        pack_features(h.at, h.ld, packed, run.last - run.first, out - j, to);
        packed += run.last - run.first;
      }
    }
  }
  if (const auto to = tiles(ones, layer.tile_count(), j); to.count > 0) pack_ones(to.first, rows);
}

// Adds the rows `of` the batch in a block to the gradients of the weights, for the tiles of features [mine).
template <class Cell>
void weight_gradients(const LayerBackward<Cell>& layer, Index t0, Index t1, Range mine, Range of, bool add) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  const Index out = problem.out();
  Strips strips;
  if (is_whole(problem, of)) {
    strips.append(0, terms<Cell>(rows));
  } else {  // of numbers, then
    for (Index t = t0; t < t1; ++t) {
      const Range here{of.first, of.last < problem.batch(t) ? of.last : problem.batch(t)};
      strips.append(problem.row(t) - first_row + here.first, here.last - here.first);
    }
  }
  pack_block_features(layer, t0, t1, mine, of);
  const Index tile_size = feature_tile_size<TermOf<Cell>>(rows);
  const Index ones = layer.x_tiles() + layer.h_tiles();
  const Index ld = layer.gate_columns();
  // Features [feature, feature + count) of a tile m, their sums from `first` on of panel p, `SUMS` of them.
  const auto add_sums = [&]<Index SUMS>(Index p, Index m, Index feature, Index count, Index first) {
    constexpr int vectors = static_cast<int>(kSomeSums<Cell> ? SUMS : kSumsInPanel<Cell>);
    const Index at = first * kLanes<RealOf<Cell>>;
    const FeatureTile<TermOf<Cell>, vectors, static_cast<int>(kSumsInPanel<Cell>)> tile{
        layer.features + m * tile_size,
        layer.dgate_panels() + p * terms<Cell>(rows) * kRowOfGates<Cell> + at,
        layer.dsums + feature * ld + p * kRowOfGates<Cell> + at,
        ld,
        strips,
        add,
        m < ones ? kRowsPart : kFewPart};
    for_tiles(count < kTileRows ? count : kTileRows, tile);
  };
  using Input = typename Cell::Input;
  using Hidden = typename Cell::Hidden;
  const auto add_tile = [&](Index p, Index m) {
    if (m < layer.x_tiles()) {
      const Index feature = m * kTileRows;
      add_sums.template operator()<Input::kSpan>(p, m, feature, layer.in - feature, Input::kFirst);
    } else if (m < ones) {
      const Index feature = (m - layer.x_tiles()) * kTileRows;
      add_sums.template operator()<Hidden::kSpan>(p, m, layer.in + feature, out - feature, Hidden::kFirst);
    } else {
      add_sums.template operator()<Cell::kSums>(p, m, layer.in + out, 1, 0);
    }
  };
  // As many tiles of features as half an L2 of 512 KiB holds meet every panel of gate gradients before the next ones come.
  const Index tile_bytes = tile_size * static_cast<Index>(sizeof(TermOf<Cell>));
  const Index half_l2 = Index{256} << 10;
  const Index at_once = tile_bytes > 0 && tile_bytes < half_l2 ? half_l2 / tile_bytes : 1;
  for (Index m0 = mine.first; m0 < mine.last; m0 += at_once) {
    const Index m1 = m0 + at_once < mine.last ? m0 + at_once : mine.last;
    for (Index p = 0; p < ld / kRowOfGates<Cell>; ++p)
      for (Index m = m0; m < m1; ++m) add_tile(p, m);
  }
}

// dW_hr += dh_projected^T h_full over a block, for the tiles of P [mine).
template <class Cell>
void projection_gradients(const LayerBackward<Cell>& layer, Index rows, Range mine, bool add) {
  using Real = RealOf<Cell>;
  const Index P = layer.problem->P;
  Strips all;
  all.append(0, rows);
  for (Index m = mine.first; m < mine.last; ++m) {
    Real* const tile = layer.projected_features + m * rows * kTileRows;
    pack_features(layer.dh_projected + m * kTileRows, P, 0, rows, P - m * kTileRows, FeatureTiles<Real>{tile, 0, 1, rows});
    for (Index p = 0; p < layer.H_padded() / kPanel<Real>; ++p) {
      const FeatureTile<Real, kVectors, kVectors> product{tile,
                                                          layer.h_full + p * rows * kPanel<Real>,
                                                          layer.dhr_sums + m * kTileRows * layer.H_padded() + p * kPanel<Real>,
                                                          layer.H_padded(),
                                                          all,
                                                          add,
                                                          kFewPart};
      for_tiles(P - m * kTileRows < kTileRows ? P - m * kTileRows : kTileRows, product);
    }
  }
}

// dx of a member's rows of the block, to where they stand.
template <class Cell>
void send_dx(const LayerBackward<Cell>& layer, Index first_row, const Range& mine) {
  if (layer.send_dx.data == nullptr) return;
  const Shape shape{layer.problem->rows(), layer.in};
  visit(layer.send_dx, [&](auto* to) {
    for (Index k = first_row + mine.first; k < first_row + mine.last; ++k) send_row(layer.dx, layer.send_dx.rows, k, shape, to);
  });
}

// What the rows `of` the batch in a block of steps, their gate gradients complete, give to dx and the weights: a thread's share
// of it.
template <class Cell>
void block_gradients(const LayerBackward<Cell>& layer, Index t0, Index t1, const Group& group, Range of, bool add) {
  const Problem& problem = *layer.problem;
  const Index first_row = problem.row(t0);
  const Index rows = problem.row(t1) - first_row;
  bool tiled = false;
  if constexpr (kTiled<Cell>) {
    tiled = layer.plan.tiled;
    if (tiled) {
      pair_gates(layer, rows, share(unit_blocks<RealOf<Cell>>(problem.H), group.rank, group.size));
      if (layer.dx != nullptr) {
        const Range mine = share(rows, group.rank, group.size);
        gates_times(layer, mine.first, layer.tiles.ih_panels, layer.weights.w_ih.element,
                    layer.dx + (first_row + mine.first) * layer.in, layer.in, layer.in, layer.add_dx)
            .run(mine.last - mine.first, 0, (layer.in + kPanel<TermOf<Cell>> - 1) / kPanel<TermOf<Cell>>);
        send_dx(layer, first_row, mine);
      }
      group.barrier->wait();
      weight_gradients_by_tiles(layer, t0, t1, group, add);
    }
  }
  const bool paired = kNumbers<Cell> > 1 && layer.tile_count() > 0;
  if constexpr (kNumbers<Cell> > 1) {
    const Range mine = paired ? share(layer.gate_columns() / kRowOfGates<Cell>, group.rank, group.size) : Range{0, 0};
    pair_rows(layer.dgates, rows, layer.dgate_pairs, mine.first, mine.last);
  }
  if (!tiled && layer.dx != nullptr) {
    const auto to_dx = [&](const Range& mine) {
      const Product<TermOf<Cell>> product{gate_rows<typename Cell::Input>(layer, mine.first, rows),
                                          layer.ih_panels,
                                          layer.dx + (first_row + mine.first) * layer.in,
                                          layer.in,
                                          layer.in,
                                          layer.add_dx};
      product.run(mine.last - mine.first, 0, (layer.in + kPanel<TermOf<Cell>> - 1) / kPanel<TermOf<Cell>>);
      send_dx(layer, first_row, mine);
    };
    if (is_whole(problem, of)) {
      to_dx(share(rows, group.rank, group.size));
    } else {
      const Range own = own_rows(problem, t0, t1, of, group);
      for (Index t = t0; t < t1; ++t) {
        const Index row0 = problem.row(t) - first_row;
        const Index last = own.last < problem.batch(t) ? own.last : problem.batch(t);
        if (own.first < last) to_dx({row0 + own.first, row0 + last});
      }
    }
  }
  if (paired) group.barrier->wait();
  if (!tiled) {
    const Range mine = share(layer.tile_count(), group.rank, group.size);
    if (layer.plan.halves && is_whole(problem, of)) {
      weight_gradients(layer, t0, t1, mine, half_of(problem, 0), add);
      LayerBackward<Cell> second = layer;
      second.dsums = layer.second.dsums;
      weight_gradients(second, t0, t1, mine, half_of(problem, 1), add);
    } else {
      weight_gradients(layer, t0, t1, mine, of, add);
    }
  }
  if (layer.dweights.w_hr != nullptr)
    projection_gradients(layer, rows, share((problem.P + kTileRows - 1) / kTileRows, group.rank, group.size), add);
}

// The summed gradients into the caller's arrays, and the states' gradients.
template <class Cell>
void write_gradients(const LayerBackward<Cell>& layer, const Group& group) {
  using Real = RealOf<Cell>;
  const Problem& problem = *layer.problem;
  const Index H = problem.H;
  const Index out = problem.out();
  const Index ld = layer.gate_columns();
  const WeightGradients<Real>& d = layer.dweights;
  const Range units = share(unit_blocks<Real>(H), group.rank, group.size);
  if (d.w_ih != nullptr) unpack_gates<typename Cell::Input>(layer.dsums, H, layer.in, d.w_ih, units.first, units.last);
  if (d.w_hh != nullptr)
    unpack_gates<typename Cell::Hidden>(layer.dsums + layer.in * ld, H, out, d.w_hh, units.first, units.last);
  const Real* const db = layer.dsums + (layer.in + out) * ld;
  if (d.b_ih != nullptr) unpack_gates<typename Cell::Input>(db, H, 1, d.b_ih, units.first, units.last);
  if (d.b_hh != nullptr) unpack_gates<typename Cell::Hidden>(db, H, 1, d.b_hh, units.first, units.last);
  if (d.w_hr != nullptr) {
    const Range mine = share(problem.P, group.rank, group.size);
    visit(d.w_hr, [&](auto* dw) {
      for (Index p = mine.first; p < mine.last; ++p)
        for (Index j = 0; j < H; j += kLanes<Real>)
          store_columns(dw + p * H + j, load(layer.dhr_sums + p * layer.H_padded() + j), H - j);
    });
  }
  const Range rows = share(problem.N, group.rank, group.size);
  for (Index n = rows.first; n < rows.last; ++n) {
    if (layer.dh_0 != nullptr)
      for (Index j = 0; j < out; ++j) {
        layer.dh_0[n * out + j] = layer.dh[n * layer.out_padded() + j];
        if constexpr (Cell::kStates == 1) layer.dh_0[n * out + j] += layer.dc[n * layer.Hp() + j];
      }
    if (layer.dc_0 != nullptr)
      for (Index j = 0; j < H; ++j) layer.dc_0[n * H + j] = layer.dc[n * layer.Hp() + j];
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
