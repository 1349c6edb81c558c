// Watches the waits of a time loop for a peer that has lost its processor.
#pragma once
#include <cstdint>

#include "team/barrier.h"

namespace fastlstm {

// A member's way through the barriers of a time loop, one a step. A peer that has lost its processor to another process would
// hold up every step: where the long waits of a member are more than half of its time, the whole team
// learns so at the same barrier, and one goes on alone.
class PeerWatch {
 public:
  explicit PeerWatch(Barrier& barrier);
  // Waits for all. True, for all members from the same call on: rank 0 takes everything, the others stop calling this.
  bool wait();
  // For one member, after the last wait() of all and before the first of the next loop: that one judges for itself.
  void forget();

 private:
  Barrier& barrier_;
  std::int64_t calls_ = 0;
  std::int64_t start_;
  std::int64_t waited_ = 0;  // nanoseconds of long waits: one that lost its processor is a tick late
};

}  // namespace fastlstm
