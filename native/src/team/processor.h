// Which processor a thread is on.
#pragma once

namespace fastlstm {

int processor();  // -1: the system does not tell

// Where this thread is on the given processor, that of a thread it works beside, it moves to another one. Some kernels wake a
// thread on its waker's processor though another idles (seen in a virtual machine, at every third burst after a pause of 60 ms),
// and there libgomp's threads wait for each other by spinning through whole ticks: 8 ms for a call of 1 ms. To forbid a thread
// the processor it is on moves it at once, in 150 microseconds; what it is allowed is then again what it was.
void part_from(int processor);

}  // namespace fastlstm
