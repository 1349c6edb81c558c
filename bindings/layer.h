// A layer of a module: its sizes, and where its weights stand in what the caller gives.
#pragma once
#include <nanobind/nanobind.h>

#include <optional>
#include <string>
#include <vector>

#include "arrays.h"
#include "fastlstm/batch.h"

struct Layer : fastlstm::Sizes {
  bool bias;
  bool is_cell;                    // LSTMCell: one step, whose input and states have no dimension of time or layers
  nanobind::tuple names;           // of the weights, in the order of `parameters()`
  arrays::Index checkpoint_every;  // steps; 0: forward keeps all that backward needs

  // Whether the weights of one serve the other.
  bool is_like(const Layer& other) const { return Sizes::operator==(other) && bias == other.bias; }
  std::size_t states() const { return static_cast<std::size_t>(fastlstm::counts_of(cell).states); }
  arrays::Index steps() const { return fastlstm::counts_of(cell).steps; }  // what `trace` reads of a chain
  arrays::Index state_features(std::size_t state) const { return state == 0 ? out() : H; }

  std::size_t arrays_a_chain() const { return (bias ? 4 : 2) + (P > 0 ? 1 : 0); }
  std::size_t arrays() const { return arrays_a_chain() * static_cast<std::size_t>(chains()); }
};

// The memory of the weights, which lie dense and in `dtype`; `held`: so that none dies while the engine reads it without the GIL,
// when another thread puts a new one in its place. weights: a dict by name, or a list or tuple that has them from `first` on.
// false: one is not so.
bool read_weights(const Layer& layer, const arrays::DType& dtype, nanobind::handle weights, Py_ssize_t first,
                  std::vector<void*>& data, std::vector<nanobind::object>& held);

// Five weights, or gradients of them, a layer and direction, from `Layer::arrays()` pointers.
template <class Five, class Array>
std::vector<Five> fives(const Layer& layer, void* const* data, fastlstm::Element element) {
  std::vector<Five> all;
  const std::size_t each = layer.arrays_a_chain();
  for (arrays::Index chain = 0; chain < layer.chains(); ++chain, data += each) {
    const auto array = [&](std::size_t k) { return Array(data[k], element); };
    Five five{array(0), array(1), {}, {}, {}};
    if (layer.bias) {
      five.b_ih = array(2);
      five.b_hh = array(3);
    }
    if (layer.P > 0) five.w_hr = array(each - 1);
    all.push_back(five);
  }
  return all;
}

void define_layer(nanobind::module_& m);
