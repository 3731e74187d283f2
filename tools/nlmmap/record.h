// SPDX-License-Identifier: MIT
// What nlmmap-record does.
#pragma once

#include "tools/nlmmap/record_options.h"
#include "tools/nlmmap/stop.h"

namespace nlmmap::tool {

// Records until the count is reached, a signal comes or nobody reads the pipe any more, and sums up
// on standard error. Throws nlmmap::Error, std::system_error, std::runtime_error; OutputClosed.
void record(const RecordOptions& options, StopSignal& stop);

}  // namespace nlmmap::tool
