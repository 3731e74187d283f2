// SPDX-License-Identifier: MIT
// Times of the wall clock as text.
#pragma once

#include <chrono>
#include <string>

namespace nlmmap::tool {

using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

// The wall clock's time at a moment of CLOCK_BOOTTIME, by what the two clocks say now: a clock that
// was set in between shows the time after the change.
WallTime wall_time(std::chrono::nanoseconds since_boot);

WallTime wall_time_now();

// "2026-11-22T08:30:04.123456Z"
std::string utc_text(WallTime time);

// "08:30:04.123456", in the local time zone.
std::string local_text(WallTime time);

}  // namespace nlmmap::tool
