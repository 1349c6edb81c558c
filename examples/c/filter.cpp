// filter.c in C++, on the engine's own classes (the static library): filter_cpp layer.safetensors in.f32 out.f32
#include <fastlstm/checkpoint.h>
#include <fastlstm/stream.h>

#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>

int main(int argc, char** argv) try {
  if (argc != 4) throw std::invalid_argument("usage: filter_cpp layer.safetensors in.f32 out.f32");
  const fastlstm::Checkpoint layer = fastlstm::Checkpoint::load(argv[1]);
  if (layer.sizes.I != 1 || layer.packed<float>() == nullptr)
    throw std::invalid_argument("expected a layer of one number in, in float32");
  fastlstm::Stream<float> stream(layer.packed<float>(), 1);
  if (stream.problem().out() != 1) throw std::invalid_argument("expected a layer of one number out");

  std::ifstream in(argv[2], std::ios::binary);
  std::ofstream out(argv[3], std::ios::binary);
  if (!in || !out) throw std::runtime_error("a file can't be opened");
  std::array<float, 64> x;
  std::array<float, 64> y;
  std::streamsize all = 0;
  while (in.read(reinterpret_cast<char*>(x.data()), sizeof x), in.gcount() > 0) {
    const std::streamsize count = in.gcount() / static_cast<std::streamsize>(sizeof(float));
    stream.block(count, x.data(), y.data());
    out.write(reinterpret_cast<const char*>(y.data()), count * static_cast<std::streamsize>(sizeof(float)));
    all += count;
  }
  std::printf("%lld samples\n", static_cast<long long>(all));
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
