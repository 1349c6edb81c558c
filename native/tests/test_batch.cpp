// Batches from what a caller gives: which there are, where their rows stand, and what has no step.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "fastlstm/batch.h"

using fastlstm::Batch;
using Index = std::int64_t;
using Indices = std::vector<Index>;

namespace {

constexpr fastlstm::Sizes kSizes{3, 4, 0, 2, 1};

std::optional<Batch> packed(const Indices& batch_sizes, Index rows) {
  return Batch::packed(kSizes, batch_sizes.data(), static_cast<Index>(batch_sizes.size()), rows);
}

std::optional<Batch> jagged(const Indices& starts, const Indices* lengths, Index places) {
  const Index N = static_cast<Index>(starts.size()) - 1;
  return Batch::jagged(kSizes, N, starts.data(), lengths == nullptr ? nullptr : lengths->data(), places);
}

}  // namespace

TEST_CASE("a packed batch falls, and adds up to its rows") {
  const auto batch = packed({3, 2, 2, 0, 0}, 7);
  REQUIRE(batch);
  CHECK(batch->is_packed());
  CHECK(batch->problem.T == 3);
  CHECK(batch->problem.N == 3);
  CHECK(packed({0, 0}, 0)->problem.N == 0);
  for (const auto& [sizes, rows] : std::vector<std::pair<Indices, Index>>{
           {{3, 2}, 6}, {{3, 2}, 4}, {{2, 3}, 5}, {{3, -1}, 2}, {{-3}, -3}, {{std::numeric_limits<Index>::max(), 2}, 5}})
    CHECK_FALSE(packed(sizes, rows));
}

TEST_CASE("a padded batch is told where its rows stand") {
  const Indices lengths{1, 0, 3};
  const auto time_first = Batch::padded(kSizes, 3, 3, lengths.data(), {}, false);
  const auto batch_first = Batch::padded(kSizes, 3, 3, lengths.data(), {}, true);
  REQUIRE(time_first);
  REQUIRE(batch_first);
  CHECK(time_first->places == Indices{2, 0, 5, 8});
  CHECK(batch_first->places == Indices{6, 0, 7, 8});
  CHECK(batch_first->rows_of_masks() == time_first->places);
  CHECK(time_first->initial == Indices{2, 0, 5, 3});
  CHECK(time_first->rows_of_state() == 3);
  CHECK_FALSE(time_first->fills());
  for (const Indices& wrong : {Indices{4, 1, 1}, Indices{1, -1, 1}})
    CHECK_FALSE(Batch::padded(kSizes, 3, 3, wrong.data(), {}, false));
}

TEST_CASE("a padded batch of whole rows is dense where they are in order") {
  const Indices lengths{3, 3};
  CHECK_FALSE(Batch::padded(kSizes, 3, 2, lengths.data(), {}, false)->is_ragged());
  const auto batch_first = Batch::padded(kSizes, 3, 2, lengths.data(), {}, true);
  CHECK(batch_first->is_ragged());
  CHECK(batch_first->places == Indices{0, 3, 1, 4, 2, 5});
  CHECK(batch_first->fills());
}

TEST_CASE("a jagged batch has rows within its places, that share none") {
  const Indices ends{0, 2, 2, 5};
  REQUIRE(jagged(ends, nullptr, 5));
  CHECK(jagged(ends, nullptr, 5)->places == Indices{2, 0, 3, 1, 4});
  CHECK(jagged(ends, nullptr, 5)->rows_of_masks() == Indices{2, 0, 3, 1, 4});
  const Indices touching{2, 0, 9};
  const Indices two{2, 2};
  CHECK(jagged(touching, &two, 4)->places == Indices{2, 0, 3, 1});
  const Indices overlapping{1, 0, 9};
  CHECK_FALSE(jagged(overlapping, &two, 4));
  const Indices outside{-1, 2};
  const Indices back{3, 1};
  const Indices far{0, std::numeric_limits<Index>::max()};
  const Indices overflowing{std::numeric_limits<Index>::min(), std::numeric_limits<Index>::max()};
  for (const Indices* wrong : {&outside, &back, &far, &overflowing}) CHECK_FALSE(jagged(*wrong, nullptr, 5));
}

TEST_CASE("a row without a step ends in the state it began with, and no other row is touched") {
  const Indices lengths{1, 0, 3};
  const auto batch = Batch::padded(kSizes, 3, 3, lengths.data(), {}, false);
  const std::vector<float> from{1, 2, 3, 4, 5, 6};  // (2, 3) rows of one number
  std::vector<float> to(6, 9);
  batch->carry(from.data(), to.data(), sizeof(float));
  CHECK(to == std::vector<float>{9, 2, 9, 9, 5, 9});
  batch->carry(nullptr, to.data(), sizeof(float));
  CHECK(to == std::vector<float>{9, 0, 9, 9, 0, 9});
  std::vector<float> output(9, 9);
  batch->clear(output.data(), sizeof(float));
  CHECK(output == std::vector<float>{9, 0, 9, 0, 0, 9, 0, 0, 9});
}
