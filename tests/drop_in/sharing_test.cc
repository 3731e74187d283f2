// SPDX-License-Identifier: MIT
//
// One ring and several processes: what a child finds after fork(), what a program that takes a ring
// over is told, and what a neighbour may do to it.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nlmmap/nlmmap.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/drop_in/listener.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::Addresses;
using guest::family_socket;
using guest::in_child;
using guest::in_new_network;
using guest::RawSocket;

// Where this process maps sockets: begin and end of each mapping.
std::vector<std::pair<std::uintptr_t, std::uintptr_t>> mapped_sockets() {
    std::vector<std::pair<std::uintptr_t, std::uintptr_t>> places;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0;
        std::uintptr_t end = 0;
        if (line.find("socket:") != std::string::npos &&
            std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) == 2)
            places.emplace_back(begin, end);
    }
    return places;
}

TEST(Sharing, AChildReadsThoughTheRingsPlaceIsTaken) {
    in_new_network([] {
        const Listener listener;
        const auto places = mapped_sockets();
        ASSERT_FALSE(places.empty());
        Addresses addresses;
        addresses.add(0, 4);
        EXPECT_EQ(
            in_child([&]() -> std::string {
                // The mapping is not inherited, and its place is any other's.
                for (const auto& [begin, end] : places) {
                    if (mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                             0) == MAP_FAILED)
                        return "its place was not free";
                }
                for (int i = 0; i < 2; ++i) {
                    if (next_address(listener.fd()) != i)
                        return "message " + std::to_string(i) + ": " + std::strerror(errno);
                }
                return "";
            }),
            "");
        expect_addresses(listener.fd(), 2, 2);
    });
}

void send_to(const RawSocket& sender, std::uint32_t portid, std::span<const std::uint8_t> bytes) {
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_pid = portid;
    ASSERT_EQ(sendto(sender.fd(), bytes.data(), bytes.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              static_cast<ssize_t>(bytes.size()));
}

// What SCM_CREDENTIALS says of the next datagram.
ucred next_credentials(int fd) {
    std::array<char, 4096> buffer;
    alignas(cmsghdr) std::array<char, 256> control;
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ucred credentials{.pid = -1, .uid = 1, .gid = 1};
    EXPECT_GE(nlmmap_recvmsg(fd, &message, MSG_DONTWAIT), 0) << errno;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS) {
        ADD_FAILURE() << "no credentials";
        return credentials;
    }
    std::memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
    return credentials;
}

// Whoever attached the ring did not ask for its senders: none of them must pass for root.
TEST(Sharing, SendersThatTheRingDoesNotTellAreNobody) {
    in_new_network([] {
        constexpr unsigned kNobody = 65534;
        const int on = 1;
        RawSocket socket = family_socket(NETLINK_USERSOCK);
        ASSERT_EQ(setsockopt(socket.fd(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
        ASSERT_TRUE(guest::succeeded(guest::attach(socket.fd(), 1 << 16)));
        const int fd = dup(socket.fd());
        ASSERT_EQ(nlmmap_adopt(fd), 0) << nlmmap_error();
        const RawSocket sender = family_socket(NETLINK_USERSOCK);
        const std::array<std::uint8_t, 32> bytes{};
        send_to(sender, socket.portid(), bytes);
        send_to(sender, socket.portid(), bytes);
        const ucred told = next_credentials(fd);
        EXPECT_EQ(told.uid, kNobody);
        EXPECT_EQ(told.gid, kNobody);
        EXPECT_EQ(told.pid, 0);
        nlmmap_datagram datagram;
        ASSERT_EQ(nlmmap_next(fd, &datagram), 1);
        EXPECT_EQ(datagram.credentials.uid, kNobody);
        EXPECT_EQ(datagram.credentials.gid, kNobody);
        nlmmap_close(fd);

        // The kernel is known by its port.
        const int route = Listener::opened(0);
        ASSERT_EQ(setsockopt(route, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
        ASSERT_TRUE(guest::succeeded(guest::attach(route, 1 << 16)));
        ASSERT_EQ(nlmmap_adopt(route), 0) << nlmmap_error();
        Addresses addresses;
        addresses.add(0, 1);
        EXPECT_EQ(next_credentials(route).uid, 0U);
        nlmmap_close(route);
    });
}

TEST(Sharing, APositionThatANeighbourSpoiltIsAnError) {
    in_new_network([] {
        constexpr std::uint32_t kRingBytes = 1 << 16;
        RawSocket socket = family_socket(NETLINK_USERSOCK);
        ASSERT_TRUE(guest::succeeded(guest::attach(socket.fd(), kRingBytes)));
        const int fd = dup(socket.fd());
        const std::uint32_t portid = socket.portid();
        guest::RawAttached neighbour(std::move(socket), kRingBytes);
        ASSERT_EQ(nlmmap_adopt(fd), 0) << nlmmap_error();
        const RawSocket sender = family_socket(NETLINK_USERSOCK);
        std::array<std::uint8_t, 64> bytes;
        bytes.fill(0xff);
        send_to(sender, portid, bytes);
        char byte = 0;
        ASSERT_EQ(nlmmap_recv(fd, &byte, 1, MSG_PEEK | MSG_TRUNC), 64);
        // Into the datagram, where a length stands that no record has.
        neighbour.ring.forge(sizeof(nlmmap_record) + 8);
        EXPECT_EQ(nlmmap_recv(fd, &byte, 1, MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, EIO);
        nlmmap_datagram datagram;
        EXPECT_EQ(nlmmap_next(fd, &datagram), -1);
        EXPECT_EQ(errno, EIO);
        // And where no record has been yet.
        neighbour.ring.forge(kRingBytes / 2);
        EXPECT_EQ(nlmmap_next(fd, &datagram), -1);
        EXPECT_EQ(errno, EIO);
        neighbour.ring.forge(0);
        EXPECT_EQ(nlmmap_recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC), 64);
        nlmmap_close(fd);
    });
}

}  // namespace
}  // namespace drop_in
