#include "checkpoint/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "fastlstm/checkpoint.h"

namespace fastlstm {

namespace {

constexpr std::uint64_t kLargestHeader = 100'000'000;  // as the format's own library has it

std::uint64_t bytes_of(std::string_view dtype) {
  for (const char* const one : {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"})
    if (dtype == one) return 1;
  for (const char* const two : {"F16", "BF16", "I16", "U16"})
    if (dtype == two) return 2;
  for (const char* const four : {"F32", "I32", "U32"})
    if (dtype == four) return 4;
  for (const char* const eight : {"F64", "I64", "U64"})
    if (dtype == eight) return 8;
  return 0;  // a later one: no weight of ours
}

// Takes the events of a JSON parser, and no tree: {name: {"dtype": text, "shape": [numbers], "data_offsets": [two numbers]}, ..,
// "__metadata__": {text: text}}. Anything else ends the parsing.
class Entries final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<TensorEntry> found;
  std::string wrong;

  bool start_object(std::size_t) override {
    if (depth_ == 2 || in_array_) return refuse("an object within " + where());
    if (++depth_ == 2) {
      is_metadata_ = name_ == "__metadata__";
      has_ = 0;
      if (!is_metadata_) found.push_back({name_, {}, {}, 0, 0});
    }
    return true;
  }
  bool end_object() override {
    if (depth_-- == 2 && !is_metadata_ && has_ != 7) return refuse(where() + " must have dtype, shape and data_offsets");
    return true;
  }
  bool key(std::string& text) override {
    if (depth_ == 1) {
      name_ = text;
      if (!names_.insert(text).second) return refuse("two entries are called " + name_);
      return true;
    }
    if (is_metadata_) return true;
    field_ = text == "dtype" ? 1 : text == "shape" ? 2 : text == "data_offsets" ? 4 : 0;
    if (field_ == 0 || (has_ & field_) != 0) return refuse(where() + " must have dtype, shape and data_offsets, once each");
    has_ |= field_;
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ == 2 && is_metadata_) return true;
    if (depth_ != 2 || field_ != 1 || in_array_) return refuse("a text in " + where());
    found.back().dtype = text;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || is_metadata_ || field_ == 1 || in_array_) return refuse("a list in " + where());
    in_array_ = true;
    offsets_ = 0;
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return field_ != 4 || offsets_ == 2 || refuse(where() + " must have two data_offsets");
  }
  bool number_unsigned(std::uint64_t number) override {
    if (!in_array_) return refuse("a number in " + where());
    TensorEntry& entry = found.back();
    if (field_ == 2) {
      entry.shape.push_back(number);
    } else {
      if (offsets_ == 2) return refuse(where() + " must have two data_offsets");
      (offsets_++ == 0 ? entry.begin : entry.end) = number;
    }
    return true;
  }
  bool number_integer(std::int64_t) override { return refuse("a negative number in " + where()); }
  bool number_float(double, const std::string&) override { return refuse("a fraction in " + where()); }
  bool null() override { return refuse("null in " + where()); }
  bool boolean(bool) override { return refuse("a boolean in " + where()); }
  bool binary(nlohmann::json::binary_t&) override { return refuse("binary data in " + where()); }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception&) override {
    return refuse("no JSON from byte " + std::to_string(at));
  }

 private:
  std::string where() const { return depth_ == 0 ? "the header" : name_; }
  bool refuse(std::string why) {
    wrong = std::move(why);
    return false;
  }

  std::set<std::string> names_;
  std::string name_;
  int depth_ = 0;
  int field_ = 0;  // 1: dtype, 2: shape, 4: data_offsets
  int has_ = 0;    // the sum of them
  int offsets_ = 0;
  bool in_array_ = false;
  bool is_metadata_ = false;
};

[[noreturn]] void refuse(const std::string& why) { throw FileError("no safetensors file: " + why); }

// Every byte of the data belongs to one entry, and each has as many as its shape and dtype say.
void check_places(std::vector<TensorEntry> entries, std::uint64_t data) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t end = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != end || entry.end < entry.begin || entry.end > data) refuse(entry.name + " is not where it must be");
    end = entry.end;
    std::uint64_t bytes = bytes_of(entry.dtype);
    if (bytes == 0) continue;
    for (const std::uint64_t size : entry.shape)
      if (__builtin_mul_overflow(bytes, size, &bytes)) refuse(entry.name + " has a shape beyond counting");
    if (bytes != entry.end - entry.begin)
      refuse(entry.name + " has " + std::to_string(entry.end - entry.begin) + " bytes where its shape says " +
             std::to_string(bytes));
  }
  if (end != data) refuse("its data has " + std::to_string(data) + " bytes, its entries have " + std::to_string(end));
}

}  // namespace

std::vector<TensorEntry> read_entries(const ByteSource& file) {
  unsigned char head[8];
  if (file.size < sizeof head) refuse("it has " + std::to_string(file.size) + " bytes");
  file.read(0, sizeof head, head);
  std::uint64_t length = 0;
  for (int k = 7; k >= 0; --k) length = length << 8 | head[k];
  if (length > kLargestHeader || length > file.size - sizeof head)
    refuse("its header would have " + std::to_string(length) + " bytes");
  std::string header(static_cast<std::size_t>(length), '\0');
  file.read(sizeof head, header.size(), header.data());
  Entries entries;
  if (!nlohmann::json::sax_parse(header, &entries)) refuse(entries.wrong);
  const std::uint64_t start = sizeof head + length;
  check_places(entries.found, file.size - start);
  for (TensorEntry& entry : entries.found) {
    entry.begin += start;
    entry.end += start;
  }
  return std::move(entries.found);
}

}  // namespace fastlstm
