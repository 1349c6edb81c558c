// How many threads a call is worth.
#pragma once
#include "fastlstm/engine.h"
#include "plan/machine.h"

namespace fastlstm {

// A call's work on one thread: microseconds of its products, by what the small sizes reach, where it matters; or of a single
// step's wait for the weights of a layer: two threads took (1, 1, 256, 256) from 27 us to 20, called again at once or after 5 ms,
// but three layers of (1, 1, 40, 128) from 26 to 40.
double work_microseconds(const Problem& problem, bool training, const Machine& machine);
int useful_threads(const Problem& problem, int threads, bool training, const Machine& machine);

// The same of reading out what forward saved: nothing but copies, of so many bytes.
double copy_microseconds(double bytes);
int useful_threads_to_copy(double bytes, int threads);

}  // namespace fastlstm
