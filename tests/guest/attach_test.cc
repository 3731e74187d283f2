// SPDX-License-Identifier: MIT
//
// A ring under a socket of another family: what arrives there goes to the ring.
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "tests/guest/rtnl.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

// Reads what is there; the number of address messages, in their order from `first`.
std::uint32_t expect_addresses(RawAttached& attached, std::uint32_t first, std::uint32_t count) {
    std::uint32_t seen = 0;
    while (seen < count) {
        const auto record = attached.ring.next();
        if (!record) {
            attached.ring.release();
            if (!attached.wait()) {
                ADD_FAILURE() << "nothing more came after " << seen << " of " << count;
                break;
            }
            continue;
        }
        EXPECT_TRUE(record->header.flags & NLMMAP_RECORD_SINGLE);
        EXPECT_EQ(record->header.group, RTNLGRP_IPV4_IFADDR);
        EXPECT_EQ(address_number(record->message()), first + seen);
        ++seen;
    }
    attached.ring.release();
    return seen;
}

TEST(Attach, EveryEventOfABurstIsInTheRing) {
    in_new_network([] {
        RawAttached attached(NETLINK_ROUTE);
        attached.listen(RTNLGRP_IPV4_IFADDR);
        Addresses addresses;
        const std::uint32_t count = patience() > 1 ? 600 : 2000;
        addresses.add(0, count);
        EXPECT_EQ(expect_addresses(attached, 0, count), count);
        EXPECT_EQ(attached.ring.missing(), 0U);
        EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
        EXPECT_EQ(attached_counter(attached.socket.fd(), NLMMAP_A_SEQ), count);
    });
}

TEST(Attach, RecvmsgAnswersBusy) {
    RawAttached attached(NETLINK_ROUTE, 1 << 16);
    char byte;
    EXPECT_EQ(recv(attached.socket.fd(), &byte, 1, MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, EBUSY);
}

TEST(Attach, WhatWasQueuedBeforeComesFirst) {
    in_new_network([] {
        RawSocket socket = family_socket(NETLINK_ROUTE);
        ASSERT_EQ(socket.add_membership(RTNLGRP_IPV4_IFADDR), 0);
        Addresses addresses;
        addresses.add(0, 20);
        ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 16)));
        addresses.add(20, 20);
        RawRing ring(socket, 1 << 16);
        std::uint32_t seen = 0;
        EXPECT_TRUE(eventually([&] {
            while (const auto record = ring.next()) {
                EXPECT_EQ(address_number(record->message()), seen);
                ++seen;
            }
            return seen == 40;
        })) << seen;
    });
}

// Sends a dump request; what came of it until NLMSG_DONE.
struct Dump {
    std::set<std::uint32_t> numbers;
    std::uint32_t parts = 0;
    bool done = false;
};

Dump dump_addresses(RawAttached& attached) {
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_INET;
    Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    Dump dump;
    if (send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0) < 0) {
        ADD_FAILURE() << "send: errno " << errno;
        return dump;
    }
    while (!dump.done) {
        const auto record = attached.ring.next();
        if (!record) {
            attached.ring.release();
            if (!attached.wait()) {
                ADD_FAILURE() << "the dump stopped after " << dump.parts << " parts";
                return dump;
            }
            continue;
        }
        ++dump.parts;
        int left = static_cast<int>(record->datagram.size());
        for (const nlmsghdr* message = record->message(); NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_type == NLMSG_DONE) {
                dump.done = true;
            } else {
                dump.numbers.insert(address_number(message));
            }
        }
    }
    attached.ring.release();
    return dump;
}

TEST(Attach, ADumpOfManyPartsArrivesWhole) {
    in_new_network([] {
        Addresses addresses;
        const std::uint32_t count = patience() > 1 ? 1000 : 3000;
        addresses.add(0, count);
        // With room for all of it, and for a part of it.
        for (const std::uint32_t ring_bytes : {1U << 20, 1U << 15}) {
            RawAttached attached(NETLINK_ROUTE, ring_bytes);
            const Dump dump = dump_addresses(attached);
            EXPECT_TRUE(dump.done);
            EXPECT_EQ(dump.numbers.size(), count);
            EXPECT_GT(dump.parts, 5U);
        }
    });
}

TEST(Attach, ADumpArrivesWholeThroughTheSmallestReceiveBuffer) {
    in_new_network([] {
        Addresses addresses;
        addresses.add(0, 500);
        RawAttached attached(NETLINK_ROUTE, 1 << 15, 0, 1);
        const Dump dump = dump_addresses(attached);
        EXPECT_TRUE(dump.done);
        EXPECT_EQ(dump.numbers.size(), 500U);
    });
}

TEST(Attach, AnAnswerIsInTheRingWhenSendReturns) {
    in_new_network([] {
        RawAttached attached(NETLINK_ROUTE, 1 << 16);
        Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_ACK);
        ASSERT_GT(send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
        const auto record = attached.ring.next();
        ASSERT_TRUE(record.has_value());
        EXPECT_EQ(record->message()->nlmsg_type, NLMSG_ERROR);
    });
}

TEST(Attach, AnOverflowIsCountedWhereItHappenedAndTheNextBurstArrivesWhole) {
    in_new_network([] {
        // A ring and a receive buffer that take some hundred messages.
        RawAttached attached(NETLINK_ROUTE, 1 << 14, 0, 1 << 14);
        attached.listen(RTNLGRP_IPV4_IFADDR);
        Addresses addresses;
        std::uint32_t number = 0;
        for (int round = 0; round < (patience() > 1 ? 2 : 5); ++round) {
            const std::uint64_t missing_before = attached.ring.missing();
            const std::uint32_t first = number;
            addresses.add(first, 600);
            number += 600;
            // Everything before the loss, then a record that says how much is gone.
            std::uint32_t expected = first;
            bool told = false;
            EXPECT_TRUE(eventually([&] {
                while (const auto record = attached.ring.next()) {
                    if (record->header.len == 0) {
                        EXPECT_TRUE(record->header.flags & NLMMAP_RECORD_LOST);
                        EXPECT_FALSE(record->header.flags & NLMMAP_RECORD_LOST_UNKNOWN);
                        expected +=
                            static_cast<std::uint32_t>(attached.ring.missing() - missing_before);
                        told = true;
                        continue;
                    }
                    EXPECT_EQ(address_number(record->message()), expected);
                    ++expected;
                }
                attached.ring.release();
                // Also what asks the kernel to go on, where it waits for room.
                poll_now(attached.socket.fd(), POLLIN);
                return expected == number;
            })) << expected
                << " of " << number;
            EXPECT_TRUE(told) << "nothing was lost, so this tests nothing";
            EXPECT_EQ(socket_drops(attached.socket.inode()),
                      static_cast<std::int64_t>(attached.ring.missing()));
            // And another one that finds room.
            addresses.add(number, 30);
            EXPECT_EQ(expect_addresses(attached, number, 30), 30U);
            number += 30;
        }
    });
}

}  // namespace
}  // namespace guest
