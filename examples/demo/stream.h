// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace demo {

struct StreamOptions {
    std::string workload;
    std::string leaf;
    unsigned processes = 12'000;
    unsigned workers = 2;
    std::size_t ring_bytes = 1 << 20;
    std::uint32_t watermark_bytes = 1 << 18;
    std::size_t receive_buffer_bytes = 1 << 20;
    // The readers look for work at least this often: the longest that an event waits to be seen.
    std::chrono::milliseconds latency{500};
    // Half-way both readers are held up until so many more events have happened; 0: they are not.
    std::uint64_t hold_events = 3'000;
};

// Runs the workload while both readers listen, and prints some events as they come. Returns the
// figures, as README.md beside this file describes them. Throws std::exception; on SIGINT, SIGTERM
// and SIGHUP, too, after the workload was stopped and everything undone.
nlohmann::json stream(const StreamOptions& options);

}  // namespace demo
