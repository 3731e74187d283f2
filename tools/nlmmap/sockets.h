// SPDX-License-Identifier: MIT
// Sockets with rings, with names in place of numbers.
#pragma once

#include <nlmmap/socket.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/nlmmap/processes.h"

namespace nlmmap::tool {

struct NamedSocket {
    SocketInfo info;
    std::vector<Process> processes;   // those that hold it and may be seen
    std::string family;               // "route"; a number where libnl has no name; "nlmmap": ours
    std::vector<std::string> groups;  // names; "#12" for one that was deleted since
};

// All sockets with rings of the network namespace. Throws Error; EPERM without CAP_NET_ADMIN.
std::vector<NamedSocket> named_sockets(Socket& socket, const std::vector<GroupInfo>& groups);

// "process_events, links", or empty.
std::string group_names(const NamedSocket& socket);

// Everything that is known of it; the keys are documented in nlmmap(1).
nlohmann::ordered_json to_json(const NamedSocket& socket);

}  // namespace nlmmap::tool
