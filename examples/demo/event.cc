// SPDX-License-Identifier: MIT
#include "examples/demo/event.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <string_view>

namespace demo {
namespace {

template <std::size_t kBytes>
void copy_text(std::array<char, kBytes>& to, std::string_view text) noexcept {
    const std::size_t bytes = std::min(text.size(), kBytes - 1);
    text.copy(to.data(), bytes);
    to[bytes] = '\0';
}

std::string task(std::uint32_t tid, std::uint32_t tgid) {
    return tid == tgid ? fmt::format("{}", tid) : fmt::format("{} (thread of {})", tid, tgid);
}

std::string end_of(std::uint32_t exit_code) {
    const int status = static_cast<int>(exit_code);
    if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
    return fmt::format("status {}", WEXITSTATUS(status));
}

}  // namespace

void Tally::add(const nlmmap::Message& message) noexcept {
    switch (message.type()) {
        case PROCESS_EVENTS_MSG_FORK:
            ++counts.forks;
            break;
        case PROCESS_EVENTS_MSG_EXEC:
            ++counts.execs;
            break;
        case PROCESS_EVENTS_MSG_EXIT:
            ++counts.exits;
            break;
        default:
            ++others;
            return;
    }
    for (const nlmmap::Attribute& attribute : message.attributes()) {
        if (attribute.type() != PROCESS_EVENTS_A_TID) continue;
        tid_sum += attribute.as<std::uint32_t>().value_or(0);
        break;
    }
}

std::optional<Event> decode(const nlmmap::Message& message) noexcept {
    if (message.type() < PROCESS_EVENTS_MSG_FORK || message.type() > PROCESS_EVENTS_MSG_EXIT)
        return std::nullopt;
    Event event;
    event.type = message.type();
    for (const nlmmap::Attribute& attribute : message.attributes()) {
        const std::uint32_t number = attribute.as<std::uint32_t>().value_or(0);
        switch (attribute.type()) {
            case PROCESS_EVENTS_A_PARENT_TID:
                event.parent_tid = number;
                break;
            case PROCESS_EVENTS_A_PARENT_TGID:
                event.parent_tgid = number;
                break;
            case PROCESS_EVENTS_A_TID:
                event.tid = number;
                break;
            case PROCESS_EVENTS_A_TGID:
                event.tgid = number;
                break;
            case PROCESS_EVENTS_A_OLD_TID:
                event.old_tid = number;
                break;
            case PROCESS_EVENTS_A_EXIT_CODE:
                event.exit_code = number;
                break;
            case PROCESS_EVENTS_A_EXIT_SIGNAL:
                event.exit_signal = attribute.as<std::int32_t>().value_or(0);
                break;
            case PROCESS_EVENTS_A_COMM:
                copy_text(event.comm, attribute.string());
                break;
            case PROCESS_EVENTS_A_FILENAME:
                copy_text(event.filename, attribute.string());
                break;
            default:
                break;
        }
    }
    return event;
}

std::string to_text(const Event& event) {
    switch (event.type) {
        case PROCESS_EVENTS_MSG_FORK:
            return fmt::format("fork  {} -> {}  {}", task(event.parent_tid, event.parent_tgid),
                               task(event.tid, event.tgid), event.comm.data());
        case PROCESS_EVENTS_MSG_EXEC:
            return fmt::format("exec  {}  {}  {}", task(event.tid, event.tgid), event.comm.data(),
                               event.filename.data());
        default:
            return fmt::format("exit  {}  {}  {}", task(event.tid, event.tgid), event.comm.data(),
                               end_of(event.exit_code));
    }
}

}  // namespace demo
