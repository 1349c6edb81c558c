// A trained layer from a safetensors file: its sizes, its weights as they are and packed.
#pragma once
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "fastlstm/batch.h"
#include "fastlstm/packed_weights.h"

namespace fastlstm {

// The file can't be read, is no safetensors file, or has no such layer; it says what is wrong.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class Real>
struct TrainedWeights {
  TrainedWeights() = default;
  TrainedWeights(TrainedWeights&&) = default;  // what points to an array still does
  TrainedWeights& operator=(TrainedWeights&&) = default;

  std::vector<std::vector<Real>> arrays;
  std::vector<Weights<Real>> chains;  // one for each layer and direction
  std::shared_ptr<const PackedWeights<Real>> packed;
};

struct Checkpoint {
  // Any safetensors file that has torch's names: a layer's (weight_ih_l0, ..) or a cell's (weight_ih, ..). prefix: of the names,
  // where they are a whole model's: "encoder.". 16-bit weights are widened to float. Memory is taken for what the file really
  // has. path: in UTF-8, on Windows too. Throws FileError, std::bad_alloc.
  static Checkpoint load(const std::string& path, const std::string& prefix = "");
  // From the bytes of such a file.
  static Checkpoint read(const void* file, std::size_t bytes, const std::string& prefix = "");

  Sizes sizes;
  bool bias;
  std::variant<TrainedWeights<float>, TrainedWeights<double>> weights;  // double where the file has float64

  // Nothing: the weights are of the other type.
  template <class Real>
  std::shared_ptr<const PackedWeights<Real>> packed() const {
    const auto* const found = std::get_if<TrainedWeights<Real>>(&weights);
    return found == nullptr ? nullptr : found->packed;
  }
};

}  // namespace fastlstm
