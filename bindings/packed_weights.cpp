#include "packed_weights.h"

#include <nanobind/stl/string.h>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class Real>
PackedWeights::Shared<Real> packed(const Layer& layer, const std::vector<void*>& data) {
  const auto all = fives<fastlstm::Weights<Real>, fastlstm::Source<Real>>(layer, data.data(), fastlstm::Element::real);
  return std::make_shared<const fastlstm::PackedWeights<Real>>(layer.problem(1, 1), all.data());
}

}  // namespace

PackedWeights::PackedWeights(const Layer& layer, nb::handle arrays, const std::string& name)
    : layer(layer), dtype(&arrays::dtype_named(name.c_str())) {
  if (dtype->element != fastlstm::Element::real || !read_weights(layer, *dtype, arrays, 0, data, held))
    throw nb::type_error("weights: expected dense arrays, all float32 or all float64, of the layer's sizes");
  if (dtype->bits == 64) {
    weights = packed<double>(layer, data);
  } else {
    weights = packed<float>(layer, data);
  }
}

void define_packed_weights(nb::module_& m) {
  nb::class_<PackedWeights>(m, "PackedWeights")
      .def(nb::init<const Layer&, nb::handle, const std::string&>(), "layer"_a, "weights"_a, "dtype"_a);
}
