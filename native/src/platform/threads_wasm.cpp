#include "platform/threads.h"

namespace fastlstm {

const bool kHasThreads = false;

int processor() { return -1; }

void part_from(int) {}

std::int64_t processor_time() { return wall_time(); }

int at_fork(void (*)(), void (*)(), void (*)()) { return 0; }

}  // namespace fastlstm
