// SPDX-License-Identifier: MIT
//
// nlmmap_recvmsg() against the kernel's recvmsg(): two sockets that are sent the same, one of them
// attached, receive by the same random calls, and everything that the calls leave behind must be
// equal. NLMMAP_SEED in the environment repeats a run; a failure says which seed it was.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nlmmap/nlmmap.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/drop_in/listener.h"
#include "tests/drop_in/receiving.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::Addresses;
using guest::family_socket;
using guest::in_new_network;
using guest::RawSocket;

constexpr std::size_t kRingBytes = 1 << 20;

std::uint64_t seed() {
    const char* const given = std::getenv("NLMMAP_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 0) : 20130413;
}

// The same socket twice: one as ever, one with a ring.
struct Pair {
    explicit Pair(int protocol) : plain(family_socket(protocol)), ring(family_socket(protocol)) {
        const int bytes = 4 << 20;
        for (const int fd : {plain.fd(), ring.fd()}) {
            EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
        }
    }
    ~Pair() {
        nlmmap_close(ring.fd());
        // Closed already; the destructor's close() must not meet another file's number.
        dup2(plain.fd(), ring.fd());
    }

    void attach() { ASSERT_EQ(nlmmap_attach(ring.fd(), kRingBytes), 0) << nlmmap_error(); }
    void listen(std::uint32_t group) {
        ASSERT_EQ(plain.add_membership(group), 0);
        ASSERT_EQ(ring.add_membership(group), 0);
    }
    void set(int level, int option, int value) {
        EXPECT_EQ(setsockopt(plain.fd(), level, option, &value, sizeof(value)), 0) << option;
        EXPECT_EQ(nlmmap_setsockopt(ring.fd(), level, option, &value, sizeof(value)), 0) << option;
    }
    void set_blocking(bool blocks) {
        for (const int fd : {plain.fd(), ring.fd()}) {
            const int flags = fcntl(fd, F_GETFL);
            fcntl(fd, F_SETFL, blocks ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
        }
    }
    // True if it received, on both.
    bool receive(const Call& call, const std::string& where) {
        const Outcome expected = perform(call, plain.fd(), kKernel);
        const Outcome outcome = perform(call, ring.fd(), kLibrary);
        EXPECT_TRUE(outcome == expected)
            << where << ": " << to_string(call) << "\nrecvmsg:        " << to_string(expected)
            << "\nnlmmap_recvmsg: " << to_string(outcome);
        return expected.result >= 0;
    }

    RawSocket plain;
    RawSocket ring;
};

Call empty_call() {
    Call call;
    call.flags = MSG_DONTWAIT;
    call.parts = {65536};
    call.name_bytes = sizeof(sockaddr_nl);
    call.control_bytes = 256;
    return call;
}

// Takes everything there is, so that the next look finds both alike.
void drain(Pair& pair, const std::string& where) {
    while (pair.receive(empty_call(), where)) {
    }
}

class Differential : public testing::Test {
  protected:
    std::mt19937_64 random{seed()};

    std::string where(int step) const {
        return "seed " + std::to_string(seed()) + ", step " + std::to_string(step);
    }
    // Any option that changes what is received, or how.
    void change_options(Pair& pair) {
        const int on = static_cast<int>(random() % 2);
        switch (random() % 7) {
            case 0:
                return pair.set(SOL_SOCKET, SO_PASSCRED, on);
            case 1:
                return pair.set(SOL_NETLINK, NETLINK_PKTINFO, on);
            case 2:
                return pair.set(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, on);
            case 3:
                return pair.set(SOL_NETLINK, NETLINK_NO_ENOBUFS, on);
            case 4:
                return pair.set(SOL_SOCKET, SO_PASSSEC, on);
            case 5:
                return pair.set_blocking(on != 0);
            default: {
                // Short, but some time: none would be for ever.
                const timeval timeout{.tv_sec = 0, .tv_usec = 2000};
                for (const int fd : {pair.plain.fd(), pair.ring.fd()}) {
                    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)),
                              0);
                }
            }
        }
    }
    // Sends something by `send` now and then, and receives by any calls.
    void run(Pair& pair, std::uint32_t stock_steps, const std::function<void()>& send) {
        const auto steps = static_cast<int>(fewer(stock_steps));
        RecordProperty("calls", steps);
        const timeval timeout{.tv_sec = 0, .tv_usec = 2000};
        for (const int fd : {pair.plain.fd(), pair.ring.fd()}) {
            ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
        }
        int received = 0;
        for (int step = 0; step < steps && !HasFailure(); ++step) {
            if (step % 3 == 0) send();
            if (random() % 8 == 0) change_options(pair);
            received += pair.receive(any_call(random, random() % 32 == 0), where(step)) ? 1 : 0;
            if (random() % 64 == 0) drain(pair, where(step));
        }
        drain(pair, where(steps));
        EXPECT_GT(received, steps / 4) << "too little was received to show anything";
    }
};

TEST_F(Differential, RtnetlinkEventsAreReceivedAlike) {
    in_new_network([&] {
        Pair pair(NETLINK_ROUTE);
        pair.listen(RTNLGRP_IPV4_IFADDR);
        pair.attach();
        Addresses addresses;
        std::uint32_t number = 0;
        run(pair, 6000, [&] {
            addresses.add(number, 1);
            if (random() % 4 == 0) addresses.remove(number, 1);
            ++number;
        });
    });
}

TEST_F(Differential, DatagramsOfAnySizeFromAnotherProcessAreReceivedAlike) {
    in_new_network([&] {
        Pair pair(NETLINK_USERSOCK);
        pair.attach();
        const RawSocket sender = family_socket(NETLINK_USERSOCK);
        std::vector<std::uint8_t> datagram(48000);
        run(pair, 8000, [&] {
            constexpr std::array<std::size_t, 12> kSizes = {0,  0,    1,     2,     15,    16,
                                                            17, 4095, 32752, 32768, 40000, 48000};
            const std::size_t bytes =
                random() % 2 == 0 ? kSizes.at(random() % kSizes.size()) : random() % 500;
            // What is made of them comes behind: random ones alone would take long.
            for (std::size_t i = 0; i < std::min<std::size_t>(bytes, 512); ++i)
                datagram[i] = static_cast<std::uint8_t>(random());
            for (std::size_t i = 512; i < bytes; ++i)
                datagram[i] = static_cast<std::uint8_t>(datagram[i - 509] + 1);
            for (const RawSocket* receiver : {&pair.plain, &pair.ring}) {
                sockaddr_nl address{};
                address.nl_family = AF_NETLINK;
                address.nl_pid = receiver->portid();
                errno = 0;
                const ssize_t sent =
                    sendto(sender.fd(), datagram.data(), bytes, MSG_DONTWAIT,
                           reinterpret_cast<const sockaddr*>(&address), sizeof(address));
                // Netlink sends no empty datagrams.
                ASSERT_EQ(sent, bytes != 0 ? static_cast<ssize_t>(bytes) : -1) << errno;
                ASSERT_EQ(errno, bytes != 0 ? 0 : ENODATA);
            }
        });
    });
}

TEST_F(Differential, MulticastOfUserSpaceIsReceivedAlike) {
    in_new_network([&] {
        Pair pair(NETLINK_USERSOCK);
        pair.listen(1);
        pair.listen(32);
        pair.attach();
        const RawSocket sender = family_socket(NETLINK_USERSOCK);
        std::array<char, 600> datagram{};
        run(pair, 4000, [&] {
            sockaddr_nl address{};
            address.nl_family = AF_NETLINK;
            address.nl_groups = random() % 2 == 0 ? 1U : 1U << 31;
            const std::size_t bytes = 1 + random() % (datagram.size() - 1);
            const ssize_t sent =
                sendto(sender.fd(), datagram.data(), bytes, MSG_DONTWAIT,
                       reinterpret_cast<const sockaddr*>(&address), sizeof(address));
            // To the group it was sent; that nobody in the kernel listens as well is told.
            ASSERT_EQ(sent, -1);
            ASSERT_EQ(errno, ECONNREFUSED);
        });
    });
}

// Gives the calling thread's network namespace a number for itself or for another one.
void assign_nsid(int namespace_fd, int nsid) {
    RawSocket socket = family_socket(NETLINK_ROUTE);
    // A struct rtgenmsg, and what aligns the attributes after it.
    const std::uint32_t fixed = AF_UNSPEC;
    guest::Request request(RTM_NEWNSID, NLM_F_REQUEST | NLM_F_ACK);
    request.raw(std::as_bytes(std::span(&fixed, 1)))
        .u32(NETNSA_NSID, static_cast<std::uint32_t>(nsid))
        .u32(NETNSA_FD, static_cast<std::uint32_t>(namespace_fd));
    const guest::Outcome outcome = socket.ask(request);
    ASSERT_EQ(outcome.error, 0) << outcome.sentence;
}

TEST_F(Differential, EventsOfOtherNamespacesAreReceivedAlike) {
    in_new_network([&] {
        std::unique_ptr<Addresses> foreign;
        int other = -1;
        in_new_network([&] {
            foreign = std::make_unique<Addresses>();
            other = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        });
        ASSERT_GE(other, 0);
        assign_nsid(other, 7);
        Pair pair(NETLINK_ROUTE);
        pair.listen(RTNLGRP_IPV4_IFADDR);
        pair.set(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);
        pair.attach();
        Addresses own;
        std::uint32_t number = 0;
        run(pair, 4000, [&] {
            (random() % 2 == 0 ? own : *foreign).add(number, 1);
            ++number;
        });
        close(other);
    });
}

// A dump's parts, with the ports of the two sockets, which differ, made equal.
Outcome dump_part(int fd, const Functions& functions, std::uint32_t portid) {
    Call call = empty_call();
    call.flags = 0;
    // A larger one would plainly get larger parts; these are for everybody.
    call.parts = {4096};
    Outcome outcome = perform(call, fd, functions);
    std::size_t left = outcome.result > 0 ? static_cast<std::size_t>(outcome.result) : 0;
    for (std::size_t at = 0; left >= sizeof(nlmsghdr);) {
        nlmsghdr header;
        std::memcpy(&header, outcome.data.data() + at, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left) break;
        EXPECT_EQ(header.nlmsg_pid, portid);
        header.nlmsg_pid = 0;
        std::memcpy(outcome.data.data() + at, &header, sizeof(header));
        const std::size_t whole = std::min<std::size_t>(left, NLMSG_ALIGN(header.nlmsg_len));
        at += whole;
        left -= whole;
    }
    return outcome;
}

bool ends_dump(const Outcome& outcome) {
    nlmsghdr header;
    std::memcpy(&header, outcome.data.data(), sizeof(header));
    return outcome.result <= 0 || header.nlmsg_type == NLMSG_DONE ||
           header.nlmsg_type == NLMSG_ERROR;
}

TEST_F(Differential, DumpsAreReceivedInTheSameParts) {
    in_new_network([&] {
        Addresses addresses;
        addresses.add(0, fewer(3000));
        Pair pair(NETLINK_ROUTE);
        pair.attach();
        ifaddrmsg fixed{};
        fixed.ifa_family = AF_INET;
        for (std::uint32_t round = 1; round <= 5; ++round) {
            guest::Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
            request.raw(std::as_bytes(std::span(&fixed, 1)));
            request.header().nlmsg_seq = round;
            for (const RawSocket* socket : {&pair.plain, &pair.ring}) {
                ASSERT_GT(send(socket->fd(), request.bytes().data(), request.bytes().size(), 0), 0);
            }
            int parts = 0;
            for (bool done = false; !done; ++parts) {
                const Outcome expected = dump_part(pair.plain.fd(), kKernel, pair.plain.portid());
                const Outcome outcome = dump_part(pair.ring.fd(), kLibrary, pair.ring.portid());
                ASSERT_TRUE(outcome == expected) << "round " << round << ", part " << parts
                                                 << "\nrecvmsg:        " << to_string(expected)
                                                 << "\nnlmmap_recvmsg: " << to_string(outcome);
                done = ends_dump(expected);
            }
            EXPECT_GT(parts, 1);
        }
    });
}

TEST_F(Differential, ErrorsOfTheSocketAreToldAlike) {
    in_new_network([&] {
        constexpr std::uint32_t kGroup = 3;
        Pair pair(NLMMAP_SENDER_FAMILY);
        pair.listen(kGroup);
        pair.attach();
        guest::Senders senders;
        int step = 0;
        for (const int error : {ENOBUFS, EMSGSIZE, ENOBUFS, EPIPE, ECONNREFUSED}) {
            for (const int flags : {0, int{MSG_PEEK}, int{MSG_TRUNC}}) {
                senders.error(kGroup, error);
                Call call = empty_call();
                call.flags |= flags;
                EXPECT_FALSE(pair.receive(call, where(step))) << "the error was not told";
                // Once; and what comes then is not lost.
                senders.send({.group = kGroup, .count = 3});
                drain(pair, where(step));
                ++step;
            }
        }
        // Who does not want to hear of losses does not.
        pair.set(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
        senders.error(kGroup, ENOBUFS);
        drain(pair, where(step));
        senders.error(kGroup, EPIPE);
        drain(pair, where(step));
    });
}

TEST_F(Differential, WhatNeedsNoRingIsAsEver) {
    in_new_network([&] {
        Pair pair(NETLINK_ROUTE);
        pair.attach();
        for (const unsigned long request : std::array<unsigned long, 2>{FIONREAD, SIOCATMARK}) {
            int value = 0;
            errno = 0;
            const int expected = ioctl(pair.plain.fd(), request, &value);
            const int errnum = errno;
            errno = 0;
            EXPECT_EQ(ioctl(pair.ring.fd(), request, &value), expected);
            EXPECT_EQ(errno, errnum);
        }
        sockaddr_nl plain{};
        sockaddr_nl ring{};
        socklen_t bytes = sizeof(plain);
        EXPECT_EQ(getsockname(pair.plain.fd(), reinterpret_cast<sockaddr*>(&plain), &bytes), 0);
        EXPECT_EQ(getsockname(pair.ring.fd(), reinterpret_cast<sockaddr*>(&ring), &bytes), 0);
        EXPECT_EQ(ring.nl_pid, pair.ring.portid());
        EXPECT_EQ(shutdown(pair.plain.fd(), SHUT_RD), shutdown(pair.ring.fd(), SHUT_RD));
        char byte = 0;
        EXPECT_EQ(pread(pair.plain.fd(), &byte, 1, 0), -1);
        EXPECT_EQ(pread(pair.ring.fd(), &byte, 1, 0), -1);
        EXPECT_EQ(errno, ESPIPE);
    });
}

}  // namespace
}  // namespace drop_in
