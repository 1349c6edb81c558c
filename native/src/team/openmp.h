// The caller's OpenMP runtime.
#pragma once

namespace fastlstm {

// body(data, rank, size) on up to `threads` of its threads at once. False: there is none, or this is a forked child, where
// libgomp's threads are gone.
bool run_in_openmp(int threads, void (*body)(void* data, int rank, int size), void* data);

}  // namespace fastlstm
