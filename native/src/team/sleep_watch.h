// Watches how long a team's threads have slept.
#pragma once
#include <atomic>
#include <cstdint>

namespace fastlstm {

// Whether a call is worth waking threads for. To start one takes 200 microseconds, and one that has slept for 20 ms is as late in
// a virtual machine: a small call would take twice as long by it, and may be the only one for as long. So calls go alone until
// those of one stretch have lost about as much by it, or the next one would: nobody pays more than twice what he had to.
class SleepWatch {
 public:
  static constexpr double kMicroseconds = 800;        // of work, by work_microseconds: measured, two threads save a quarter
  static constexpr std::int64_t kAwake = 10'000'000;  // nanoseconds after a team's end, and between the calls of a stretch

  bool worth(double microseconds, std::int64_t now);                                             // of the work of the next call
  void ended(std::int64_t now) { awake_until_.store(now + kAwake, std::memory_order_relaxed); }  // a team has
  void forget();                                                                                 // there is no team

 private:
  std::atomic<std::int64_t> awake_until_{INT64_MIN};
  std::atomic<std::int64_t> stretch_until_{INT64_MIN};
  std::atomic<double> alone_{0};  // microseconds of the work of the stretch's calls
};

// That of run_team.
SleepWatch& sleep_watch();

// How many of so many threads a call of so much work should ask run_team for: all, or one.
int threads_awake(int threads, double microseconds);

}  // namespace fastlstm
