// SPDX-License-Identifier: MIT
//
// Sockets and maps go in every order, and nothing stays behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <future>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kRing = 1 << 16;

void send_fd(int through, int fd) {
    char byte = 'f';
    iovec part{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    ASSERT_EQ(sendmsg(through, &message, 0), 1);
}

int receive_fd(int through) {
    char byte = 0;
    iovec part{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    int fd = -1;
    if (recvmsg(through, &message, 0) == 1 && CMSG_FIRSTHDR(&message) != nullptr) {
        std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    }
    return fd;
}

class Lifetime : public testing::Test {
  protected:
    // Every member of this test has gone from the group.
    void TearDown() override {
        EXPECT_TRUE(eventually([this] { return !producer_.has_listeners(group_); }))
            << "a socket that is gone is still a member";
    }
    std::uint64_t read(RawRing& ring) {
        Check check({.group = group_, .count = 1000000});
        while (const auto record = ring.next()) {
            check.message(record->message());
        }
        ring.release();
        return check.received();
    }
    const std::string name_ = unique_name("lifetime");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
};

TEST_F(Lifetime, EndsWithTheLastOfMapsAndDescriptorsInEitherOrder) {
    {
        RawMember member(name_, kRing);
        member.ring.unmap();
        EXPECT_TRUE(producer_.has_listeners(group_)) << "without a map it still listens";
        member.socket.close();
        EXPECT_FALSE(producer_.has_listeners(group_));
    }
    {
        RawMember member(name_, kRing);
        member.socket.close();
        EXPECT_TRUE(producer_.has_listeners(group_)) << "a map holds the socket open";
        producer_.publish({.group = group_, .count = 10});
        EXPECT_EQ(read(member.ring), 10U) << "and its ring is still filled";
        member.ring.unmap();
        EXPECT_FALSE(producer_.has_listeners(group_));
    }
}

TEST_F(Lifetime, OfASocketWithARingThatNobodyMappedIsAsShortAsAnyones) {
    for (int i = 0; i < 20; ++i) {
        RawSocket socket;
        ASSERT_TRUE(succeeded(socket.setup(kRing)));
        ASSERT_TRUE(succeeded(socket.join(name_)));
        producer_.publish({.group = group_, .count = 5});
    }
}

TEST_F(Lifetime, ADuplicateKeepsTheSocketAndIsTheSame) {
    RawMember member(name_, kRing);
    RawSocket duplicate(fcntl(member.socket.fd(), F_DUPFD_CLOEXEC, 0));
    member.ring.unmap();
    member.socket.close();
    EXPECT_TRUE(refused(duplicate.setup(kRing), EBUSY));
    RawRing ring(duplicate, kRing);
    producer_.publish({.group = group_, .count = 3});
    EXPECT_EQ(read(ring), 3U);
}

TEST_F(Lifetime, AChildMayMapTheSocketThatItInherited) {
    RawMember member(name_, kRing);
    EXPECT_EQ(in_child([&]() -> std::string {
                  RawRing ring(member.socket, kRing);
                  producer_.publish({.group = group_, .count = 4});
                  return read(ring) == 4 ? "" : "the child does not see the messages";
              }),
              "");
    EXPECT_TRUE(producer_.has_listeners(group_)) << "the child's end is not the parent's";
    EXPECT_EQ(member.ring.consumer().position, member.ring.produced())
        << "one ring: what the child gave back is given back";
}

TEST_F(Lifetime, ADescriptorPassedToAnotherProcessTakesTheRingAlong) {
    std::array<int, 2> pair{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
    EXPECT_EQ(in_child([&]() -> std::string {
                  RawMember member(name_, kRing);
                  send_fd(pair[0], member.socket.fd());
                  return "";
              }),
              "");
    EXPECT_TRUE(producer_.has_listeners(group_)) << "it is on its way, and open";
    RawSocket socket(receive_fd(pair[1]));
    ASSERT_GE(socket.fd(), 0);
    RawRing ring(socket, kRing);
    producer_.publish({.group = group_, .count = 6});
    EXPECT_EQ(read(ring), 6U);
    close(pair[0]);
    close(pair[1]);
}

TEST_F(Lifetime, ADescriptorThatNobodyReceivesIsClosedWithItsWay) {
    std::array<int, 2> pair{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
    {
        RawMember member(name_, kRing);
        send_fd(pair[0], member.socket.fd());
    }
    EXPECT_TRUE(producer_.has_listeners(group_));
    close(pair[0]);
    close(pair[1]);
}

TEST_F(Lifetime, EndsWithAProcessThatIsKilledWithMapsWhileMessagesFlow) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::vector<RawMember> members;
        members.reserve(4);
        for (int i = 0; i < 4; ++i) {
            members.emplace_back(name_, kRing);
        }
        for (;;) {
            poll_now(members[0].socket.fd(), POLLIN);
        }
    }
    EXPECT_TRUE(eventually([this] { return producer_.has_listeners(group_); }));
    auto flow = producer_.start({.group = group_,
                                 .count = 3000,
                                 .context = NLMMAP_TEST_KTHREAD,
                                 .producers = 2,
                                 .burst = 10,
                                 .pause_us = 50});
    usleep(10000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    flow.get();
}

TEST_F(Lifetime, SocketsComeAndGoWhileMessagesFlow) {
    // A group of its own: who hears for plain listeners stays for some seconds.
    const std::string name = unique_name("churn");
    const std::uint32_t group = producer_.add_group(name);
    std::atomic<bool> stop{false};
    auto flow = std::async(std::launch::async, [&] {
        while (!stop) {
            producer_.publish({.group = group,
                               .count = 200,
                               .in_place = true,
                               .context = NLMMAP_TEST_KTHREAD,
                               .producers = 2,
                               .burst = 8,
                               .pause_us = 200});
        }
    });
    RawMember steady(name, kRing);
    for (int i = 0; i < 40; ++i) {
        RawMember first(name, kRing);
        RawMember second(name, kRing);
        RawSocket plain;
        ASSERT_EQ(plain.add_membership(group), 0);
        ASSERT_TRUE(succeeded(first.socket.leave(name)));
        second.socket.close();
        ASSERT_TRUE(succeeded(first.socket.join(name)));
        poll_now(first.socket.fd(), POLLIN);
    }
    stop = true;
    flow.get();
    std::uint64_t records = 0;
    while (steady.ring.next()) {
        ++records;
    }
    EXPECT_EQ(records + steady.ring.lost(), counter(steady.socket, NLMMAP_A_SEQ));
}

TEST_F(Lifetime, GroupsComeAndGoWhileMessagesFlow) {
    for (int i = 0; i < 10; ++i) {
        const std::string name = unique_name("brief");
        const std::uint32_t group = producer_.add_group(name);
        RawMember member(name, kRing);
        auto flow = producer_.start(
            {.group = group, .count = 1000000, .context = NLMMAP_TEST_KTHREAD, .producers = 2});
        EXPECT_TRUE(eventually([&] { return member.ring.lost() > 0; }));
        producer_.remove_group(group);
        EXPECT_EQ(flow.get().ended, ECANCELED);
        std::uint16_t last = 0;
        while (const auto record = member.ring.next()) {
            last = record->message()->nlmsg_type;
        }
        EXPECT_EQ(last, NLMMAP_MSG_GROUP_DELETED);
    }
}

TEST_F(Lifetime, ASocketThatIsAsleepMayBeClosedByAnotherThread) {
    for (int i = 0; i < 10; ++i) {
        std::optional<RawMember> member(std::in_place, name_, kRing);
        auto sleeper = Sleeper::make(Way::epoll_level, member->socket.fd());
        auto asleep = std::async(std::launch::async,
                                 [&] { return sleeper->sleep(std::chrono::milliseconds(20)); });
        producer_.publish({.group = group_});
        member.reset();
        asleep.get();
    }
}

TEST_F(Lifetime, ANetworkNamespaceIsHeldByASocketThatLeftItsThread) {
    std::optional<RawMember> member;
    Producer producer;
    std::uint32_t group = 0;
    in_new_network([&] {
        const std::string name = unique_name("elsewhere");
        group = producer.add_group(name);
        member.emplace(name, kRing);
    });
    ASSERT_EQ(producer.publish({.group = group, .count = 3}).delivered, 3U);
    EXPECT_EQ(read(member->ring), 3U);
    member.reset();
    EXPECT_TRUE(eventually([&] {
        try {
            producer.publish({.group = group});
            return false;
        } catch (const std::system_error&) {
            return true;
        }
    })) << "the namespace lives on although its last socket is closed";
}

}  // namespace
}  // namespace guest
