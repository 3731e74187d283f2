// SPDX-License-Identifier: MIT
// What the tests of process_events.ko share: loading it, and hearing what it says.
#pragma once

#include <sys/types.h>

#include <functional>
#include <nlmmap/nlmmap.hpp>
#include <optional>
#include <string>
#include <vector>

#include "examples/demo/event.h"

// 0, or the errno. The module's file is /modules/process_events.ko, or $PROCESS_EVENTS_KO; the
// options are what insmod would be given behind it.
int load_module(const char* options = "");
int unload_module();
bool is_loaded();

// Reads every event from its construction on.
class EventLog {
  public:
    EventLog();

    // Reads until the event is there; empty if it does not come within half a minute.
    std::optional<demo::Event> await(const std::function<bool(const demo::Event&)>& is_it);
    // The same, for the fork, the exec or the exit (a PROCESS_EVENTS_MSG_*) of a task.
    std::optional<demo::Event> await(int type, pid_t tid);

    // Everything up to now, in order.
    const std::vector<demo::Event>& events() const noexcept { return events_; }
    // The place of that event among events(), which holds it.
    std::size_t place(int type, pid_t tid) const;

    nlmmap::Receiver& receiver() noexcept { return receiver_; }
    // Messages that are not as process_events.h describes them; empty: all are.
    const std::string& malformed() const noexcept { return malformed_; }

  private:
    bool read(std::chrono::milliseconds timeout);
    void check_layout(const nlmmap::Message& message);

    nlmmap::Receiver receiver_;
    std::vector<demo::Event> events_;
    std::string malformed_;
};

// The arguments of a program that executes busybox's sh with this script.
std::vector<std::string> shell(const std::string& script);

// Runs it with posix_spawn(); the first argument is the file. Returns the child's number.
pid_t spawn(const std::vector<std::string>& arguments);

// The status, as wait(2) tells it.
int wait_for(pid_t child);
