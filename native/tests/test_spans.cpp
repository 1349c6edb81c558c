// Long sequences in little memory: what forward does not keep, backward computes again, of the same bits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "calls.h"

using fastlstm::Problem;

namespace {

constexpr auto kGru = fastlstm::CellKind::gru;

std::vector<std::int64_t> spans_of(Problem problem, std::int64_t steps) {
  problem.checkpoint_every(steps);
  std::vector<std::int64_t> first_steps;
  for (std::int64_t k = 0; k <= problem.spans(); ++k) first_steps.push_back(problem.block(problem.span(k)));
  return first_steps;
}

// Several blocks each: few rows and many, halves, projections, dropout, lengths, both directions; wide enough for a team; and one
// that goes to matrix tiles, where there are some.
const Sizes kCases[] = {{300, 2, 5, 9, 0, 1, 1, true, true, false, {}},     {600, 1, 3, 20, 0, 2, 2, true, false, true, {}},
                        {90, 7, 17, 33, 0, 2, 2, true, true, false, {}},    {40, 30, 9, 33, 0, 2, 1, true, true, true, {}},
                        {33, 40, 9, 33, 0, 1, 2, true, true, false, {}},    {5, 300, 7, 16, 0, 1, 1, true, true, false, {}},
                        {60, 9, 9, 37, 5, 2, 2, true, true, true, {}},      {9, 90, 9, 41, 30, 1, 1, false, false, false, {}},
                        {20, 40, 260, 256, 0, 1, 1, true, true, false, {}}, {60, 9, 200, 140, 0, 1, 1, true, true, false, {}}};

// Under a sanitizer or an emulator, what takes 20 times as long and shows nothing more there.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSlow = true;
#else
const bool kSlow = std::getenv("FASTLSTM_TESTED_ISA") != nullptr;
#endif

Sizes of(const Sizes& sizes, fastlstm::CellKind cell, bool packed) {
  Sizes s = sizes;
  s.cell = cell;
  if (cell == kGru) s.P = 0;
  for (std::int64_t t = 0; packed && t < s.T; ++t) s.batch_sizes.push_back(1 + (s.N - 1) * (s.T - t) / s.T);
  if (packed) s.batch_sizes.front() = s.N;
  return s;
}

}  // namespace

TEST_CASE("a span is as many whole blocks as have so many steps, the last one what is left") {
  const Problem problem(100, 8, 3, 4, 0, 1, 1);  // blocks of 32 steps
  CHECK(spans_of(problem, 1) == std::vector<std::int64_t>{0, 32, 64, 96, 100});
  CHECK(spans_of(problem, 32) == std::vector<std::int64_t>{0, 32, 64, 96, 100});
  CHECK(spans_of(problem, 33) == std::vector<std::int64_t>{0, 64, 100});
  CHECK(spans_of(problem, 100) == std::vector<std::int64_t>{0, 100});
  CHECK(spans_of(problem, 1000) == std::vector<std::int64_t>{0, 100});
  CHECK(spans_of(Problem(3, 300, 3, 4, 0, 1, 1), 1) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(spans_of(Problem(4, 200, 3, 4, 0, 1, 1, {200, 100, 100, 100}), 2) == std::vector<std::int64_t>{0, 3, 4});
  CHECK_FALSE(problem.checkpoints());
}

template <class Real>
void hold_bits(const std::vector<std::string>& isas, std::initializer_list<int> threads_of_teams) {
  for (const std::string& isa : isas) {
    fastlstm::use_isa(isa);
    CAPTURE(isa);
    for (std::size_t k = 0; k < std::size(kCases); ++k)
      for (const fastlstm::CellKind cell : kCells)
        for (const bool packed : {false, true}) {
          if (kCases[k].H == 256 && isa != "amx") continue;                   // for matrix tiles
          if (kCases[k].H == 140 && (kSlow || isa != isas.back())) continue;  // long sums: a second each
          if (kSlow && packed == (k % 2 == 0)) continue;
          CAPTURE(k);
          CAPTURE(packed);
          CAPTURE(fastlstm::counts_of(cell).gates);
          Call<Real> call(of(kCases[k], cell, packed), 5);
          call.forward(1);
          call.backward(1);
          const auto expected = call.results();
          const std::size_t kept = call.saved.size();
          for (const int threads : threads_of_teams) {
            CAPTURE(threads);
            call.problem.checkpoint_every(threads % 2 == 0 ? 70 : 1);
            call.forward(threads);
            call.backward(threads);
            CHECK(call.results() == expected);
            if (call.problem.checkpoints()) CHECK(call.saved.size() < kept);
          }
        }
  }
}

TEST_CASE("a call that computes again what it did not keep has the bits of one that kept it") {
  hold_bits<float>(tested_isas(), {1});
  if (!kSlow) hold_bits<double>({tested_isas().back()}, {1});
}

TEST_CASE("any number of threads gives these bits") { hold_bits<float>({tested_isas().back()}, {2, 3}); }

TEST_CASE("backward reads what forward kept, and does not change it: a second time gives the same") {
  Call<float> call(Sizes{90, 7, 17, 33, 0, 2, 2, true, true, false, {}}, 5);
  call.problem.checkpoint_every(1);
  call.forward(2);
  call.backward(2);
  const auto expected = call.results();
  const auto kept = call.saved;
  for (auto& d : call.dweights) std::fill(d.begin(), d.end(), 0.0F);
  call.backward(2);
  CHECK(call.results() == expected);
  CHECK(call.saved == kept);
}

TEST_CASE("what checkpoints take depends on the spans alone, where there is one layer") {
  Problem problem(4096, 8, 100, 128, 0, 1, 1);
  const std::int64_t all = fastlstm::saved_size<float>(problem);
  problem.checkpoint_every(64);
  CHECK(fastlstm::saved_size<float>(problem) == 63 * 8 * (128 + 128));
  CHECK(all >= 4096 * 8 * 5 * 128);
  problem.checkpoint_every(4096);
  CHECK(fastlstm::saved_size<float>(problem) == all);
}
