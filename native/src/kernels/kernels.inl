// The kernels of one instruction set: included by isa/<name>.cpp after its Vec, with FASTLSTM_ISA its namespace. The sources are
// the same for all; nothing here may use inline functions of the standard library, which another object file could share.

namespace fastlstm::FASTLSTM_ISA {

#include "kernels/terms.h"
#ifdef FASTLSTM_PAIRS
#include FASTLSTM_PAIRS
#endif
//
#include "kernels/activations.h"
#include "kernels/gemm.h"
//
#include "kernels/cell.h"
#include "kernels/narrow.h"
//
#include "kernels/ends.h"
//
#include "kernels/pack.h"
//
#ifdef FASTLSTM_TILES
#include FASTLSTM_TILES
//
#include "kernels/tiles.h"
#else
template <class Term>
inline constexpr bool kTiled = false;  // products on matrix tiles
struct Tiles {
  explicit Tiles(bool /*on*/) {}
};
#endif

#include "kernels/step.h"
//
#include "kernels/forward.h"
//
#include "kernels/layers.h"
//
#include "kernels/halves.h"
//
#include "kernels/backward.h"
//
#include "kernels/hidden.h"
//
#include "kernels/weight_gradients.h"
#ifdef FASTLSTM_PAIRS
#include "kernels/pairs.h"
#endif
//
#include "kernels/single.h"
//
#ifdef FASTLSTM_TILES
#include "kernels/forward_tiles.h"
//
#include "kernels/backward_tiles.h"
#endif
//
#include "kernels/saved.h"
//
#include "kernels/backward_layers.h"
#include "kernels/forward_layers.h"
//
#include "kernels/trace.h"

template <class Real, Vec<Real> (*f)(Vec<Real>)>
void map(const Real* x, Real* y, Index count) {
  for (Index k = 0; k < count; k += kLanes<Real>) store_columns(y + k, f(load_columns(x + k, count - k)), count - k);
}

template <class Term>
constexpr Kernels<RealOf<Term>> kernels() {
  using Real = RealOf<Term>;
  return {saved_size<Real>,   forward_scratch<Term>,    forward_layers<Term>,  backward_scratch<Term>, backward_layers<Term>,
          trace_layers<Real>, map<Real, sigmoid<Real>>, map<Real, tanh<Real>>, machine<Term>};
}

}  // namespace fastlstm::FASTLSTM_ISA
