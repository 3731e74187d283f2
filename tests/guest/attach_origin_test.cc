// SPDX-License-Identifier: MIT
//
// Where a message came from, as an attached socket's ring tells it: port, group,
// process and user, network namespace; each as recvmsg() tells it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kRingBytes = 1 << 16;

void send_to(const RawSocket& from, std::uint32_t portid, std::uint32_t group,
             std::uint64_t number) {
    sockaddr_nl to{};
    to.nl_family = AF_NETLINK;
    to.nl_pid = portid;
    to.nl_groups = group == 0 ? 0 : 1U << (group - 1);
    const Bytes message = sent_message(0, number, 64);
    ASSERT_EQ(sendto(from.fd(), message.data(), message.size(), 0,
                     reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              static_cast<ssize_t>(message.size()))
        << "errno " << errno;
}

std::optional<RawRecord> next(RawAttached& attached) {
    std::optional<RawRecord> record;
    eventually([&] { return (record = attached.ring.next()).has_value(); });
    return record;
}

// The credentials between a record's header and its datagram.
nlmmap_credentials credentials_of(const RawRecord& record) {
    nlmmap_credentials credentials{};
    std::memcpy(&credentials, record.datagram.data() - sizeof(credentials), sizeof(credentials));
    return credentials;
}

// What recvmsg() says of the next message.
struct Plain {
    sockaddr_nl from{};
    std::optional<ucred> credentials;
    std::optional<int> nsid;
};

Plain receive(int fd) {
    Plain plain;
    std::array<std::byte, 4096> buffer{};
    alignas(cmsghdr) std::array<std::byte, 512> control{};
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    msghdr message{};
    message.msg_name = &plain.from;
    message.msg_namelen = sizeof(plain.from);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(fd, &message, 0) < 0) {
        ADD_FAILURE() << "recvmsg: errno " << errno;
        return plain;
    }
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_CREDENTIALS) {
            plain.credentials.emplace();
            std::memcpy(&*plain.credentials, CMSG_DATA(one), sizeof(ucred));
        } else if (one->cmsg_level == SOL_NETLINK && one->cmsg_type == NETLINK_LISTEN_ALL_NSID) {
            plain.nsid.emplace();
            std::memcpy(&*plain.nsid, CMSG_DATA(one), sizeof(int));
        }
    }
    return plain;
}

void enable(int fd, int level, int option) {
    const int on = 1;
    ASSERT_EQ(setsockopt(fd, level, option, &on, sizeof(on)), 0) << "errno " << errno;
}

TEST(AttachedOrigin, OfAMessageIsItsSendersPortAndGroup) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, kRingBytes);
    attached.listen(7);
    const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
    send_to(sender, attached.socket.portid(), 0, 1);
    send_to(sender, 0, 7, 2);
    Senders().send({.group = 7, .first = 3});
    const auto unicast = next(attached);
    ASSERT_TRUE(unicast);
    EXPECT_EQ(unicast->header.portid, sender.portid());
    EXPECT_EQ(unicast->header.group, 0);
    const auto multicast = next(attached);
    ASSERT_TRUE(multicast);
    EXPECT_EQ(multicast->header.portid, sender.portid());
    EXPECT_EQ(multicast->header.group, 7);
    const auto kernels = next(attached);
    ASSERT_TRUE(kernels);
    EXPECT_EQ(kernels->header.portid, 0U);
    EXPECT_EQ(kernels->header.group, 7);
    EXPECT_EQ(kernels->header.nsid, -1);
}

TEST(AttachedOrigin, TellsWhoSentAsSoPasscredDoes) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, kRingBytes, NLMMAP_SETUP_CREDENTIALS);
    attached.listen(7);
    const RawSocket plain = family_socket(NLMMAP_SENDER_FAMILY);
    enable(plain.fd(), SOL_SOCKET, SO_PASSCRED);
    const int group = 7;
    ASSERT_EQ(setsockopt(plain.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)),
              0);
    for (const unsigned uid : {0U, kSomebody, kSomebodyElse}) {
        if (uid == 0) {
            send_to(family_socket(NLMMAP_SENDER_FAMILY), 0, 7, 1);
        } else {
            as_user(uid, [] { send_to(family_socket(NLMMAP_SENDER_FAMILY), 0, 7, 1); });
        }
        const auto record = next(attached);
        ASSERT_TRUE(record);
        const nlmmap_credentials credentials = credentials_of(*record);
        const Plain told = receive(plain.fd());
        ASSERT_TRUE(told.credentials);
        EXPECT_EQ(credentials.uid, uid);
        EXPECT_EQ(credentials.uid, told.credentials->uid);
        EXPECT_EQ(credentials.gid, told.credentials->gid);
        EXPECT_EQ(credentials.pid, static_cast<std::uint32_t>(told.credentials->pid));
        EXPECT_EQ(credentials.pid, static_cast<std::uint32_t>(getpid()));
        EXPECT_EQ(credentials.reserved, 0U);
    }
    Senders().send({.group = 7});
    const auto record = next(attached);
    ASSERT_TRUE(record);
    EXPECT_EQ(credentials_of(*record).pid, 0U) << "the kernel is no process";
    EXPECT_EQ(credentials_of(*record).uid, 0U);
}

void write_to(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file) {
        throw std::runtime_error("writing " + path);
    }
}

TEST(AttachedOrigin, TellsUsersInTheNamespaceOfTheRingsOwner) {
    write_to("/sys/module/nlmmap/parameters/attach_unprivileged", "Y");
    std::array<int, 2> ports{};
    ASSERT_EQ(pipe2(ports.data(), O_CLOEXEC), 0);
    // It reads what the two users send, from inside a user namespace that knows one of them.
    auto told = std::async(std::launch::async, [&] {
        return in_child([&]() -> std::string {
            if (setresgid(kSomebody, kSomebody, kSomebody) != 0 ||
                setresuid(kSomebody, kSomebody, kSomebody) != 0 ||
                // Else its own files in /proc are not its own.
                prctl(PR_SET_DUMPABLE, 1) != 0 || unshare(CLONE_NEWUSER) != 0) {
                return "becoming somebody: errno " + std::to_string(errno);
            }
            write_to("/proc/self/setgroups", "deny");
            write_to("/proc/self/uid_map", "0 " + std::to_string(kSomebody) + " 1");
            write_to("/proc/self/gid_map", "0 " + std::to_string(kSomebody) + " 1");
            RawAttached attached(NLMMAP_SENDER_FAMILY, 4096, NLMMAP_SETUP_CREDENTIALS);
            const RawSocket plain = family_socket(NLMMAP_SENDER_FAMILY);
            const int on = 1;
            setsockopt(plain.fd(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
            const std::array<std::uint32_t, 2> both{attached.socket.portid(), plain.portid()};
            if (write(ports[1], both.data(), sizeof(both)) != sizeof(both)) {
                return "write";
            }
            std::string users;
            for (int at = 0; at < 3; ++at) {
                const auto record = next(attached);
                if (!record) {
                    return "nothing came";
                }
                const nlmmap_credentials credentials = credentials_of(*record);
                const Plain by_recvmsg = receive(plain.fd());
                if (!by_recvmsg.credentials || by_recvmsg.credentials->uid != credentials.uid ||
                    by_recvmsg.credentials->gid != credentials.gid) {
                    return "recvmsg says otherwise than " + std::to_string(credentials.uid);
                }
                users += std::to_string(credentials.uid) + " ";
            }
            return users;
        });
    });
    std::array<std::uint32_t, 2> both{};
    pollfd ready{.fd = ports[0], .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&ready, 1, static_cast<int>(30000 * patience())), 1) << told.get();
    ASSERT_EQ(read(ports[0], both.data(), sizeof(both)), static_cast<ssize_t>(sizeof(both)));
    for (const unsigned uid : {kSomebody, kSomebodyElse, 0U}) {
        const auto send_both = [&] {
            const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
            send_to(sender, both[0], 0, 1);
            send_to(sender, both[1], 0, 1);
        };
        if (uid == 0) {
            send_both();
        } else {
            as_user(uid, send_both);
        }
    }
    EXPECT_EQ(told.get(), "0 65534 65534 ");
    write_to("/sys/module/nlmmap/parameters/attach_unprivileged", "N");
    close(ports[0]);
    close(ports[1]);
}

// Gives the calling thread's network namespace a number for another one.
void number_network(int namespace_fd, int nsid) {
    RawSocket socket = family_socket(NETLINK_ROUTE);
    rtgenmsg fixed{};
    Request request(RTM_NEWNSID);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    request.raw(Bytes(3));  // to the attributes
    request.u32(NETNSA_NSID, static_cast<std::uint32_t>(nsid))
        .u32(NETNSA_FD, static_cast<std::uint32_t>(namespace_fd));
    ASSERT_TRUE(succeeded(socket.ask(request)));
}

TEST(AttachedOrigin, TellsTheNumberOfAnotherNetworkNamespace) {
    in_new_network([] {
        RawAttached attached(NLMMAP_SENDER_FAMILY, kRingBytes);
        attached.listen(7);
        enable(attached.socket.fd(), SOL_NETLINK, NETLINK_LISTEN_ALL_NSID);
        const RawSocket plain = family_socket(NLMMAP_SENDER_FAMILY);
        const int group = 7;
        setsockopt(plain.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
        enable(plain.fd(), SOL_NETLINK, NETLINK_LISTEN_ALL_NSID);
        const int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        in_new_network([&] {
            const int there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
            Senders senders;
            ASSERT_EQ(setns(here, CLONE_NEWNET), 0);
            number_network(there, 42);
            senders.send({.group = 7});
            close(there);
        });
        close(here);
        Senders().send({.group = 7});
        const auto theirs = next(attached);
        ASSERT_TRUE(theirs);
        EXPECT_EQ(theirs->header.nsid, 42);
        EXPECT_EQ(receive(plain.fd()).nsid, 42);
        const auto ours = next(attached);
        ASSERT_TRUE(ours);
        EXPECT_EQ(ours->header.nsid, -1);
        EXPECT_FALSE(receive(plain.fd()).nsid.has_value());
    });
}

}  // namespace
}  // namespace guest
