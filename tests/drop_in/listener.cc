// SPDX-License-Identifier: MIT
#include "tests/drop_in/listener.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nlmmap/nlmmap.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {

Listener::Listener(std::size_t ring_bytes, int rcvbuf_bytes) : fd_(opened(rcvbuf_bytes)) {
    EXPECT_EQ(nlmmap_attach(fd_, ring_bytes), 0) << nlmmap_error();
}

Listener::~Listener() { nlmmap_close(fd_); }

int Listener::opened(int rcvbuf_bytes) {
    guest::RawSocket socket = guest::family_socket(NETLINK_ROUTE, rcvbuf_bytes);
    EXPECT_EQ(socket.add_membership(RTNLGRP_IPV4_IFADDR), 0);
    return dup(socket.fd());
}

std::int64_t next_address(int fd, int flags) {
    std::array<char, 4096> buffer;
    const ssize_t bytes = nlmmap_recv(fd, buffer.data(), buffer.size(), flags);
    if (bytes < 0) return -1;
    return guest::address_number(reinterpret_cast<const nlmsghdr*>(buffer.data()));
}

void expect_addresses(int fd, std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
        ASSERT_EQ(next_address(fd), first + i) << "errno " << errno;
    }
    EXPECT_EQ(next_address(fd), -1);
    EXPECT_EQ(errno, EAGAIN);
}

std::uint32_t fewer(std::uint32_t count) { return guest::patience() > 1 ? count / 10 : count; }

}  // namespace drop_in
