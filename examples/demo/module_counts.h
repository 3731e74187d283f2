// SPDX-License-Identifier: MIT
#pragma once

#include "examples/demo/event.h"

namespace demo {

// How many events there were since process_events.ko was loaded, by its own count in
// /sys/module/process_events/parameters. The three are read one after the other: they belong
// together only where nothing happens meanwhile. Throws std::runtime_error if the module is not
// loaded.
Counts module_counts();

}  // namespace demo
