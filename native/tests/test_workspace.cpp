// The pool: which block a workspace gets.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>

#include "fastlstm/engine.h"

using fastlstm::Workspace;
using Use = fastlstm::Workspace::Use;

constexpr std::size_t kMiB = std::size_t{1} << 20;

namespace {

void* once(std::size_t bytes, Use use) { return Workspace(bytes, use).data(); }

}  // namespace

TEST_CASE("calls in turn share one block of scratch, the largest that one of them needed") {
  void* const small = once(3 * kMiB, Use::scratch);
  CHECK(once(kMiB, Use::scratch) == small);
  void* const large = once(20 * kMiB, Use::scratch);  // in place of the small one
  CHECK(once(20 * kMiB, Use::scratch) == large);
  CHECK(once(100, Use::scratch) == large);
  const Workspace held(kMiB, Use::scratch);
  CHECK(held.data() == large);
  CHECK(once(kMiB, Use::scratch) != large);  // that one is in use
}

TEST_CASE("what forward keeps takes no block of more than twice the size, and none of scratch") {
  void* const block = once(9 * kMiB, Use::kept);
  CHECK(once(9 * kMiB - 5000, Use::kept) == block);
  CHECK(once(4 * kMiB, Use::kept) != block);
  CHECK(once(9 * kMiB, Use::scratch) != block);
  void* const larger = once(10 * kMiB, Use::kept);  // in place of the one of nearly that size
  CHECK(once(9 * kMiB, Use::kept) == larger);
}

TEST_CASE("what callers had waits for the next, no more than 256 MiB of it, and none of more than twice the size") {
  void* const block = once(9 * kMiB, Use::given);
  CHECK(once(9 * kMiB - 5000, Use::given) == block);
  CHECK(once(4 * kMiB, Use::given) != block);
  CHECK(once(9 * kMiB, Use::kept) != block);
  once(300 * kMiB, Use::given);  // goes back to the system by itself
  CHECK(once(9 * kMiB, Use::given) == block);
  {
    const Workspace first(200 * kMiB, Use::given);
    const Workspace second(150 * kMiB, Use::given);
    CHECK(first.data() != second.data());
  }
  const Workspace again(200 * kMiB, Use::given);  // `first` was given back last, so that `second` went
  std::memset(again.data(), 1, 200 * kMiB);
}

TEST_CASE("a block that is a page too small is not taken") {
  for (const Use use : {Use::kept, Use::scratch, Use::given}) {
    once(kMiB, use);  // waits there
    const Workspace larger(kMiB + 1, use);
    std::memset(larger.data(), 1, kMiB + 1);  // AddressSanitizer sees where that ends
  }
}

TEST_CASE("every byte of a workspace is there, on a cache line of its own") {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, 2 * kMiB, 2 * kMiB + 1, 7 * kMiB - 1})
    for (const Use use : {Use::kept, Use::scratch, Use::given}) {
      const Workspace workspace(bytes, use);
      CHECK(reinterpret_cast<std::uintptr_t>(workspace.data()) % 64 == 0);
      std::memset(workspace.data(), 1, bytes);
    }
}
