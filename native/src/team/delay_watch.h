// Watches whether calls of teams were held up.
#pragma once
#include <atomic>
#include <cstdint>

namespace fastlstm {

// Whether teams are worth it just now. One whose member has lost its processor costs a tick or two (8 ms for a call of 1 ms):
// after such a call the next ones go alone for a while, for four times as long each time, less the time of calls that went well
// since: a peer that shares its processor has it for one tick in two, and calls in that tick prove nothing. A long call that
// shares its rows without a barrier a step is faster together even so, and is measured to be.
class DelayWatch {
 public:
  static constexpr std::int64_t kShortestRest = 8'000'000;   // nanoseconds
  static constexpr std::int64_t kLongestRest = 128'000'000;  // of which a try that fails takes a fifteenth

  bool alone(std::int64_t now) const { return now < until_.load(std::memory_order_relaxed); }
  void learn(bool held_up, std::int64_t start, std::int64_t end);  // of the call
  void forget();

 private:
  std::atomic<std::int64_t> until_{INT64_MIN};
  std::atomic<std::int64_t> rest_{kShortestRest};
};

// That of run_team.
DelayWatch& delay_watch();

}  // namespace fastlstm
