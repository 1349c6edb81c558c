// A stream's step allocates nothing and makes no system call: counted, and held by the kernel.
#include <doctest/doctest.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <vector>

#include "fastlstm/fastlstm.h"
#include "fastlstm/stream.h"
#include "safetensors_file.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
#define FASTLSTM_COUNTS
namespace {
std::atomic<long> allocations{0};
}  // namespace
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
}
#endif

namespace {

constexpr std::int64_t I = 40;
constexpr std::int64_t H = 70;
constexpr std::int64_t N = 3;

struct Running {
  std::vector<float> weights = std::vector<float>(4 * H * H, 0.01F);
  std::vector<float> x = std::vector<float>(N * I, 0.5F);
  std::vector<float> y = std::vector<float>(N * H);
  fastlstm::Stream<float> stream;

  fastlstm_stream* of_c = nullptr;

  explicit Running(fastlstm::CellKind cell) : stream(packed(cell), N) {
    const std::vector<std::vector<float>> all{weights_of(cell, I), weights_of(cell, H), {}, {}, {}};
    const std::string file = safetensors_file(layer_tensors<float>({I, H, 0, 1, 1, cell}, false, all));
    fastlstm_layer* layer = nullptr;
    REQUIRE(fastlstm_layer_read(file.data(), file.size(), nullptr, &layer) == FASTLSTM_OK);
    REQUIRE(fastlstm_stream_new(layer, N, &of_c) == FASTLSTM_OK);
    fastlstm_layer_free(layer);
  }
  ~Running() { fastlstm_stream_free(of_c); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void steps() {
    for (int k = 0; k < 100; ++k) {
      stream.step(x.data(), y.data());
      if (fastlstm_step(of_c, x.data(), x.size() * 4, y.data(), y.size() * 4) != FASTLSTM_OK) std::abort();
    }
    if (fastlstm_reset(of_c, 1) != FASTLSTM_OK) std::abort();
    stream.reset(1);
    stream.reset();
    stream.step(x.data(), y.data());
  }

 private:
  static std::vector<float> weights_of(fastlstm::CellKind cell, std::int64_t in) {
    return std::vector<float>(static_cast<std::size_t>(fastlstm::counts_of(cell).gates * H * in), 0.01F);
  }
  std::shared_ptr<const fastlstm::PackedWeights<float>> packed(fastlstm::CellKind cell) const {
    const fastlstm::Source<float> w(weights.data());
    const fastlstm::Weights<float> all[] = {{w, w, w, w, {}}, {w, w, w, w, {}}};
    return std::make_shared<const fastlstm::PackedWeights<float>>(fastlstm::Problem(1, 1, I, H, 0, 2, 1, {}, cell), all);
  }
};

const fastlstm::CellKind kCells[] = {fastlstm::CellKind::lstm, fastlstm::CellKind::gru};

}  // namespace

#ifdef FASTLSTM_COUNTS
TEST_CASE("a step allocates nothing") {
  for (const fastlstm::CellKind cell : kCells) {
    const long before_all = allocations;
    Running running(cell);
    CHECK(allocations > before_all);  // the count sees what there is
    const long before = allocations;
    running.steps();
    CHECK(allocations == before);
  }
}

TEST_CASE("a step makes no system call") {
  for (const fastlstm::CellKind cell : kCells) {
    for (const bool calls : {false, true}) {
      Running running(cell);
      running.steps();
      const pid_t child = fork();
      if (child == 0) {  // from here on only read, write and exit are let through: anything else kills
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(2);
        running.steps();
        if (calls) getppid();
        syscall(SYS_exit, 0);
      }
      int status = 0;
      REQUIRE(waitpid(child, &status, 0) == child);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return;  // no such mode here, as in an emulator
      CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) == calls);
    }
  }
}
#endif
