#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "batch/share.h"
#include "plan/backward.h"
#include "plan/forward.h"
#include "plan/pairs.h"
#include "plan/threads.h"
#include "plan/words.h"

using fastlstm::plan_backward;
using fastlstm::plan_forward;
using fastlstm::Problem;
using fastlstm::share;
using fastlstm::share_rows;

TEST_CASE("a problem counts its rows, dense and packed, and cuts them into blocks of whole steps") {
  const Problem dense(7, 3, 2, 4, 0, 1, 1);
  CHECK(dense.rows() == 21);
  CHECK(dense.row(2) == 6);
  CHECK(dense.batch(6) == 3);
  CHECK(dense.blocks() == 1);
  const Problem packed(4, 5, 2, 4, 0, 1, 1, {5, 3, 3, 1});
  CHECK(packed.rows() == 12);
  CHECK(packed.batch(0) == 5);
  CHECK(packed.batch(3) == 1);
  const Problem wide(5, 300, 2, 4, 0, 1, 1);
  CHECK(wide.blocks() == 5);  // a step is never cut
  const Problem longer(1000, 4, 2, 4, 0, 1, 1);
  for (std::int64_t b = 0; b < longer.blocks(); ++b) {
    CHECK(longer.block(b) < longer.block(b + 1));
    CHECK(longer.row(longer.block(b + 1)) - longer.row(longer.block(b)) <= Problem::kBlockRows);
  }
  CHECK(longer.block(longer.blocks()) == 1000);
}

TEST_CASE("sizes that make no sense are refused") {
  CHECK_THROWS_AS(Problem(0, 1, 1, 1, 0, 1, 1), std::invalid_argument);
  CHECK_THROWS_AS(Problem(1, -1, 1, 1, 0, 1, 1), std::invalid_argument);
  CHECK_THROWS_AS(Problem(1, 1, 1, 1, 0, 1, 3), std::invalid_argument);
  CHECK_THROWS_AS(Problem(1, 1, 1, 4, 4, 1, 1), std::invalid_argument);
  CHECK_THROWS_AS(Problem(2, 2, 1, 1, 0, 1, 1, {2}), std::invalid_argument);
  CHECK_THROWS_AS(Problem(2, 2, 1, 1, 0, 1, 1, {1, 2}), std::invalid_argument);
  CHECK_THROWS_AS(Problem(2, 2, 1, 1, 0, 1, 1, {2, 0}), std::invalid_argument);
}

TEST_CASE("the shares of a team cover everything once") {
  for (int size = 1; size <= 5; ++size)
    for (const std::int64_t count : {0, 1, 3, 7, 64}) {
      std::int64_t next = 0;
      for (int rank = 0; rank < size; ++rank) {
        CHECK(share(count, rank, size).first == next);
        next = share(count, rank, size).last;
      }
      CHECK(next == count);
    }
}

TEST_CASE("the rows of a packed batch are shared by their work, not by their number") {
  const Problem packed(100, 4, 2, 4, 0, 1, 1, [] {
    std::vector<std::int64_t> sizes(100, 1);  // one row of 100 steps, three of 10
    for (std::size_t t = 0; t < 10; ++t) sizes[t] = 4;
    return sizes;
  }());
  CHECK(share_rows(packed, 0, packed.T, 0, 2).first == 0);
  CHECK(share_rows(packed, 0, packed.T, 0, 2).last == 1);
  CHECK(share_rows(packed, 0, packed.T, 1, 2).first == 1);
  CHECK(share_rows(packed, 0, packed.T, 1, 2).last == 4);
  CHECK(share_rows(packed, 0, 10, 0, 2).last == 2);  // of these steps alone every row is as long
  CHECK(share_rows(packed, 5, 15, 0, 2).last == 2);  // one row of 10, three of 5
  CHECK(share_rows(packed, 10, 100, 0, 2).last == 1);
}

namespace {
const fastlstm::Machine kMachine{4, 1, false, 512 << 10, 8, 4, 4};
}

TEST_CASE("the plan: rows where there are many, units where there are few, directions where there are two") {
  CHECK_FALSE(plan_forward(Problem(100, 64, 256, 256, 0, 1, 1), 256, 2, kMachine).by_unit);
  CHECK(plan_forward(Problem(100, 1, 512, 512, 0, 1, 1), 512, 2, kMachine).by_unit);
  CHECK_FALSE(plan_forward(Problem(100, 1, 512, 512, 0, 1, 1), 512, 1, kMachine).by_unit);
  CHECK(plan_forward(Problem(100, 1, 64, 64, 0, 1, 2), 64, 2, kMachine).by_direction);
  CHECK_FALSE(plan_forward(Problem(100, 1, 64, 64, 0, 1, 2), 64, 3, kMachine).by_direction);
  const auto again = plan_forward(Problem(100, 1, 512, 512, 0, 1, 2), 512, 2, kMachine, {false, false, false, true});
  CHECK((!again.by_direction && again.by_unit));  // the whole team at each direction
  CHECK(plan_forward(Problem(100, 1, 64, 64, 0, 1, 1), 64, 1, kMachine).project);
  CHECK_FALSE(plan_forward(Problem(100, 64, 64, 64, 0, 1, 1), 64, 2, kMachine).project);
  CHECK_FALSE(plan_forward(Problem(100, 8, 64, 64, 0, 1, 1), 64, 2, kMachine).project);  // by rows, four each
}

TEST_CASE("the plan: weights that stay in a larger L2 are no reason to split units") {
  const Problem problem(128, 16, 64, 256, 0, 1, 1);
  CHECK(plan_forward(problem, 64, 2, {4, 1, false, 512 << 10, 8, 4, 4}).by_unit);
  CHECK_FALSE(plan_forward(problem, 64, 2, {4, 1, false, 2048 << 10, 8, 4, 4}).by_unit);
}

TEST_CASE("the plan: weights that no cache holds are read by one member each, and those of the input once a block") {
  const fastlstm::Machine large{4, 1, false, 1024 << 10, 8, 4, 4};
  const auto plan = [&](std::int64_t N, std::int64_t in, std::int64_t H, int threads, std::int64_t D = 1) {
    return plan_forward(Problem(50, N, in, H, 0, 1, D), in, threads, large);
  };
  CHECK(plan(64, 1024, 1024, 2).by_unit);
  CHECK(plan(64, 1024, 1024, 2).project);
  CHECK_FALSE(plan(64, 512, 512, 2).by_unit);
  CHECK(plan(32, 1024, 1024, 1).project);
  CHECK_FALSE(plan(32, 512, 512, 1).project);
  CHECK_FALSE(plan(200, 1024, 1024, 1).project);  // the buffer in between would be as large
  CHECK_FALSE(plan(32, 300, 512, 1, 2).project);  // one direction after the other
  CHECK(plan(32, 300, 512, 2, 2).project);        // both at once
}

TEST_CASE("the plan: matrix tiles where the instruction set has them, whatever the number of rows") {
  for (const std::int64_t N : {1, 3, 100}) {
    CHECK(plan_forward(Problem(2, N, 256, 256, 0, 1, 1), 256, 2, {4, 1, true, 512 << 10, 8, 4, 4}).tiled);
    CHECK_FALSE(plan_forward(Problem(2, N, 255, 256, 0, 1, 1), 255, 2, {4, 1, true, 512 << 10, 8, 4, 4}).tiled);
    CHECK_FALSE(plan_forward(Problem(1, N, 256, 256, 0, 1, 1), 256, 2, {4, 1, true, 512 << 10, 8, 4, 4}).tiled);
  }
}

TEST_CASE("pairs of bfloat16: several steps of an even number of units, 32 or more, without a projection") {
  CHECK(fastlstm::fits_pairs(Problem(5, 4, 8, 32, 0, 1, 1)));
  for (const Problem& other : {Problem(1, 4, 8, 32, 0, 1, 1), Problem(5, 4, 8, 33, 0, 1, 1), Problem(5, 4, 8, 30, 0, 1, 1),
                               Problem(5, 4, 8, 32, 4, 1, 1)})
    CHECK_FALSE(fastlstm::fits_pairs(other));
}

TEST_CASE("pairs of bfloat16: all that is multiplied, and output, is of such numbers") {
  const Problem problem(5, 4, 8, 32, 0, 1, 1);
  const std::uint16_t narrow = 0;
  const float wide = 0;
  const fastlstm::Source<float> a{&narrow, fastlstm::Element::bfloat16};
  const fastlstm::Source<float> b{&wide};
  const auto output = fastlstm::Element::bfloat16;
  const fastlstm::Weights<float> weights{a, a, b, b, {}};  // biases are added, not multiplied
  const fastlstm::Weights<float> recurrent{a, b, a, a, {}};
  const auto all = [&](const auto& x, const auto& h_0, const auto& w, const auto& to) {
    return fastlstm::all_bfloat16(problem, fastlstm::Inputs<float>{x, h_0, b, &w, nullptr}, to);
  };
  CHECK(all(a, a, weights, output));
  CHECK(all(a, fastlstm::Source<float>{}, weights, output));
  CHECK_FALSE(all(b, a, weights, output));
  CHECK_FALSE(all(a, b, weights, output));
  CHECK_FALSE(all(a, a, recurrent, output));
  CHECK_FALSE(all(a, a, weights, fastlstm::Element::real));
}

TEST_CASE("one row keeps to one thread where its units are not worth a barrier a step") {
  CHECK(fastlstm::useful_threads(Problem(100, 1, 32, 32, 0, 1, 1), 2, false, kMachine) == 1);
  CHECK(fastlstm::useful_threads(Problem(100, 1, 64, 64, 0, 1, 1), 2, false, kMachine) == 2);
  CHECK(fastlstm::useful_threads(Problem(100, 1, 64, 512, 0, 1, 1), 2, false, kMachine) == 2);
  CHECK(fastlstm::useful_threads(Problem(100, 1, 64, 64, 0, 1, 2), 2, false, kMachine) == 2);
}

TEST_CASE("a single step takes as many threads as its weights are worth, which it waits for") {
  const auto threads = [](std::int64_t H, bool training) {
    return fastlstm::useful_threads(Problem(1, 1, H, H, 0, 1, 1), 8, training, kMachine);
  };
  CHECK(threads(128, false) == 1);
  CHECK(threads(181, false) == 1);  // 1 MiB, which L2 may hold
  CHECK(threads(256, false) == 3);
  CHECK(threads(181, true) == 3);
  CHECK(threads(1024, false) == 8);
  CHECK(fastlstm::useful_threads(Problem(1, 1, 40, 128, 0, 3, 1), 8, false, kMachine) == 1);  // each of its layers does
}

TEST_CASE("a tiny call keeps to one thread") {
  CHECK(fastlstm::useful_threads(Problem(1, 1, 64, 64, 0, 1, 1), 8, false, kMachine) == 1);
  CHECK(fastlstm::useful_threads(Problem(100, 64, 256, 256, 0, 1, 1), 8, false, kMachine) == 8);
}

TEST_CASE("forward: rows elsewhere are fetched a block at a time, of one direction and several steps") {
  const auto by_block = [](std::int64_t T, std::int64_t D, bool elsewhere) {
    return plan_forward(Problem(T, 4, 8, 32, 0, 1, D), 8, 2, kMachine, {false, elsewhere}).by_block;
  };
  CHECK(by_block(5, 1, true));
  CHECK_FALSE(by_block(5, 1, false));
  CHECK_FALSE(by_block(1, 1, true));
  CHECK_FALSE(by_block(5, 2, true));
}

TEST_CASE("forward: saved gates of 16 MiB and more go past the caches, where a step writes them once") {
  const auto stream = [](std::int64_t T, std::int64_t N, std::int64_t in, bool saves) {
    return plan_forward(Problem(T, N, in, 64, 0, 1, 1), in, 2, kMachine, {saves, false}).stream;
  };
  CHECK(stream(256, 64, 64, true));  // 256 * 64 rows of 4 * 64 floats
  CHECK_FALSE(stream(255, 64, 64, true));
  CHECK_FALSE(stream(256, 64, 64, false));
  CHECK(stream(256, 64, 700, true));
  CHECK_FALSE(stream(256, 64, 704, true));                                                               // cut: 768 terms
  CHECK_FALSE(plan_forward(Problem(20000, 1, 64, 64, 0, 1, 1), 64, 1, kMachine, {true, false}).stream);  // projected ahead
}

TEST_CASE("forward: panels are packed late where they meet all their rows at once") {
  const auto late = [](std::int64_t T, std::int64_t N, int threads) {
    return plan_forward(Problem(T, N, 512, 512, 0, 1, 1), 512, threads, kMachine).pack_late;
  };
  CHECK(late(100, 1, 1));
  CHECK(late(100, 1, 2));         // by units
  CHECK_FALSE(late(1000, 1, 1));  // several blocks
  CHECK_FALSE(late(100, 64, 2));  // no projection ahead
  CHECK_FALSE(late(1, 1, 1));
}

TEST_CASE("weights that are packed already are packed again where a team splits many rows") {
  const auto packed = [](std::int64_t T, std::int64_t N, int threads, std::int64_t D = 1) {
    return plan_forward(Problem(T, N, 64, 256, 0, 1, D), 64, threads, {4, 1, false, 2048 << 10, 8, 4, 4}, {false, false, true})
        .packed;
  };
  CHECK(packed(128, 16, 1));
  CHECK_FALSE(packed(128, 16, 2));
  CHECK(packed(16, 16, 2));
  CHECK(packed(2000, 1, 2));      // by units: each reads its own
  CHECK(packed(128, 16, 2, 2));   // a direction each
  CHECK_FALSE(packed(1, 16, 1));  // one step reads the weights as they are
}

TEST_CASE("one step reads the weights where they are: forward always, backward for few rows and no gradients of gates") {
  const auto backward = [](std::int64_t T, std::int64_t N, bool step_gradients) {
    return plan_backward(Problem(T, N, 8, 32, 0, 1, 1), 2, kMachine, {false, step_gradients}).one_step;
  };
  CHECK(plan_forward(Problem(1, 100, 8, 32, 0, 1, 1), 8, 2, kMachine).one_step);
  CHECK_FALSE(plan_forward(Problem(2, 1, 8, 32, 0, 1, 1), 8, 2, kMachine).one_step);
  CHECK(backward(1, 8, false));
  CHECK_FALSE(backward(1, 9, false));
  CHECK_FALSE(backward(1, 8, true));
  CHECK_FALSE(backward(2, 8, false));
}

TEST_CASE("backward: halves of many rows of few units, whatever the number of threads; each has half of an even team") {
  const Problem many(512, 64, 7, 64, 0, 1, 1);
  for (int threads = 1; threads <= 4; ++threads) {
    const auto plan = plan_backward(many, threads, kMachine);
    CHECK(plan.halves);
    CHECK(plan.parted == (threads % 2 == 0));
    CHECK_FALSE(plan.by_unit);
  }
  const auto halves = [](std::int64_t T, std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t P,
                         const fastlstm::Machine& machine = kMachine) {
    return plan_backward(Problem(T, N, I, H, P, 1, 1), 2, machine).halves;
  };
  CHECK(halves(32, 16, 7, 64, 0));
  CHECK_FALSE(halves(31, 16, 7, 64, 0));
  CHECK_FALSE(halves(100, 15, 7, 64, 0));
  CHECK_FALSE(halves(512, 64, 7, 64, 8));  // a projection
  CHECK(halves(512, 64, 255, 128, 0));     // sums of 384 * 512 floats
  CHECK_FALSE(halves(512, 64, 256, 256, 0));
}

TEST_CASE("backward: tiles from 64 rows on; a step's product from 32 rows a step, which stay together") {
  const fastlstm::Machine tiles{4, 1, true, 512 << 10, 16, 4, 4};
  const auto plan = [&](std::int64_t T, std::int64_t N, std::int64_t H, int threads = 2) {
    return plan_backward(Problem(T, N, 64, H, 0, 1, 1), threads, tiles, {true, false});
  };
  CHECK(plan(2, 32, 256).tiled);
  CHECK(plan(2, 32, 256).tiled_steps);
  CHECK(plan(2, 32, 256).by_unit);
  CHECK_FALSE(plan(2, 32, 256, 1).by_unit);
  CHECK_FALSE(plan(2, 32, 256).by_block);  // all of x is looked at first
  CHECK(plan(64, 1, 256).tiled);
  CHECK_FALSE(plan(64, 1, 256).tiled_steps);
  CHECK_FALSE(plan(63, 1, 256).tiled);
  CHECK_FALSE(plan(64, 1, 255).tiled);
  CHECK_FALSE(plan(1, 64, 256).tiled);
  CHECK(plan(64, 1, 255).by_block);
}

TEST_CASE("backward: directions one after the other; units split as forward does, but for the input's products") {
  CHECK(plan_backward(Problem(100, 1, 512, 512, 0, 1, 1), 2, kMachine).by_unit);
  CHECK_FALSE(plan_backward(Problem(100, 64, 64, 256, 0, 1, 1), 2, kMachine).by_unit);
  CHECK(plan_backward(Problem(100, 1, 64, 64, 0, 1, 1), 2, kMachine).restores_hidden);
  CHECK_FALSE(plan_backward(Problem(100, 1, 64, 64, 8, 1, 1), 2, kMachine).restores_hidden);
  CHECK_FALSE(plan_backward(Problem(1, 1, 64, 64, 0, 1, 1), 2, kMachine).restores_hidden);
}

TEST_CASE("copies take a thread for each half MiB") {
  CHECK(fastlstm::useful_threads_to_copy(1000, 4) == 1);
  CHECK(fastlstm::useful_threads_to_copy(1 << 20, 4) == 2);
  CHECK(fastlstm::useful_threads_to_copy(1e9, 4) == 4);
}

TEST_CASE("a plan in words names what is decided") {
  const auto words = [](const Problem& problem, bool training) {
    std::string all;
    for (const auto& [what, how] : fastlstm::plan_in_words(problem, 2, training, true, kMachine)) all += what + ": " + how + "\n";
    return all;
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  const std::string training = words(Problem(512, 64, 7, 64, 0, 3, 1), true);
  CHECK(has(training, "threads: 2 of 2"));
  CHECK(has(training, "forward, layer 0: each thread its own rows"));
  CHECK(has(training, "forward, layers 1 to 2: "));
  CHECK(has(training, "gates stored past the caches; rows fetched and sent a block of steps at a time"));
  CHECK(has(training, "backward: each thread its own rows, no barrier; half of the threads for each half of the batch"));
  CHECK(has(words(Problem(1, 1, 512, 512, 0, 1, 1), false),
            "forward: each thread its own hidden units, a barrier a step; one step"));
}
