// SPDX-License-Identifier: MIT
// One process event, decoded for people, and the count of events by type.
#pragma once

#include <array>
#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <optional>
#include <string>

#include "examples/process_events/process_events.h"

namespace demo {

struct Counts {
    std::uint64_t forks = 0;
    std::uint64_t execs = 0;
    std::uint64_t exits = 0;

    std::uint64_t total() const noexcept { return forks + execs + exits; }
    bool operator==(const Counts&) const = default;
};

inline Counts operator-(const Counts& a, const Counts& b) noexcept {
    return {a.forks - b.forks, a.execs - b.execs, a.exits - b.exits};
}

// What both readers do with each message: count it by type, and look at the task's number, so that
// the message is really read. Nothing here allocates or makes a system call.
struct Tally {
    Counts counts;
    std::uint64_t others = 0;   // messages that are none of the three
    std::uint64_t tid_sum = 0;  // of the tasks that forked off, executed or ended

    void add(const nlmmap::Message& message) noexcept;
};

// A copy of one event, for printing. Trivially copyable: it is handed between threads.
struct Event {
    std::uint16_t type = 0;
    std::uint32_t tid = 0;
    std::uint32_t tgid = 0;
    std::uint32_t parent_tid = 0;
    std::uint32_t parent_tgid = 0;
    std::uint32_t old_tid = 0;
    std::uint32_t exit_code = 0;
    std::int32_t exit_signal = 0;
    std::array<char, PROCESS_EVENTS_COMM_BYTES> comm{};
    std::array<char, PROCESS_EVENTS_FILENAME_BYTES> filename{};
};

// Empty if the message is not a process event.
std::optional<Event> decode(const nlmmap::Message& message) noexcept;

// One line, without the newline.
std::string to_text(const Event& event);

}  // namespace demo
