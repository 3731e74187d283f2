// SPDX-License-Identifier: MIT
#include "tools/nlmmap/clock.h"

#include <fmt/chrono.h>
#include <time.h>

#include <cstdint>

namespace nlmmap::tool {
namespace {

std::chrono::nanoseconds now(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);  // fails only for a clock that there is not
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

struct Parts {
    std::time_t seconds;
    std::int64_t microseconds;
};

Parts split(WallTime time) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    const auto rest = std::chrono::duration_cast<std::chrono::microseconds>(time - seconds);
    return {seconds.time_since_epoch().count(), rest.count()};
}

}  // namespace

WallTime wall_time(std::chrono::nanoseconds since_boot) {
    return WallTime(now(CLOCK_REALTIME) - now(CLOCK_BOOTTIME) + since_boot);
}

WallTime wall_time_now() { return WallTime(now(CLOCK_REALTIME)); }

std::string utc_text(WallTime time) {
    const Parts parts = split(time);
    std::tm calendar{};
    ::gmtime_r(&parts.seconds, &calendar);
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", calendar, parts.microseconds);
}

std::string local_text(WallTime time) {
    const Parts parts = split(time);
    std::tm calendar{};
    ::localtime_r(&parts.seconds, &calendar);
    return fmt::format("{:%H:%M:%S}.{:06}", calendar, parts.microseconds);
}

}  // namespace nlmmap::tool
