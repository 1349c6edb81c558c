// The engine's own threads, for where there are none of OpenMP's.
#pragma once

namespace fastlstm {

// body(data, rank, size) on `threads` threads at once, the caller's the first. False: the pool is busy with another caller's, or
// the system has no threads.
bool run_in_pool(int threads, void (*body)(void* data, int rank, int size), void* data);

}  // namespace fastlstm
