// Files as Linux has them: a FIFO, and names that are no text.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "fastlstm/checkpoint.h"

using fastlstm::Checkpoint;
using fastlstm::FileError;

TEST_CASE("a FIFO, which would wait for somebody to write, is refused; a name is bytes") {
  std::string folder = std::filesystem::temp_directory_path() / "fastlstm-test-XXXXXX";
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  const std::string fifo = folder + "/fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(Checkpoint::load(fifo), (fifo + ": not a regular file").c_str(), FileError);
  const std::string name = folder + "/\xFF";
  std::ofstream(name, std::ios::binary) << "short";
  CHECK_THROWS_WITH_AS(Checkpoint::load(name), (name + ": no safetensors file: it has 5 bytes").c_str(), FileError);
  std::filesystem::remove_all(folder);
}
