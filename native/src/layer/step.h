// A step's sums of the gates and its cells, for some rows and units.
#pragma once
#include "batch/share.h"
#include "cell/gate_buffer.h"
#include "product/parts.h"

namespace fastlstm::FASTLSTM_ISA {

// A tile of a step: the sums of the gates for R rows and U blocks of units, and then the cell. SEGMENTS: at most so many, on
// which the compiler counts: with room for four, one row of few units took up to 1.1 times as long.
template <class Cell, int SEGMENTS = 2>
struct Step {
  using Real = RealOf<Cell>;
  using Input = typename Cell::Input;
  using Hidden = typename Cell::Hidden;
  static_assert(Input::kSpan == Hidden::kSpan, "the panels of both are as wide");
  const TermOf<Cell>* panels;  // of all gates
  const Real* bias;
  Index K;          // their depth
  struct Segment {  // of the sum over k
    const TermOf<Cell>* a;
    Index lda;
    Index k0;
    Index K;
    bool of_hidden;

    Index first_sum() const { return Input::kFirst == Hidden::kFirst || !of_hidden ? Input::kFirst : Hidden::kFirst; }
  } segments[SEGMENTS];
  int segment_count;
  bool from_buffer;  // add to the gate buffer, not to the bias
  bool to_buffer;    // leave the sums there: another cut of the sum follows
  bool backwards;    // from the last block of units to the first
  Real* gates;       // gate buffer, at the first row of this run; nullptr: none
  Index gates_panel_stride;
  enum class Keep { no, stored, streamed } keep_gates;
  const Real* c_prev;  // (., Hp) or nullptr: zeros
  Real* c;             // (., Hp)
  Index Hp;
  ElementOf<Cell>* h;  // h_t, rows ldh apart, `H` columns
  Index ldh;
  Real* exact_h;  // where h is rounded: h_t before that, as far apart; or nullptr
  Index H;

  struct Tile {
    const Step& step;
    Index block;  // of units

    template <int R, int U>
    inline void units(Index row) const {
      constexpr int lanes = kLanes<Real>;
      alignas(64) Real parked[R][U * Cell::kSums * lanes];
      Real* const gates = step.gates == nullptr
                              ? nullptr
                              : step.gates + block * kPanelsOfGates<Cell> * step.gates_panel_stride + row * kRowOfGates<Cell>;
      add_up<R, U>(row, gates, &parked[0][0]);
      if (step.to_buffer) {
        for (int r = 0; r < R; ++r)
          for (int u = 0; u < U; ++u)
            store_gates<Cell>(gates + u * kPanelsOfGates<Cell> * step.gates_panel_stride + r * kRowOfGates<Cell>,
                              step.gates_panel_stride, parked_gates(&parked[r][u * Cell::kSums * lanes]));
        return;
      }
      // A cell is a chain of some 200 cycles, of which a processor holds two: all rows to their c_t first, then all to their h_t.
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u) {
          Real* const pre = &parked[r][u * Cell::kSums * lanes];
          Real* const at =
              gates == nullptr ? nullptr : gates + u * kPanelsOfGates<Cell> * step.gates_panel_stride + r * kRowOfGates<Cell>;
          store(pre + (Cell::kSums - 1) * lanes, step.to_c(parked_gates(pre), at, row + r, (block + u) * lanes));
        }
      for (int r = 0; r < R; ++r)
        for (int u = 0; u < U; ++u)
          step.to_h(load(&parked[r][(u * Cell::kSums + Cell::kSums - 1) * lanes]), row + r, (block + u) * lanes);
    }

    // The sums of R rows, whose place in the gate buffer is `gates`, and U blocks of units: parked, row after row, in gate order.
    template <int R, int U>
    inline __attribute__((always_inline)) void add_up(Index row, const Real* gates, Real* parked) const {
      constexpr int lanes = kLanes<Real>;
      constexpr int V = kPanelVectors<Input>;
      constexpr int block_panels = kBlockPanels<Input>;
      constexpr int all = U * block_panels;
      constexpr int P = R <= 2 ? all : 1;
      constexpr Index width = kGatePanel<Input, Real>;
      constexpr int apart = static_cast<int>(Cell::kSums) / block_panels;  // panels, where sums are parked
      constexpr Index ld = U * Cell::kSums * lanes;
      const auto in_buffer = [&](int u, Index sum) {
        return gate_at<Cell>(gates + u * kPanelsOfGates<Cell> * step.gates_panel_stride, step.gates_panel_stride, sum);
      };
      if constexpr (kSomeSums<Cell>) park_others<R, U>(in_buffer, parked);
      const TermOf<Cell>* const panels = step.panels + block * block_panels * step.K * width;
      for (int p = 0; p < all; p += P) {
        // The bias goes into the first part of x; every later part is a sum of its own, of x or of h.
        bool first = true;
        for (int s = 0; s < step.segment_count; ++s) {
          const Segment& segment = step.segments[s];
          Real* const to = parked + (p * apart + segment.first_sum()) * lanes;
          Index k = 0;
          do {
            const Index end = end_of(k, kPart, segment.K);
            Sums<Real, R, P, V> sums;
            if (first && !step.from_buffer) {
              for (int r = 0; r < R; ++r)
                for (int v = 0; v < P * V; ++v)
                  sums.at[r][v] =
                      load(step.bias + (block * Cell::kSums + p * apart + segment.first_sum() + parked_at<apart, V>(v)) * lanes);
            } else {
              clear(sums);
            }
            accumulate<1, V>(sums, segment.a + row * segment.lda + k, segment.lda, panels + (p * step.K + segment.k0 + k) * width,
                             step.K * width, end - k);
            if (!first) {
              add_parked<apart>(sums, to, ld);
            } else if (step.from_buffer) {
              for (int v = 0; v < P * V; ++v) {
                const int panel = p + v / V;
                const Real* const from = in_buffer(panel / block_panels, segment.first_sum() + panel % block_panels * V + v % V);
                for (int r = 0; r < R; ++r) sums.at[r][v] = load(from + r * kRowOfGates<Cell>) + sums.at[r][v];
              }
            }
            park<apart>(sums, to, ld);
            first = false;
            k = end;
          } while (k < segment.K);
        }
      }
    }

    // What the first segment does not add up: the bias, or what is in the buffer.
    template <int R, int U, class InBuffer>
    inline __attribute__((always_inline)) void park_others(const InBuffer& in_buffer, Real* parked) const {
      constexpr int lanes = kLanes<Real>;
      const Index first = step.segments[0].first_sum();
      for (int u = 0; u < U; ++u)
        for (Index sum = 0; sum < Cell::kSums; ++sum) {
          if (sum >= first && sum < first + Input::kSpan) continue;
          for (int r = 0; r < R; ++r)
            store(parked + (r * U * Cell::kSums + u * Cell::kSums + sum) * lanes,
                  load(step.from_buffer ? in_buffer(u, sum) + r * kRowOfGates<Cell>
                                        : step.bias + ((block + u) * Cell::kSums + sum) * lanes));
        }
    }

    inline __attribute__((always_inline)) static typename Cell::Gates parked_gates(const Real* pre) {
      typename Cell::Gates gates;
      Cell::each(gates, [&](Index sum, auto& gate) { gate = load(pre + sum * kLanes<Real>); });
      return gates;
    }

    template <int R>
    inline void run(Index row) const {
      units<R, 1>(row);
    }
  };

  // c_t of kLanes units of a row from the sums of its gates; `at`: the row's place in the gate buffer. Returns what h_t depends
  // on beside it.
  inline __attribute__((always_inline)) Vec<Real> to_c(const typename Cell::Gates& pre, Real* at, Index row, Index unit) const {
    const typename Cell::Gates gates = Cell::activate(pre);
    const Vec<Real> before = c_prev == nullptr ? broadcast(Real(0)) : load(c_prev + row * Hp + unit);
    if (keep_gates == Keep::stored) store_gates<Cell>(at, gates_panel_stride, gates);
    if (keep_gates == Keep::streamed) stream_gates<Cell>(at, gates_panel_stride, gates);
    store(c + row * Hp + unit, Cell::next_state(gates, before));
    return Cell::shown(gates);
  }
  // h_t, from that and c_t
  inline __attribute__((always_inline)) void to_h(Vec<Real> shown, Index row, Index unit) const {
    const Vec<Real> h_t = Cell::output(shown, load(c + row * Hp + unit)).h;
    store_elements(h + row * ldh + unit, h_t, H - unit);
    if constexpr (kNumbers<Cell> > 1)
      if (exact_h != nullptr) store_columns(exact_h + row * ldh + unit, h_t, H - unit);
  }

  void run(Index rows, Range blocks) const {
    constexpr int some = (8 + Input::kSpan - 1) / Input::kSpan;  // whose sums hide the latency
    for (Index done = 0; done < blocks.last - blocks.first;) {
      const bool wide = rows == 1 && done + some <= blocks.last - blocks.first;
      const Index count = wide ? some : 1;
      const Tile tile{*this, backwards ? blocks.last - done - count : blocks.first + done};
      if (wide) {
        tile.template units<1, some>(0);
      } else {
        for_tiles<kRowsAtOnce<kPanelVectors<Input>>>(rows, tile);
      }
      done += count;
    }
  }

  // The same over all K of the given segments, cut where a panel would outgrow L1.
  void run_cut(Index rows, Range blocks, bool may_cut) const {
    Index total = 0;
    for (int s = 0; s < segment_count; ++s) total += segments[s].K;
    if (!may_cut || !is_cut(total)) {
      run(rows, blocks);
      return;
    }
    Step part = *this;
    bool begun = from_buffer;
    for (int s = 0; s < segment_count; ++s)
      for (Index k = 0, end = 0; k < segments[s].K || k == 0; k = end) {
        const Segment& whole = segments[s];
        end = end_of(k, kCut, whole.K);
        part.segments[0] = {whole.a + k, whole.lda, whole.k0 + k, end - k, whole.of_hidden};
        part.segment_count = 1;
        part.from_buffer = begun;
        part.to_buffer = to_buffer || s < segment_count - 1 || end < whole.K;
        part.run(rows, blocks);
        begun = true;
        if (whole.K == 0) break;
      }
  }
};

}  // namespace fastlstm::FASTLSTM_ISA
