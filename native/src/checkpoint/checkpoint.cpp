#include "fastlstm/checkpoint.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "checkpoint/safetensors.h"
#include "isa/vec.h"

namespace fastlstm {

namespace {

using Shape = std::vector<std::uint64_t>;
using Entries = std::map<std::string, TensorEntry>;  // by their names without the prefix

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string words(const Shape& shape) {
  std::string all = "(";
  for (std::size_t k = 0; k < shape.size(); ++k) all.append(k == 0 ? "" : ", ").append(std::to_string(shape[k]));
  return all.append(")");
}

Entries with_prefix(std::vector<TensorEntry> entries, const std::string& prefix) {
  Entries found;
  std::set<std::string> known;
  for (TensorEntry& entry : entries) {
    for (const std::string_view end : {"weight_hh_l0", "weight_hh"})
      if (ends_with(entry.name, end)) known.insert(entry.name.substr(0, entry.name.size() - end.size()));
    if (entry.name.compare(0, prefix.size(), prefix) != 0) continue;
    std::string name = entry.name.substr(prefix.size());
    found.emplace(std::move(name), std::move(entry));
  }
  if (found.count("weight_hh_l0") + found.count("weight_hh") > 0) return found;
  std::string said = "no parameters of a layer under the prefix '";
  said.append(prefix).append(known.empty() ? "': it has no recurrent layer" : "': it has layers under ");
  for (const std::string& one : known) said.append(one == *known.begin() ? "'" : ", '").append(one).append("'");
  throw FileError(said);
}

const TensorEntry& entry_of(const Entries& entries, const std::string& name) {
  const auto found = entries.find(name);
  if (found == entries.end()) throw FileError("there is no " + name);
  return found->second;
}

const Shape& matrix(const Entries& entries, const std::string& name) {
  const Shape& shape = entry_of(entries, name).shape;
  if (shape.size() != 2) throw FileError("expected " + name + " to have 2 dimensions, got " + std::to_string(shape.size()));
  return shape;
}

// Of the first layer's parameters, whose names end so; the number of layers and directions from the names that there are.
Sizes sizes_of(const Entries& entries, const std::string& end) {
  const Shape& ih = matrix(entries, "weight_ih" + end);
  const Shape& hh = matrix(entries, "weight_hh" + end);
  const bool projects = entries.count("weight_hr" + end) > 0;
  const std::uint64_t H = projects ? matrix(entries, "weight_hr" + end)[1] : hh[1];
  const auto rows = [&](CellKind cell) { return static_cast<std::uint64_t>(counts_of(cell).gates) * H; };
  const bool is_gru = !projects && hh[0] == rows(CellKind::gru);
  if (H < 1 || ih[1] < 1 || H > INT32_MAX || ih[1] > INT32_MAX || (!is_gru && hh[0] != rows(CellKind::lstm)) || ih[0] != hh[0])
    throw FileError("expected the parameters of an LSTM or GRU: weight_ih" + end + " (gates*H, I) and weight_hh" + end +
                    " (gates*H, H_out), of 4 or 3 gates, got " + words(ih) + " and " + words(hh));
  Sizes sizes{
      static_cast<std::int64_t>(ih[1]),       static_cast<std::int64_t>(H), projects ? static_cast<std::int64_t>(hh[1]) : 0, 1, 1,
      is_gru ? CellKind::gru : CellKind::lstm};
  if (sizes.P >= sizes.H) throw FileError("proj_size must be smaller than hidden_size, got " + words(hh));
  while (!end.empty() && entries.count("weight_ih_l" + std::to_string(sizes.layers)) > 0) ++sizes.layers;
  if (!end.empty() && entries.count("weight_ih_l0_reverse") > 0) sizes.D = 2;
  return sizes;
}

template <class Narrow>
void widen(const std::vector<std::uint16_t>& from, std::vector<float>& to) {
  for (std::size_t k = 0; k < from.size(); ++k) to[k] = FASTLSTM_ISA::widened(Narrow{from[k]});
}

template <class Real>
class Reader {
 public:
  Reader(const ByteSource& file, const Entries& entries, const std::string& dtype)
      : file_(file), entries_(entries), dtype_(dtype) {}

  // An array of the weights that is of this shape.
  Source<Real> read(TrainedWeights<Real>& weights, const std::string& name, const Shape& shape) const {
    const TensorEntry& entry = entry_of(entries_, name);
    if (entry.shape != shape) throw FileError(name + " must have the shape " + words(shape) + ", got " + words(entry.shape));
    if (entry.dtype != dtype_) throw FileError("expected parameters of one dtype, got " + dtype_ + " and " + entry.dtype);
    std::uint64_t count = 1;
    for (const std::uint64_t size : shape) count *= size;  // the entries were checked: the file has so many
    std::vector<Real>& array = weights.arrays.emplace_back(static_cast<std::size_t>(count));
    const std::size_t bytes = static_cast<std::size_t>(entry.end - entry.begin);
    if constexpr (sizeof(Real) == sizeof(float)) {
      if (dtype_ != "F32") {
        std::vector<std::uint16_t> narrow(array.size());
        file_.read(entry.begin, bytes, narrow.data());
        dtype_ == "F16" ? widen<Float16>(narrow, array) : widen<BFloat16>(narrow, array);
        return array.data();
      }
    }
    file_.read(entry.begin, bytes, array.data());
    return array.data();
  }

 private:
  const ByteSource& file_;
  const Entries& entries_;
  const std::string& dtype_;
};

template <class Real>
TrainedWeights<Real> weights_of(const Checkpoint& layer, const Reader<Real>& reader, bool is_cell) {
  const Sizes& s = layer.sizes;
  const auto size = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  const std::uint64_t rows = size(counts_of(s.cell).gates * s.H);
  TrainedWeights<Real> all;
  for (std::int64_t k = 0; k < s.layers; ++k)
    for (std::int64_t d = 0; d < s.D; ++d) {
      const std::string end = is_cell ? "" : "_l" + std::to_string(k) + (d == 1 ? "_reverse" : "");
      Weights<Real> chain;
      chain.w_ih = reader.read(all, "weight_ih" + end, {rows, size(s.input(k))});
      chain.w_hh = reader.read(all, "weight_hh" + end, {rows, size(s.out())});
      if (layer.bias) {
        chain.b_ih = reader.read(all, "bias_ih" + end, {rows});
        chain.b_hh = reader.read(all, "bias_hh" + end, {rows});
      }
      if (s.P > 0) chain.w_hr = reader.read(all, "weight_hr" + end, {size(s.P), size(s.H)});
      all.chains.push_back(chain);
    }
  all.packed = std::make_shared<const PackedWeights<Real>>(s.problem(1, 1), all.chains.data());
  return all;
}

Checkpoint read_checkpoint(const ByteSource& file, const std::string& prefix) {
  const Entries entries = with_prefix(read_entries(file), prefix);
  const bool is_cell = entries.count("weight_hh_l0") == 0;
  const std::string end = is_cell ? "" : "_l0";
  Checkpoint layer{sizes_of(entries, end), entries.count("bias_ih" + end) > 0, {}};
  const std::string dtype = entry_of(entries, "weight_ih" + end).dtype;
  if (dtype == "F64") {
    layer.weights = weights_of<double>(layer, {file, entries, dtype}, is_cell);
  } else if (dtype == "F32" || dtype == "F16" || dtype == "BF16") {
    layer.weights = weights_of<float>(layer, {file, entries, dtype}, is_cell);
  } else {
    throw FileError("expected parameters of float16, bfloat16, float32 or float64, got " + dtype);
  }
  return layer;
}

std::filesystem::path place_of(const std::string& path) try {
  return std::u8string(path.begin(), path.end());
} catch (const std::runtime_error&) {  // on Windows alone: names are UTF-16 there
  throw FileError("its name is not UTF-8");
}

}  // namespace

Checkpoint Checkpoint::read(const void* file, std::size_t bytes, const std::string& prefix) {
  return read_checkpoint({bytes,
                          [&](std::uint64_t offset, std::size_t count, void* to) {
                            if (count > 0) std::memcpy(to, static_cast<const char*>(file) + offset, count);
                          }},
                         prefix);
}

Checkpoint Checkpoint::load(const std::string& path, const std::string& prefix) try {
  const std::filesystem::path place = place_of(path);
  std::error_code none;
  if (!std::filesystem::is_regular_file(place, none))  // a FIFO would wait, a device never end
    throw FileError(std::filesystem::exists(place, none) ? "not a regular file" : "no such file");
  std::ifstream file(place, std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg();
  if (!file || size < 0) throw FileError("it can't be read");
  return read_checkpoint({static_cast<std::uint64_t>(size),
                          [&](std::uint64_t offset, std::size_t count, void* to) {
                            file.seekg(static_cast<std::streamoff>(offset));
                            if (!file.read(static_cast<char*>(to), static_cast<std::streamsize>(count)))
                              throw FileError("it can't be read to its end");
                          }},
                         prefix);
} catch (const FileError& error) {
  throw FileError(path + ": " + error.what());
}

}  // namespace fastlstm
