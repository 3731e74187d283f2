// SPDX-License-Identifier: MIT
//
// Plain sockets, without a ring, hear the same groups as mapped ones.
#include <gtest/gtest.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using Datagrams = std::vector<Bytes>;

// The next datagram of a plain socket; empty with errno set if there is none.
Bytes receive(int fd, int timeout_ms = 30'000) {
    pollfd ready{.fd = fd, .events = POLLRDNORM, .revents = 0};
    if (poll(&ready, 1, timeout_ms) != 1) {
        errno = EAGAIN;
        return {};
    }
    Bytes bytes(65536);
    sockaddr_nl from{};
    socklen_t from_bytes = sizeof(from);
    const ssize_t got = recvfrom(fd, bytes.data(), bytes.size(), MSG_DONTWAIT,
                                 reinterpret_cast<sockaddr*>(&from), &from_bytes);
    if (got < 0) {
        return {};
    }
    EXPECT_EQ(from.nl_pid, 0U) << "from the kernel";
    bytes.resize(static_cast<std::size_t>(got));
    return bytes;
}

Datagrams receive_all(int fd, std::size_t count) {
    Datagrams datagrams;
    while (datagrams.size() < count) {
        Bytes bytes = receive(fd);
        if (bytes.empty()) {
            ADD_FAILURE() << "after " << datagrams.size() << " of " << count
                          << " datagrams: " << strerror(errno);
            break;
        }
        datagrams.push_back(std::move(bytes));
    }
    return datagrams;
}

Datagrams read_all(RawRing& ring) {
    Datagrams datagrams;
    while (const auto record = ring.next()) {
        datagrams.emplace_back(record->datagram.begin(), record->datagram.end());
    }
    ring.release();
    return datagrams;
}

class Plain : public testing::Test {
  protected:
    const std::string name_ = unique_name("plain");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_, NLMMAP_GROUP_PUBLIC, 16384);
};

TEST_F(Plain, MembersHearTheSameAsMappedOnes) {
    RawMember mapped(name_, 1 << 20);
    RawSocket plain1;
    RawSocket plain2;
    ASSERT_EQ(plain1.add_membership(group_), 0);
    ASSERT_EQ(plain2.add_membership(group_), 0);
    const int buffer = 1 << 20;
    for (const RawSocket* socket : {&plain1, &plain2}) {
        setsockopt(socket->fd(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    }
    for (const bool in_place : {false, true}) {
        const Order order{
            .group = group_, .count = 100, .min_bytes = 8, .max_bytes = 2000, .in_place = in_place};
        EXPECT_EQ(producer_.publish(order).delivered, 2 * order.count)
            << "all plain listeners together count as one";
        const Datagrams expected = read_all(mapped.ring);
        ASSERT_EQ(expected.size(), order.count);
        EXPECT_EQ(receive_all(plain1.fd(), expected.size()), expected);
        EXPECT_EQ(receive_all(plain2.fd(), expected.size()), expected);
        EXPECT_EQ(receive(plain1.fd(), 0), Bytes{}) << "something came twice";
    }
    EXPECT_EQ(producer_.publish({.group = group_, .min_bytes = 16384 - NLMSG_HDRLEN}).delivered,
              2U);
    EXPECT_EQ(receive_all(plain1.fd(), 1), read_all(mapped.ring)) << "the largest message";
}

TEST_F(Plain, MembersMayUseLibnlAsWithAnyFamily) {
    const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket(nl_socket_alloc(),
                                                                     nl_socket_free);
    ASSERT_EQ(nl_connect(socket.get(), family()), 0);
    nl_socket_disable_seq_check(socket.get());
    ASSERT_EQ(nl_socket_add_membership(socket.get(), static_cast<int>(group_)), 0);
    const Order order{.group = group_, .count = 50, .min_bytes = 8, .max_bytes = 300};
    Check check(order);
    nl_socket_modify_cb(
        socket.get(), NL_CB_VALID, NL_CB_CUSTOM,
        [](nl_msg* message, void* argument) -> int {
            static_cast<Check*>(argument)->message(nlmsg_hdr(message));
            return NL_OK;
        },
        &check);
    producer_.publish(order);
    while (check.received() < order.count) {
        ASSERT_EQ(nl_recvmsgs_default(socket.get()), 0);
    }
    EXPECT_EQ(check.missing(), 0U);
}

TEST_F(Plain, SubscribersOfTheLibraryHearTheSameAndMayGoOnAsking) {
    nlmmap::Socket socket;
    socket.subscribe(name_);
    RawMember mapped(name_, 1 << 18);
    const Order order{.group = group_, .count = 30, .min_bytes = 8, .max_bytes = 300};
    producer_.publish(order);
    EXPECT_EQ(socket.group(name_).members, 1U) << "a request in between takes nothing away";
    EXPECT_EQ(receive_all(socket.fd(), order.count), read_all(mapped.ring));
    socket.unsubscribe(name_);
    producer_.publish(order);
    EXPECT_TRUE(receive(socket.fd(), 50).empty());
    EXPECT_THROW(socket.subscribe("no-such-group"), nlmmap::Error);
}

TEST_F(Plain, MembershipAndARingOnOneSocketBothHear) {
    RawMember both(name_, 1 << 18);
    ASSERT_EQ(both.socket.add_membership(group_), 0);
    const Order order{.group = group_, .count = 20, .min_bytes = 8, .max_bytes = 300};
    EXPECT_EQ(producer_.publish(order).delivered, 2 * order.count);
    const Datagrams mapped = read_all(both.ring);
    EXPECT_EQ(mapped.size(), order.count);
    EXPECT_EQ(receive_all(both.socket.fd(), order.count), mapped);
    ASSERT_EQ(both.socket.drop_membership(group_), 0);
    EXPECT_TRUE(succeeded(both.socket.info()));
}

TEST_F(Plain, MembersAreToldEnobufsWhenTheirBufferIsFullAndThenGoOn) {
    RawSocket plain;
    const int buffer = 4096;
    setsockopt(plain.fd(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    ASSERT_EQ(plain.add_membership(group_), 0);
    RawMember mapped(name_, 1 << 20);
    producer_.publish({.group = group_, .count = 1000});
    EXPECT_EQ(read_all(mapped.ring).size(), 1000U)
        << "a full plain listener is no concern of a ring";
    bool told = false;
    EXPECT_TRUE(eventually([&] {
        Bytes bytes = receive(plain.fd(), 10);
        told = told || (bytes.empty() && errno == ENOBUFS);
        return told;
    })) << "a plain listener lost messages and was not told";
    // Until it is quiet; then it hears again.
    while (!receive(plain.fd(), 200).empty() || errno == ENOBUFS) {
    }
    const Order order{.group = group_, .count = 1, .first_number = 77};
    producer_.publish(order);
    Check check(order);
    const Bytes bytes = receive(plain.fd());
    ASSERT_FALSE(bytes.empty());
    check.message(reinterpret_cast<const nlmsghdr*>(bytes.data()));
}

TEST_F(Plain, MembersHearWhatIsPublishedWithInterruptsOffAndByTheScheduler) {
    RawSocket plain;
    ASSERT_EQ(plain.add_membership(group_), 0);
    for (const std::uint32_t context :
         {NLMMAP_TEST_IRQS_OFF, NLMMAP_TEST_SOFTIRQ, NLMMAP_TEST_IRQ_WORK, NLMMAP_TEST_SCHED}) {
        const Order order{.group = group_, .count = 60, .context = context};
        producer_.publish(order);
        Check check(order);
        for (const Bytes& bytes : receive_all(plain.fd(), order.count)) {
            check.message(reinterpret_cast<const nlmsghdr*>(bytes.data()));
        }
        EXPECT_EQ(check.received(), order.count) << "context " << context;
    }
}

TEST_F(Plain, MembersAreToldThatTheGroupIsGone) {
    RawSocket plain;
    ASSERT_EQ(plain.add_membership(group_), 0);
    producer_.publish({.group = group_, .count = 3});
    producer_.remove_group(group_);
    const Datagrams datagrams = receive_all(plain.fd(), 4);
    ASSERT_EQ(datagrams.size(), 4U);
    const auto* notice = reinterpret_cast<const nlmsghdr*>(datagrams[3].data());
    EXPECT_EQ(notice->nlmsg_type, NLMMAP_MSG_GROUP_DELETED) << "after all that was published";
    Reply reply;
    reply.payload.assign(datagrams[3].begin() + NLMSG_HDRLEN, datagrams[3].end());
    EXPECT_EQ(reply.get<std::uint32_t>(NLMMAP_A_GROUP_ID), group_);
}

TEST_F(Plain, ListenersAndRingsThatWereNeverBoundHear) {
    const int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, family());
    ASSERT_GE(fd, 0);
    RawSocket unbound(fd);
    ASSERT_TRUE(succeeded(unbound.setup(1 << 16))) << "the first request binds";
    ASSERT_TRUE(succeeded(unbound.join(name_)));
    ASSERT_EQ(unbound.add_membership(group_), 0);
    RawRing ring(unbound, 1 << 16);
    producer_.publish({.group = group_, .count = 2});
    EXPECT_EQ(receive_all(fd, 2), read_all(ring));
}

TEST_F(Plain, MembersMayLeaveAndComeBack) {
    RawSocket plain;
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(plain.add_membership(group_), 0);
        producer_.publish({.group = group_, .count = 1});
        ASSERT_EQ(receive_all(plain.fd(), 1).size(), 1U);
        ASSERT_EQ(plain.drop_membership(group_), 0);
    }
    producer_.publish({.group = group_, .count = 1});
    EXPECT_TRUE(receive(plain.fd(), 50).empty()) << "who left hears nothing";
}

TEST_F(Plain, MembershipIsRefusedWhereThereIsNoGroup) {
    RawSocket plain;
    const std::uint32_t gone = producer_.add_group(unique_name("gone"));
    producer_.remove_group(gone);
    EXPECT_EQ(plain.add_membership(gone), ENOENT);
    EXPECT_EQ(plain.add_membership(1024), ENOENT);
    EXPECT_EQ(plain.add_membership(1025), EINVAL) << "the core's answer beyond the last number";
    EXPECT_EQ(plain.add_membership(0), EINVAL);
    EXPECT_EQ(plain.drop_membership(group_), 0) << "as with any family";
    EXPECT_EQ(plain.add_membership(group_), 0);
}

TEST_F(Plain, UsersCannotPublishToAGroup) {
    RawMember mapped(name_);
    RawSocket listener;
    ASSERT_EQ(listener.add_membership(group_), 0);
    const auto send_to_group = [this] {
        RawSocket sender;
        Request request(NLMMAP_MSG_PRODUCER_MIN);
        sockaddr_nl to{};
        to.nl_family = AF_NETLINK;
        to.nl_groups = group_ <= 32 ? 1U << (group_ - 1) : 1U;
        errno = 0;
        return sendto(sender.fd(), request.bytes().data(), request.bytes().size(), 0,
                      reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    };
    as_user(kSomebody, [&] {
        EXPECT_EQ(send_to_group(), -1);
        EXPECT_EQ(errno, EPERM);
    });
    EXPECT_TRUE(read_all(mapped.ring).empty());
    EXPECT_TRUE(receive(listener.fd(), 20).empty());
}

}  // namespace
}  // namespace guest
