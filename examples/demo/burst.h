// SPDX-License-Identifier: MIT
// The demo's second half: the same bursts of the kernel's own events to listeners with and without
// a ring.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace demo {

struct BurstOptions {
    std::uint32_t link_changes = 2'000;  // in a burst
    unsigned link_bursts = 5;
    std::uint32_t routes = 10'000;
    std::uint32_t ipv6_routes = 5'000;  // in a burst; they go with the interface
    unsigned ipv6_bursts = 2;
    std::uint32_t conntrack_entries = 25'000;  // fewer if the kernel allows fewer
    std::size_t ring_bytes = 16 << 20;
    // The readers look for work at least this often.
    std::chrono::milliseconds latency{200};
};

// Sends the bursts while listeners of every kind are busy elsewhere, and lets them read after each.
// Returns the figures, as README.md beside this file describes them. Everything happens in a
// network namespace of its own. Throws std::exception.
nlohmann::json burst(const BurstOptions& options);

struct BurstInstructionOptions {
    std::uint32_t messages = 1'000;
    unsigned rounds = 5;
};

// What a message costs the reader of each kind of listener: routes are added while nobody reads,
// and then this thread alone reads what has gathered. Returns {"method", "messages", "rounds", and
// the median of instructions per message by listener}; null where this machine cannot count. Throws
// std::exception.
nlohmann::json burst_instructions(const BurstInstructionOptions& options);

}  // namespace demo
