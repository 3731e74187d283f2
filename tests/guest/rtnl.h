// SPDX-License-Identifier: MIT
//
// Real events of other families: a netlink socket with a ring attached, and what
// makes rtnetlink say something.
#pragma once

#include <cstdint>
#include <string>

#include "tests/guest/raw_netlink.h"

namespace guest {

// A socket of any family, bound, with this receive buffer (0: the default).
RawSocket family_socket(int protocol, int rcvbuf_bytes = 0);

// What the kernel answers to a request to attach a ring to a descriptor.
Outcome attach(int fd, std::uint32_t ring_bytes, std::uint32_t flags = 0);

// NLMMAP_MSG_SOCKET_GET of a descriptor; a counter of it.
Outcome attached_info(int fd);
std::uint64_t attached_counter(int fd, std::uint16_t attribute);

// A socket of another family with a ring under it, mapped; throws if that fails.
struct RawAttached {
    explicit RawAttached(int protocol, std::uint32_t ring_bytes = 1 << 20, std::uint32_t flags = 0,
                         int rcvbuf_bytes = 0);
    // Maps the ring of a socket that is attached already.
    RawAttached(RawSocket attached_socket, std::uint32_t ring_bytes);
    // Joins one of the family's groups.
    void listen(std::uint32_t group);
    // Waits until the ring is readable; false after half a minute.
    bool wait();

    RawSocket socket;
    RawRing ring;
};

// Changes lo's addresses through a socket of its own. Each change is one event of
// RTNLGRP_IPV4_IFADDR.
class Addresses {
  public:
    Addresses();
    // Adds or removes 127.N.N.N/32 for each number; throws if rtnetlink refuses.
    void add(std::uint32_t first, std::uint32_t count);
    void remove(std::uint32_t first, std::uint32_t count);

  private:
    void change(std::uint16_t type, std::uint16_t flags, std::uint32_t number);
    RawSocket socket_;
};

// The address of an RTM_NEWADDR or RTM_DELADDR as its number; throws for any other.
std::uint32_t address_number(const nlmsghdr* message);

}  // namespace guest
