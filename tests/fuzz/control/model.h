// SPDX-License-Identifier: MIT
//
// What the family has to answer, after the uapi header: a second opinion about
// each request, that shares no code with the module.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/fuzz/control/program.h"

namespace fuzz {

// Who asks.
struct Rights {
    bool admin = false;       // CAP_NET_ADMIN in the network namespace
    bool sees_groups = true;  // is in the namespace that the groups are in
    bool attaches = false;    // CAP_NET_ADMIN in the initial user namespace
};

// A socket as far as its answers go.
struct SocketState {
    std::uint32_t ring_bytes = 0;  // 0: no ring
    std::set<unsigned> joined;     // indices of groups
    bool ext_ack = false;
    bool dumping = false;   // a dump may be under way
    bool known = true;      // no answer was lost, so all this is so
    bool to_kernel = true;  // what is sent without an address
    unsigned holders = 0;   // descriptors and mappings
};

// What a descriptor stands for.
enum class Named {
    nothing,    // no such descriptor
    file,       // no socket
    elsewhere,  // a socket of another address family
    ours,       // of the family itself
    plain,      // of another netlink family, without a ring
    attached,   // the same, with a ring
    either,     // the same, and a ring was asked for
};

// One message of a datagram, as the core takes it apart.
struct Request {
    std::uint16_t type = 0;
    std::uint16_t flags = 0;
    std::uint32_t seq = 0;
    Bytes attributes{};
    bool ext_ack = false;
    bool answered = false;  // NLMSG_ERROR came
    // By the last NLMMAP_A_FD in it, when it was sent.
    std::optional<Named> named{};

    // Whether the family gets to see it.
    bool reaches() const;
    bool wants_ack() const;
    bool is_dump() const;
    // The descriptor in it, if it has one.
    std::optional<std::uint32_t> descriptor() const;
    // The size that it asks for; 0: none.
    std::uint32_t ring_bytes() const;
};

struct Datagram {
    std::vector<Request> requests{};
    bool malformed_end = false;  // EBADMSG follows
};

Datagram take_apart(std::span<const std::byte> bytes);

// The errnos that this request may be answered with; 0: it is carried out.
std::set<int> expected(const Request& request, const SocketState& state, const Rights& rights,
                       const GroupIds& groups);

// The request was carried out.
void carry_out(const Request& request, SocketState& state, const GroupIds& groups);

// Whether the header lists the errno for requests of that type at all.
bool is_documented(std::uint16_t type, int error);

std::string describe(const Request& request);
std::string errno_names(const std::set<int>& errors);

}  // namespace fuzz
