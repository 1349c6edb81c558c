// A team of threads for one call: a body is run on each.
#pragma once
#include "team/barrier.h"

namespace fastlstm {

struct Member {
  int rank;             // 0 .. size - 1
  int size;             // of the whole team
  Barrier* barrier;     // of the whole team
  Barrier* half_teams;  // two, of the even and the odd ranks, where size is even
};

// body(data, member) on up to `threads` threads at once, all of them truly concurrent; returns when all have ended.
void run_team(int threads, void (*body)(void* data, const Member& member), void* data);

}  // namespace fastlstm
