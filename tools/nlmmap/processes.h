// SPDX-License-Identifier: MIT
// Which processes hold a socket, as far as this user may look into /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nlmmap::tool {

struct Process {
    pid_t pid;
    std::string name;  // as /proc/PID/comm has it; a process chooses it, so it may be anything
};

// By the socket's inode. One walk through /proc, skipping what vanishes or may not be read.
std::map<std::uint64_t, std::vector<Process>> processes_by_socket();

// "consumer/123, shell/124", safe for a terminal; empty if there are none.
std::string process_names(const std::vector<Process>& processes);

}  // namespace nlmmap::tool
