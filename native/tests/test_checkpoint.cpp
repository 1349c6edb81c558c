// Layers from safetensors files, whole and broken.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "calls.h"
#include "fastlstm/checkpoint.h"
#include "safetensors_file.h"

// What the reader takes, by new: counted, and the most at once. How much a piece has stands before it.
namespace {
std::size_t held = 0;
std::size_t most = 0;
constexpr std::size_t kBefore = alignof(std::max_align_t);
}  // namespace
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  char* const data = static_cast<char*>(std::malloc(kBefore + bytes));
  if (data == nullptr) throw std::bad_alloc();
  std::memcpy(data, &bytes, sizeof bytes);
  held += bytes;
  most = std::max(most, held);
  return data + kBefore;
}
[[gnu::noinline]] void operator delete(void* data) noexcept {
  if (data == nullptr) return;
  char* const whole = static_cast<char*>(data) - kBefore;
  std::size_t bytes = 0;
  std::memcpy(&bytes, whole, sizeof bytes);
  held -= bytes;
  std::free(whole);
}
void operator delete(void* data, std::size_t) noexcept { operator delete(data); }

namespace {

using fastlstm::Checkpoint;
using fastlstm::FileError;

Checkpoint read(const std::string& file, const std::string& prefix = "") {
  return Checkpoint::read(file.data(), file.size(), prefix);
}

std::string refusal(const std::string& file, const std::string& prefix = "") {
  try {
    read(file, prefix);
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

fastlstm::Sizes sizes_of(const Sizes& s) { return {s.I, s.H, s.P, s.layers, s.D, s.cell}; }

std::string small_file(const std::string& prefix = "") {
  const Sizes s{1, 1, 3, 4, 0, 1, 1, true, false, false, {}};
  return safetensors_file(layer_tensors(sizes_of(s), true, Call<float>(s, 1).weights, prefix));
}

// In UTF-8, whatever the system's own names are.
std::string text_of(const std::filesystem::path& path) {
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
}

}  // namespace

TEST_CASE_TEMPLATE("the sizes and weights of a layer are read off its file", Real, float, double) {
  std::mt19937 random(3);
  for (unsigned k = 0; k < 40; ++k) {
    const Sizes s = draw(random, kCells[k % 2]);
    const Call<Real> call(s, k);
    const Checkpoint layer = read(safetensors_file(layer_tensors(sizes_of(s), s.bias, call.weights, "a.b.")), "a.b.");
    CHECK(layer.sizes.I == s.I);
    CHECK(layer.sizes.H == s.H);
    CHECK(layer.sizes.P == s.P);
    CHECK(layer.sizes.layers == s.layers);
    CHECK(layer.sizes.D == s.D);
    CHECK(layer.sizes.cell == s.cell);
    CHECK(layer.bias == s.bias);
    std::vector<std::vector<Real>> expected;
    for (const auto& array : call.weights)
      if (!array.empty()) expected.push_back(array);
    CHECK(std::get<fastlstm::TrainedWeights<Real>>(layer.weights).arrays == expected);
  }
}

TEST_CASE("16-bit weights are widened, and a cell's have no layer in their names") {
  const std::string ones(2 * 8 * 2, '\x3C');  // bytes 3C 3C
  std::vector<Tensor> tensors = {{"weight_ih", "F16", {8, 2}, ones}, {"weight_hh", "F16", {8, 2}, ones}};
  const auto first = [](const Checkpoint& layer) { return std::get<0>(layer.weights).arrays[0][0]; };
  CHECK(first(read(safetensors_file(tensors))) == 1.05859375F);
  for (Tensor& t : tensors) t.dtype = "BF16";
  CHECK(first(read(safetensors_file(tensors))) == 0.011474609375F);
}

TEST_CASE("what is wrong with a file is said") {
  CHECK(refusal("short") == "no safetensors file: it has 5 bytes");
  CHECK(refusal(with_header(std::string(20, ' '), "").substr(0, 12)) == "no safetensors file: its header would have 20 bytes");
  CHECK(refusal(std::string(8, '\xFF') + "{}").find("18446744073709551615 bytes") != std::string::npos);
  CHECK(refusal(with_header("{", "")).find("no JSON") != std::string::npos);
  CHECK(refusal(with_header(std::string(100000, '['), "")).find("a list in the header") != std::string::npos);
  CHECK(refusal(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}})", "1234")).find("two entries") !=
        std::string::npos);
  const auto entry = [](const std::string& fields, const std::string& data) {
    return refusal(with_header(R"({"a":{)" + fields + "}}", data));
  };
  CHECK(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])", "1234").find("not where it must be") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", "1234").find("4 bytes where its shape says 8") !=
        std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", "12345").find("its data has 5 bytes") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4])", "1234").find("beyond counting") !=
        std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", "1234").find("a negative number") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])", "1234").find("a fraction") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0])", "1234").find("two data_offsets") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[1])", "").find("must have dtype, shape and data_offsets") != std::string::npos);
  CHECK(entry(R"("dtype":{"F32":1})", "").find("an object within a") != std::string::npos);
  CHECK(entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", "1234") ==
        "no parameters of a layer under the prefix '': it has no recurrent layer");
  CHECK(refusal(small_file("encoder."), "") == "no parameters of a layer under the prefix '': it has layers under 'encoder.'");
  const std::string odd(4 * 10, '\0');
  CHECK(refusal(safetensors_file({{"weight_ih", "F32", {10, 1}, odd}, {"weight_hh", "F32", {5, 2}, odd}}))
            .find("of 4 or 3 gates") != std::string::npos);
  CHECK(refusal(safetensors_file(
                    {{"weight_ih", "I32", {4, 1}, std::string(16, '\0')}, {"weight_hh", "I32", {4, 1}, std::string(16, '\0')}}))
            .find("got I32") != std::string::npos);
  const Sizes s{1, 1, 3, 4, 0, 2, 1, true, false, false, {}};
  std::vector<Tensor> tensors = layer_tensors(sizes_of(s), true, Call<float>(s, 1).weights);
  tensors.pop_back();
  CHECK(refusal(safetensors_file(tensors)) == "there is no bias_hh_l1");
}

TEST_CASE("a file is read from disk, and what is none is refused at once") {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / u8"fastlstm größe λ 层 ";
  folder += std::to_string(std::random_device()());
  const std::filesystem::path path = folder / "layer";
  std::filesystem::create_directory(folder);
  const std::string content = small_file("rnn.");
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  CHECK(Checkpoint::load(text_of(path), "rnn.").sizes.H == 4);
  std::filesystem::remove(path);
  CHECK_THROWS_WITH_AS(Checkpoint::load(text_of(path)), (text_of(path) + ": no such file").c_str(), FileError);
  CHECK_THROWS_WITH_AS(Checkpoint::load(text_of(folder)), (text_of(folder) + ": not a regular file").c_str(), FileError);
  CHECK_THROWS_AS(Checkpoint::load(text_of(folder) + "/\xFF"), FileError);
  std::filesystem::remove_all(folder);
}

TEST_CASE("mutated files are refused or load") {
  const std::string whole = small_file("rnn.");
  std::mt19937 random(0);
  int loaded = 0;
  for (int k = 0; k < 5000; ++k) {
    std::string file = random() % 5 == 0 ? whole.substr(0, random() % whole.size()) : whole;
    for (unsigned m = 0; m <= random() % 3 && !file.empty(); ++m)
      file[random() % std::min<std::size_t>(file.size(), 600)] = static_cast<char>(random());
    const std::vector<char> exact(file.begin(), file.end());  // so that a read past its end is seen
    const std::size_t before = most = held;
    try {
      loaded += Checkpoint::read(exact.data(), exact.size(), "rnn.").sizes.H > 0;
    } catch (const FileError& error) {
      CHECK(std::string(error.what()) != "");
    }
    CHECK(most - before <= 3 * file.size() + 16384);  // the header, its entries and the arrays: never what a size in it says
  }
  CHECK(loaded > 0);
  CHECK(loaded < 2500);
}
