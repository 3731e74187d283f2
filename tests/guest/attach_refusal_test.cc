// SPDX-License-Identifier: MIT
//
// What an attach refuses, and how an attached socket begins and ends: readers that
// sleep already, second attaches, network namespaces.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kPage = 4096;

TEST(AttachRefuses, WhatIsNoNetlinkSocket) {
    EXPECT_TRUE(refused(attach(-1, kPage), EBADF));
    EXPECT_TRUE(refused(attach(1000, kPage), EBADF));
    const RawSocket event(eventfd(0, EFD_CLOEXEC));
    EXPECT_TRUE(refused(attach(event.fd(), kPage), ENOTSOCK));
    const RawSocket unix_socket(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(refused(attach(unix_socket.fd(), kPage), EAFNOSUPPORT));
    const RawSocket inet(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(refused(attach(inet.fd(), kPage), EAFNOSUPPORT));
    const RawSocket packet(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(refused(attach(packet.fd(), kPage), EAFNOSUPPORT));
    const int path = open("/proc", O_PATH | O_CLOEXEC);
    EXPECT_TRUE(refused(attach(path, kPage), EBADF));
    close(path);
}

TEST(AttachRefuses, SocketsOfItsOwnFamily) {
    const RawSocket ours;
    EXPECT_TRUE(refused(attach(ours.fd(), kPage), EINVAL));
}

TEST(AttachRefuses, WrongSizesAndFlagsAndLeavesTheSocketAsItWas) {
    const RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
    EXPECT_TRUE(refused(attach(socket.fd(), 0), EINVAL));
    EXPECT_TRUE(refused(attach(socket.fd(), 5000), EINVAL));
    EXPECT_TRUE(refused(attach(socket.fd(), kPage / 2), EINVAL));
    EXPECT_TRUE(refused(attach(socket.fd(), 1U << 31), ERANGE));
    EXPECT_TRUE(refused(attach(socket.fd(), kPage, 1U << 7), EOPNOTSUPP));
    RawSocket control;
    EXPECT_TRUE(
        refused(control.ask(Request(NLMMAP_MSG_ATTACH).u32(NLMMAP_A_RX_BYTES, kPage)), EINVAL));
    EXPECT_TRUE(refused(
        control.ask(
            Request(NLMMAP_MSG_ATTACH).u32(NLMMAP_A_FD, static_cast<std::uint32_t>(socket.fd()))),
        EINVAL));
    EXPECT_TRUE(refused(attached_info(socket.fd()), ENODEV));
    EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, socket.fd(), 0), MAP_FAILED);
    EXPECT_EQ(errno, ENODEV);
    Senders().send({.portid = socket.portid()});
    std::array<std::byte, 256> buffer{};
    EXPECT_GT(recv(socket.fd(), buffer.data(), buffer.size(), 0), 0);
    // And then it works.
    EXPECT_TRUE(succeeded(attach(socket.fd(), kPage)));
}

TEST(AttachRefuses, WithoutTakingTheErrorThatRecvmsgIsToTell) {
    RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
    ASSERT_EQ(socket.add_membership(5), 0);
    for (const int error : {ENOBUFS, ETIMEDOUT}) {
        Senders().error(5, error);
        EXPECT_TRUE(refused(attach(socket.fd(), 5000), EINVAL));
        std::array<std::byte, 256> buffer{};
        EXPECT_EQ(recv(socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, error);
        EXPECT_EQ(recv(socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, EAGAIN) << "it is told once";
    }
}

TEST(AttachRefuses, SecondRingOnTheSameSocketByWhateverDescriptor) {
    const RawSocket socket = family_socket(NETLINK_ROUTE);
    ASSERT_TRUE(succeeded(attach(socket.fd(), kPage)));
    EXPECT_TRUE(refused(attach(socket.fd(), kPage), EBUSY));
    const RawSocket twin(fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0));
    EXPECT_TRUE(refused(attach(twin.fd(), 2 * kPage), EBUSY));
}

TEST(AttachRefuses, MoreThanTheUsersMemoryLimit) {
    std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "Y";
    {
        const MemlockLimit limit(1 << 16);
        as_user(kSomebody, [] {
            const RawSocket first = family_socket(NETLINK_ROUTE);
            EXPECT_TRUE(refused(attach(first.fd(), 1 << 20), ENOMEM));
            EXPECT_TRUE(succeeded(attach(first.fd(), kPage)));
        });
    }
    std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "N";
}

TEST(Attached, AnswersBusyToEveryKindOfReceiving) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, kPage);
    Senders().send({.portid = attached.socket.portid()});
    std::array<std::byte, 256> buffer{};
    const int fd = attached.socket.fd();
    for (const int flags : {0, int{MSG_DONTWAIT}, int{MSG_PEEK}, int{MSG_TRUNC}, int{MSG_OOB}}) {
        EXPECT_EQ(recv(fd, buffer.data(), buffer.size(), flags), -1);
        EXPECT_EQ(errno, EBUSY) << flags;
    }
    EXPECT_EQ(read(fd, buffer.data(), buffer.size()), -1);
    EXPECT_EQ(errno, EBUSY);
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    mmsghdr messages[2]{};
    messages[0].msg_hdr.msg_iov = messages[1].msg_hdr.msg_iov = &part;
    messages[0].msg_hdr.msg_iovlen = messages[1].msg_hdr.msg_iovlen = 1;
    EXPECT_EQ(recvmmsg(fd, messages, 2, 0, nullptr), -1);
    EXPECT_EQ(errno, EBUSY);
    EXPECT_TRUE(attached.ring.next()) << "what was not received is in the ring";
}

TEST(Attached, WakesThreadsThatSleepInRecvmsgWithBusy) {
    const RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
    std::vector<std::future<int>> sleepers;
    sleepers.reserve(6);
    for (int at = 0; at < 6; ++at) {
        sleepers.push_back(std::async(std::launch::async, [&] {
            std::array<std::byte, 256> buffer{};
            return recv(socket.fd(), buffer.data(), buffer.size(), 0) < 0 ? errno : 0;
        }));
    }
    // One that sleeps in poll() all the time is neither woken for nothing nor forgotten.

    auto polling = std::async(std::launch::async, [&] {
        pollfd readable{.fd = socket.fd(), .events = POLLIN, .revents = 0};
        poll(&readable, 1, static_cast<int>(60000 * patience()));
        return readable.revents;
    });
    std::this_thread::sleep_for(100ms * patience());
    ASSERT_TRUE(succeeded(attach(socket.fd(), kPage)));
    for (auto& sleeper : sleepers) {
        ASSERT_EQ(sleeper.wait_for(30s * patience()), std::future_status::ready);
        EXPECT_EQ(sleeper.get(), EBUSY);
    }
    RawAttached attached(RawSocket(fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0)), kPage);
    Senders().send({.portid = socket.portid()});
    EXPECT_EQ(polling.get() & POLLIN, POLLIN);
    std::optional<RawRecord> record;
    ASSERT_TRUE(eventually([&] { return (record = attached.ring.next()).has_value(); }));
    EXPECT_EQ(record->header.flags, std::uint16_t{NLMMAP_RECORD_SINGLE})
        << "the errors of those who slept are theirs alone";
    int error = 0;
    socklen_t bytes = sizeof(error);
    EXPECT_EQ(getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes), 0);
    EXPECT_EQ(error, 0);
}

TEST(Attached, HearsAMessageThatIsOnItsWayWhenItIsAttached) {
    // Sent while the descriptor is attached: in the queue, or in the ring, once each.
    for (int round = 0; round < 20; ++round) {
        RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
        ASSERT_EQ(socket.add_membership(4), 0);
        Senders senders;
        const Sending sending{.group = 4, .context = NLMMAP_SENDER_CPUS, .senders = 2, .count = 60};
        auto sent = senders.start(sending);
        ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 16)));
        sent.get();
        RawAttached attached(std::move(socket), 1 << 16);
        const auto reader = Reader::make(Reading::mapped, attached);
        SentCheck check(sending);
        while (!check.whole()) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << check.received();
            ASSERT_NO_THROW(check.datagram(arrival->datagram));
        }
        EXPECT_EQ(check.missing(), 0U);
    }
}

TEST(Attached, OutlivesTheRequestsSocketAndEndsWithItsOwn) {
    Senders senders;
    RawAttached attached(NLMMAP_SENDER_FAMILY, kPage);
    const std::uint32_t portid = attached.socket.portid();
    EXPECT_TRUE(succeeded(attached_info(attached.socket.fd())));
    attached.socket.close();
    // The map holds the socket.
    EXPECT_EQ(senders.send({.portid = portid}).refused, 0U);
    EXPECT_TRUE(attached.ring.next());
    attached.ring.unmap();
    EXPECT_TRUE(eventually([&] { return senders.send({.portid = portid}).refused == 1; }));
}

TEST(Attached, KeepsItsNetworkNamespaceUntilItIsClosed) {
    std::optional<RawAttached> attached;
    std::optional<RawAttached> busy;
    in_new_network([&] {
        attached.emplace(NETLINK_ROUTE, 1 << 16);
        attached->listen(RTNLGRP_IPV4_IFADDR);
        Addresses addresses;
        addresses.add(0, 100);
        // One that has more than its ring holds, and a dump that nobody reads.
        busy.emplace(NETLINK_ROUTE, kPage);
        busy->listen(RTNLGRP_IPV4_IFADDR);
        addresses.add(100, 100);
        ifaddrmsg fixed{};
        fixed.ifa_family = AF_INET;
        Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        ASSERT_GT(send(busy->socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
    });
    // The namespace has no process any more.
    const auto reader = Reader::make(Reading::mapped, *attached);
    for (std::uint32_t seen = 0; seen < 200; ++seen) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << seen;
        EXPECT_EQ(address_number(reinterpret_cast<const nlmsghdr*>(arrival->datagram.data())),
                  seen);
    }
    Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_ACK);
    EXPECT_GT(send(attached->socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
    EXPECT_TRUE(reader->next(30s * patience()));
}

}  // namespace
}  // namespace guest
