// The pieces that an instruction set's kernels are built from, one by one, for the tests: kernels_of_isa.cpp is compiled for
// each.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fastlstm/engine.h"

using Index = std::int64_t;

// c[r][j] (+)= sum over k of a[r][k] * w: rows lda and ldc apart, only columns j < columns of c.
template <class Real>
struct ProductOf {
  const Real* a;
  Index lda;
  Index rows;
  Index K;
  Real* c;
  Index ldc;
  Index columns;
  bool add;
};

// Sizes of panels: products/pack.h and products/matrix_tiles.h have their layouts.
template <class Real>
struct KernelsOfIsa {
  Index lanes;
  Index panel;
  void (*sigmoid)(const Real* x, Real* y, Index count);
  void (*tanh)(const Real* x, Real* y, Index count);
  void (*transpose)(const Real* from, Index ld_from, Index rows, Index columns, Real* to, Index ld_to);
  // Panels of w, which is (K, columns); or (columns, K); or (4H, K), its gates the columns; or (4H, columns), its gates the
  // terms.
  void (*pack_columns)(const fastlstm::Source<Real>& w, Index K, Index columns, Real* panels);
  void (*pack_transposed)(const fastlstm::Source<Real>& w, Index columns, Index K, Real* panels);
  void (*pack_gates)(const fastlstm::Source<Real>& w, Index H, Index K, Real* panels);
  void (*pack_gate_rows)(const fastlstm::Source<Real>& w, Index H, Index columns, Real* panels);
  void (*unpack_gates)(const Real* sums, Index H, Index features, const fastlstm::Target<Real>& gradient);
  void (*multiply)(const ProductOf<Real>& product, const Real* panels);
  // With w as it stands: (K, columns).
  Real (*dot)(const Real* a, const Real* b, Index K);
  void (*multiply_rows)(const ProductOf<Real>& product, const fastlstm::Source<Real>& w);
};

// bfloat16 numbers, where the instruction set multiplies pairs of them; w is (4H, K), K even, its gates the columns of c in gate
// order.
struct PairsOfIsa {
  void (*multiply)(const fastlstm::BFloat16* a, Index rows, Index K, const fastlstm::Source<float>& w, Index H, float* c);
};

// The same products of float32 on matrix tiles. True: a number was too large for them.
struct TilesOfIsa {
  bool (*multiply)(const float* a, Index rows, Index K, const fastlstm::Source<float>& w, Index H, float* c, const float* bias);
  // w is (4H, columns), its gates the terms: a is (rows, 4 H padded), in gate order.
  bool (*multiply_gates)(const float* a, Index rows, const fastlstm::Source<float>& w, Index H, Index columns, float* c);
};

struct Isa {
  std::string name;
  std::string needs;  // the engine's instruction set that the processor must have
  const KernelsOfIsa<float>* float32;
  const KernelsOfIsa<double>* float64;
  const PairsOfIsa* pairs;  // or nullptr
  const TilesOfIsa* tiles;  // or nullptr
};

// All that this processor runs.
std::vector<Isa> isas_here();

template <class Real>
const KernelsOfIsa<Real>& kernels_of(const Isa& isa) {
  if constexpr (sizeof(Real) == 4) {
    return *isa.float32;
  } else {
    return *isa.float64;
  }
}
