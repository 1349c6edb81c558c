// Compiled for each instruction set, with its flags and FASTLSTM_ISA. Nothing here may use inline functions of the standard
// library.
#include "math/sigmoid.h"
#include "math/tanh.h"
#include "product/matrix_tiles.h"
#include "product/one_row.h"
#include "product/pairs.h"
#include "product/product.h"
//
#include "kernels_of_isa.h"

namespace fastlstm::FASTLSTM_ISA {
namespace {

using Order = GateOrder<0, 1, 2, 3>;

template <class Real, Vec<Real> (*f)(Vec<Real>)>
void map(const Real* x, Real* y, Index count) {
  for (Index k = 0; k < count; k += kLanes<Real>) store_columns(y + k, f(load_columns(x + k, count - k)), count - k);
}

template <class Real>
Index panels(Index columns) {
  return (columns + kPanel<Real> - 1) / kPanel<Real>;
}

template <class Real>
Real dot_of(const Real* a, const Real* b, Index K) {
  Vec<Real> sums[1][1] = {{broadcast(Real(0))}};
  dot<Real, 1, 1>(sums, a, 0, b, 0, K);
  return sum_of_lanes(sums[0][0]);
}

template <class Real>
constexpr KernelsOfIsa<Real> table() {
  return {
      kLanes<Real>,
      kPanel<Real>,
      map<Real, fastlstm::FASTLSTM_ISA::sigmoid<Real>>,
      map<Real, fastlstm::FASTLSTM_ISA::tanh<Real>>,
      [](const Real* from, Index ld_from, Index rows, Index columns, Real* to, Index ld_to) {
        transpose(from, ld_from, rows, columns, to, ld_to);
      },
      [](const Source<Real>& w, Index K, Index columns, Real* to) { pack_columns(w, K, columns, to, 0, panels<Real>(columns)); },
      [](const Source<Real>& w, Index columns, Index K, Real* to) {
        pack_transposed(w, columns, K, to, 0, panels<Real>(columns));
      },
      [](const Source<Real>& w, Index H, Index K, Real* to) { pack_gates<Order>(w, H, K, to, 0, K, 0, unit_blocks<Real>(H)); },
      [](const Source<Real>& w, Index H, Index columns, Real* to) {
        pack_gate_rows<Order>(w, H, columns, to, 0, panels<Real>(columns));
      },
      [](const Real* sums, Index H, Index features, const Target<Real>& gradient) {
        unpack_gates<Order>(sums, H, features, gradient, 0, unit_blocks<Real>(H));
      },
      [](const ProductOf<Real>& p, const Real* right) {
        const Product<Real> product{{p.a, p.lda, kPart, kPart, p.K}, right, p.c, p.ldc, p.columns, p.add};
        product.run(p.rows, 0, panels<Real>(p.columns));
      },
      dot_of<Real>,
      [](const ProductOf<Real>& p, const Source<Real>& w) {
        add_all_rows(p.rows, p.a, p.lda, w, p.K, p.columns, {0, p.columns}, p.c, p.ldc, p.add);
      }};
}
constexpr KernelsOfIsa<float> float32 = table<float>();
constexpr KernelsOfIsa<double> float64 = table<double>();

#ifdef FASTLSTM_PAIRS
constexpr Index kMost = 1 << 20;
Pair pair_panels[kMost];
constexpr PairsOfIsa pairs{[](const BFloat16* a, Index rows, Index K, const Source<float>& w, Index H, float* c) {
  const Index blocks = unit_blocks<float>(H);
  const Index depth = terms<Pair>(K);
  pack_gates<Order>(w, H, K, pair_panels, 0, depth, 0, blocks);
  const Index width = blocks * kPanel<Pair>;
  const Product<Pair> product{{as_terms<Pair>(a), depth, kPart, kPart, depth}, pair_panels, c, width, width, false};
  product.run(rows, 0, blocks);
}};
#endif

#ifdef FASTLSTM_TILES
constexpr Index kMost = 1 << 20;
Bfloat16 tile_panels[kMost];
Bfloat16 tile_rows[kMost];

constexpr TilesOfIsa tiles{
    [](const float* a, Index rows, Index K, const Source<float>& w, Index H, float* c, const float* bias) {
      const Tiles registers(true);
      const Index blocks = tile_blocks(K);
      const Index units = unit_blocks<float>(H);
      const TileRows left{tile_rows, rows};
      bool large = pack_tile_gates<Order>(w, H, K, tile_panels, 0, units);
      for (Index r = 0; r < rows; ++r) large |= split_row(a + r * K, K, left, r, {0, blocks});
      const Index width = units * kPanel<float>;
      const TileProduct product{left, 0, tile_panels, blocks, c, width, kPanel<float>, width, false, bias, kParts, kParts};
      product.run(rows, 0, units);
      return large;
    },
    [](const float* a, Index rows, const Source<float>& w, Index H, Index columns, float* c) {
      const Tiles registers(true);
      const Index units = unit_blocks<float>(H);
      const TileRows left{tile_rows, rows};
      const bool large = pack_tile_gate_rows<Order>(w, H, columns, tile_panels, 0, panels<float>(columns));
      for (Index r = 0; r < rows; ++r)
        for (Index u = 0; u < units; ++u)
          for (Index half = 0; half < 2; ++half) {
            const float* const gates = a + r * units * kPanel<float> + u * kPanel<float> + half * 2 * kTile;
            store_parts(load(gates), load(gates + kTile), left.at(2 * u + half, 0, r), left.part_stride());
          }
      const TileProduct product{left,          0,       tile_panels, 2 * units, c,      columns,
                                kPanel<float>, columns, false,       nullptr,   kParts, kParts};
      product.run(rows, 0, panels<float>(columns));
      return large;
    }};
#endif

}  // namespace

extern const KernelsOfIsa<float>* const tested_float32 = &float32;
extern const KernelsOfIsa<double>* const tested_float64 = &float64;
#ifdef FASTLSTM_PAIRS
extern const PairsOfIsa* const tested_pairs = &pairs;
#endif
#ifdef FASTLSTM_TILES
extern const TilesOfIsa* const tested_tiles = &tiles;
#endif

}  // namespace fastlstm::FASTLSTM_ISA
