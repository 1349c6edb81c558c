#include "plan/words.h"

#include <cmath>
#include <string>
#include <utility>

#include "plan/backward.h"
#include "plan/forward.h"
#include "plan/threads.h"

namespace fastlstm {
namespace {

// Parts of a sentence, where they hold.
class Words {
 public:
  explicit Words(std::string first) : text_(std::move(first)) {}
  Words& add(bool holds, const char* part) {
    if (holds) text_ += std::string("; ") + part;
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string shared(bool by_direction, bool by_unit, int team) {
  if (team == 1) return by_direction ? "a thread for each direction" : "one thread";
  const std::string whose = by_direction ? "half of the threads for each direction, " : "";
  return whose + (by_unit ? "each thread its own hidden units, a barrier a step" : "each thread its own rows, no barrier");
}

std::string forward_words(const ForwardPlan& plan, int threads) {
  const int team = plan.by_direction ? threads / 2 : threads;
  if (plan.one_step)
    return Words(shared(plan.by_direction, true, team))
        .add(true, "one step: the weights are read where they are, not packed")
        .text();
  const char* const projection = plan.tiled     ? "the input's products of a block of steps ahead, on matrix tiles"
                                 : plan.project ? "the input's products of a block of steps ahead"
                                                : "the input's products in each step";
  return Words(shared(plan.by_direction, plan.by_unit, team))
      .add(true, projection)
      .add(plan.pack_late, "each panel of the input's weights packed just before its use")
      .add(plan.stream, "gates stored past the caches")
      .add(plan.by_block, "rows fetched and sent a block of steps at a time")
      .text();
}

std::string backward_words(const BackwardPlan& plan, int threads) {
  if (plan.one_step)
    return Words(shared(false, true, threads)).add(true, "one step: the weights are read where they are, not packed").text();
  return Words(shared(false, plan.by_unit, threads))
      .add(plan.tiled_steps, "all products on matrix tiles")
      .add(plan.tiled && !plan.tiled_steps, "the products of dx and the weights on matrix tiles")
      .add(plan.halves, plan.parted ? "half of the threads for each half of the batch, with sums of its own"
                                    : "sums of their own for the two halves of the batch")
      .add(plan.restores_hidden, "h computed again from o and c")
      .add(plan.by_block, "rows fetched and sent a block of steps at a time")
      .text();
}

}  // namespace

std::vector<Decision> plan_in_words(const Problem& problem, int threads, bool training, bool rows_elsewhere,
                                    const Machine& machine) {
  std::vector<Decision> all;
  const int useful = useful_threads(problem, threads, training, machine);
  const auto microseconds = static_cast<long long>(std::llround(work_microseconds(problem, training, machine)));
  all.push_back({"threads", std::to_string(useful) + " of " + std::to_string(threads) + ", for about " +
                                std::to_string(microseconds) + " us of work on one"});
  all.push_back({"products", machine.products > 1        ? "pairs of bfloat16"
                             : machine.real_bytes() == 8 ? "fused multiply-adds of float64"
                                                         : "fused multiply-adds of float32"});
  all.push_back({"blocks", std::to_string(problem.blocks()) + " of whole steps, about " + std::to_string(Problem::kBlockRows) +
                               " rows each"});
  for (std::int64_t layer = 0; layer < problem.layers && layer < 2; ++layer) {  // those after the second are like it
    const ForwardPlan plan = plan_forward(problem, problem.layer_input(layer), useful, machine, {training, rows_elsewhere});
    const std::string which = problem.layers == 1           ? "forward"
                              : layer == 0                  ? "forward, layer 0"
                              : layer + 1 == problem.layers ? "forward, layer 1"
                                                            : "forward, layers 1 to " + std::to_string(problem.layers - 1);
    all.push_back({which, forward_words(plan, useful)});
  }
  if (training)
    all.push_back({"backward", backward_words(plan_backward(problem, useful, machine, {rows_elsewhere, false}), useful)});
  return all;
}

}  // namespace fastlstm
