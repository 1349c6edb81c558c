// Weights that are packed once, for sequences and streams.
#pragma once
#include <memory>

#include "fastlstm/engine.h"

namespace fastlstm {

// The weights of a layer in the order in which steps read them. Built once; after that nothing changes them: any number of calls
// and streams share them, in any number of threads. They belong to the instruction set that is in use when they are built.
template <class Real>
class PackedWeights {
 public:
  // sizes: of the layer; its T and N count for nothing. weights: one for each layer and direction, read now and never again.
  PackedWeights(const Problem& sizes, const Weights<Real>* weights);
  ~PackedWeights();
  PackedWeights(const PackedWeights&) = delete;
  PackedWeights& operator=(const PackedWeights&) = delete;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fastlstm
