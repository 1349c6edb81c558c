// Weights that are packed once, for any number of calls: where those of each layer and direction lie in their memory.
#pragma once
#include "layer/forward.h"
#include "memory/arena.h"

namespace fastlstm::FASTLSTM_ISA {

// The directions of all layers, in the order of the weights.
template <class Cell>
class PackedChains {
 public:
  PackedChains(const Problem& problem, void* memory) : problem_(problem), arena_(memory) {}

  // The next one, with its sizes and its pieces of the memory.
  LayerForward<Cell> next() {
    LayerForward<Cell> layer{};
    layer.problem = &problem_;
    layer.in = problem_.layer_input(l_++ / problem_.D);
    layer.panels = arena_.take<TermOf<Cell>>(Cell::Input::kSpan * layer.Hp() * layer.K());
    layer.bias = arena_.take<RealOf<Cell>>(layer.gate_columns());
    if (problem_.P > 0) layer.hr_panels = arena_.take<RealOf<Cell>>(rounded_up(problem_.P, kPanel<RealOf<Cell>>) * problem_.H);
    return layer;
  }

  std::size_t bytes() const { return arena_.used(); }

 private:
  const Problem& problem_;
  Arena arena_;
  Index l_ = 0;
};

template <class Cell>
std::size_t packed_bytes(const Problem& problem) {
  PackedChains<Cell> chains(problem, nullptr);
  for (Index l = 0; l < problem.layers * problem.D; ++l) chains.next();
  return chains.bytes();
}

template <class Cell>
void pack(const Problem& problem, const Weights<RealOf<Cell>>* weights, void* memory) {
  PackedChains<Cell> chains(problem, memory);
  for (Index l = 0; l < problem.layers * problem.D; ++l) {
    LayerForward<Cell> layer = chains.next();
    layer.weights = weights[l];
    pack_weights(layer, Group{0, 1, nullptr, nullptr});
  }
}

}  // namespace fastlstm::FASTLSTM_ISA
