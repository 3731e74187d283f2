// SPDX-License-Identifier: MIT
#include "examples/process_events/test/event_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{30};

struct Layout {
    std::uint16_t attribute;
    std::size_t most_bytes;
    bool is_string;
};

constexpr Layout number(std::uint16_t attribute) { return {attribute, 4, false}; }
constexpr Layout kComm{PROCESS_EVENTS_A_COMM, PROCESS_EVENTS_COMM_BYTES, true};
constexpr Layout kFilename{PROCESS_EVENTS_A_FILENAME, PROCESS_EVENTS_FILENAME_BYTES, true};

// What process_events.h says of each message, in that order.
std::vector<Layout> layout_of(std::uint16_t type) {
    switch (type) {
        case PROCESS_EVENTS_MSG_FORK:
            return {number(PROCESS_EVENTS_A_PARENT_TID), number(PROCESS_EVENTS_A_PARENT_TGID),
                    number(PROCESS_EVENTS_A_TID), number(PROCESS_EVENTS_A_TGID), kComm};
        case PROCESS_EVENTS_MSG_EXEC:
            return {number(PROCESS_EVENTS_A_TID), number(PROCESS_EVENTS_A_TGID),
                    number(PROCESS_EVENTS_A_OLD_TID), kFilename, kComm};
        case PROCESS_EVENTS_MSG_EXIT:
            return {number(PROCESS_EVENTS_A_TID), number(PROCESS_EVENTS_A_TGID),
                    number(PROCESS_EVENTS_A_EXIT_CODE), number(PROCESS_EVENTS_A_EXIT_SIGNAL),
                    kComm};
        default:
            return {};
    }
}

bool is_as_described(const Layout& layout, const nlmmap::Attribute& attribute) {
    const std::span<const std::byte> payload = attribute.payload();
    if (attribute.type() != layout.attribute) return false;
    if (!layout.is_string) return payload.size() == layout.most_bytes;
    // One NUL, and it is the last byte.
    return !payload.empty() && payload.size() <= layout.most_bytes &&
           std::find(payload.begin(), payload.end(), std::byte{0}) == payload.end() - 1;
}

}  // namespace

int load_module(const char* options) {
    const char* path = std::getenv("PROCESS_EVENTS_KO");
    const int fd =
        open(path != nullptr ? path : "/modules/process_events.ko", O_RDONLY | O_CLOEXEC);
    if (fd == -1) return errno;
    const int error = syscall(SYS_finit_module, fd, options, 0) == 0 ? 0 : errno;
    close(fd);
    return error;
}

int unload_module() {
    // The module that the last reader was told from may be in use for a moment more.
    const auto deadline = steady_clock::now() + kPatience;
    for (;;) {
        if (syscall(SYS_delete_module, "process_events", O_NONBLOCK) == 0) return 0;
        if (errno != EAGAIN || steady_clock::now() > deadline) return errno;
        usleep(10'000);
    }
}

bool is_loaded() { return access("/sys/module/process_events", F_OK) == 0; }

EventLog::EventLog()
    : receiver_(nlmmap::Receiver::join(PROCESS_EVENTS_GROUP, {.ring_bytes = 4 << 20})) {}

void EventLog::check_layout(const nlmmap::Message& message) {
    std::string told;
    bool good = message.flags() == 0 && message.seq() == 0 && message.portid() == 0;
    const std::vector<Layout> layout = layout_of(message.type());
    auto expected = layout.begin();
    for (const nlmmap::Attribute& attribute : message.attributes()) {
        told += " " + std::to_string(attribute.type()) + ":" +
                std::to_string(attribute.payload().size());
        good = good && expected != layout.end() && is_as_described(*expected, attribute);
        if (expected != layout.end()) ++expected;
    }
    if (!good || expected != layout.end() || layout.empty())
        malformed_ += "type " + std::to_string(message.type()) + told + "; ";
}

bool EventLog::read(milliseconds timeout) {
    if (receiver_.wait(timeout) != nlmmap::Wait::readable) return false;
    for (const nlmmap::Record& record : receiver_.read()) {
        if (record.lost_before() != 0) throw std::runtime_error("the ring is too small");
        if (record.is_notice()) continue;
        for (const nlmmap::Message& message : record) {
            check_layout(message);
            if (const std::optional<demo::Event> event = demo::decode(message))
                events_.push_back(*event);
        }
    }
    return true;
}

std::optional<demo::Event> EventLog::await(const std::function<bool(const demo::Event&)>& is_it) {
    std::size_t looked_at = 0;
    const auto deadline = steady_clock::now() + kPatience;
    do {
        for (; looked_at < events_.size(); ++looked_at)
            if (is_it(events_[looked_at])) return events_[looked_at];
        read(milliseconds(100));
    } while (looked_at < events_.size() || steady_clock::now() < deadline);
    return std::nullopt;
}

std::optional<demo::Event> EventLog::await(int type, pid_t tid) {
    return await([&](const demo::Event& event) {
        return event.type == type && event.tid == static_cast<std::uint32_t>(tid);
    });
}

std::size_t EventLog::place(int type, pid_t tid) const {
    const auto found = std::find_if(events_.begin(), events_.end(), [&](const demo::Event& event) {
        return event.type == type && event.tid == static_cast<std::uint32_t>(tid);
    });
    return static_cast<std::size_t>(found - events_.begin());
}

std::vector<std::string> shell(const std::string& script) {
    return {"/bin/busybox", "sh", "-c", script};
}

pid_t spawn(const std::vector<std::string>& arguments) {
    std::vector<std::string> copy = arguments;
    std::vector<char*> pointers;
    pointers.reserve(copy.size() + 1);
    for (std::string& argument : copy) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    pid_t child = 0;
    if (const int error =
            posix_spawn(&child, copy.at(0).c_str(), nullptr, nullptr, pointers.data(), environ))
        throw std::system_error(error, std::generic_category(), "run " + copy.at(0));
    return child;
}

int wait_for(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child)
        throw std::system_error(errno, std::generic_category(), "waitpid");
    return status;
}
