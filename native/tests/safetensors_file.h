// The bytes of a safetensors file, for tests.
#pragma once
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "fastlstm/batch.h"

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

inline std::string with_header(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (std::size_t k = 0; k < 8; ++k) file[k] = static_cast<char>(header.size() >> 8 * k);
  return file + header + data;
}

inline std::string safetensors_file(const std::vector<Tensor>& tensors) {
  std::string header = R"({"__metadata__":{"made":"by a test"})";
  std::string data;
  for (const Tensor& t : tensors) {
    header.append(",\"").append(t.name).append(R"(":{"dtype":")").append(t.dtype).append(R"(","shape":[)");
    for (std::size_t k = 0; k < t.shape.size(); ++k) header.append(k > 0 ? "," : "").append(std::to_string(t.shape[k]));
    header.append(R"(],"data_offsets":[)").append(std::to_string(data.size())).append(",");
    header.append(std::to_string(data.size() + t.bytes.size())).append("]}");
    data += t.bytes;
  }
  return with_header(header + "}", data);
}

template <class Real>
Tensor tensor(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<Real>& numbers) {
  std::string bytes(numbers.size() * sizeof(Real), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return {name, sizeof(Real) == sizeof(float) ? "F32" : "F64", shape, bytes};
}

// Random parameters of a layer under torch's names, five arrays a layer and direction as `Call` has them.
template <class Real>
std::vector<Tensor> layer_tensors(const fastlstm::Sizes& s, bool bias, const std::vector<std::vector<Real>>& weights,
                                  const std::string& prefix = "") {
  std::vector<Tensor> all;
  const std::int64_t rows = fastlstm::counts_of(s.cell).gates * s.H;
  for (std::int64_t l = 0; l < s.chains(); ++l) {
    const std::string end = "_l" + std::to_string(l / s.D) + (l % s.D == 1 ? "_reverse" : "");
    const auto* const five = weights.data() + 5 * l;
    all.push_back(tensor(prefix + "weight_ih" + end, {rows, s.input(l / s.D)}, five[0]));
    all.push_back(tensor(prefix + "weight_hh" + end, {rows, s.out()}, five[1]));
    if (bias) {
      all.push_back(tensor(prefix + "bias_ih" + end, {rows}, five[2]));
      all.push_back(tensor(prefix + "bias_hh" + end, {rows}, five[3]));
    }
    if (s.P > 0) all.push_back(tensor(prefix + "weight_hr" + end, {s.P, s.H}, five[4]));
  }
  return all;
}
