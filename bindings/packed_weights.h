// `_engine.PackedWeights`: weights that nothing changes, in the order in which steps read them.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "arrays.h"
#include "fastlstm/packed_weights.h"
#include "layer.h"

// float32 or float64. `data`: the arrays they were made of, which a single step reads, and which `held` keeps alive.
struct PackedWeights {
  template <class Real>
  using Shared = std::shared_ptr<const fastlstm::PackedWeights<Real>>;

  Layer layer;
  const arrays::DType* dtype;
  std::vector<void*> data;
  std::vector<nanobind::object> held;
  std::variant<Shared<float>, Shared<double>> weights;

  // TypeError: weights that are not dense arrays of dtype and of the layer's sizes.
  PackedWeights(const Layer& layer, nanobind::handle arrays, const std::string& name);

  template <class Real>
  const fastlstm::PackedWeights<Real>* of() const {
    const auto* const found = std::get_if<Shared<Real>>(&weights);
    return found == nullptr ? nullptr : found->get();
  }
};

void define_packed_weights(nanobind::module_& m);
