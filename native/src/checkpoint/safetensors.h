// The header of a safetensors file: which arrays it has, and where.
// Source: the format's description in the README of huggingface/safetensors.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fastlstm {

// A file, or memory: so many bytes, and how to have some of them.
struct ByteSource {
  std::uint64_t size;
  std::function<void(std::uint64_t offset, std::size_t bytes, void* to)> read;  // throws FileError
};

struct TensorEntry {
  std::string name;
  std::string dtype;  // "F32", ..
  std::vector<std::uint64_t> shape;
  std::uint64_t begin, end;  // in the file
};

// In the order of the header. Throws FileError: it is no such file, or one whose entries contradict each other or the file's
// size.
std::vector<TensorEntry> read_entries(const ByteSource& file);

}  // namespace fastlstm
