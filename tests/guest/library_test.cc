// SPDX-License-Identifier: MIT
//
// The library on a kernel: requests beside messages, both uses of a Socket, and
// errors that say what to do.
#include <dirent.h>
#include <gtest/gtest.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;
using nlmmap::Error;
using nlmmap::Receiver;
using nlmmap::Record;
using nlmmap::Socket;
using nlmmap::Wait;

constexpr std::size_t kPage = 4096;

// Expects an Error with that errno whose text has all these parts.
void expect_error(int errnum, const std::vector<std::string>& parts,
                  const std::function<void()>& action) {
    try {
        action();
        ADD_FAILURE() << "it worked, and should have failed: " << strerror(errnum);
    } catch (const Error& error) {
        EXPECT_EQ(error.code().value(), errnum) << error.what();
        for (const std::string& part : parts) {
            EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
                << "\"" << part << "\" is missing in: " << error.what();
        }
    }
}

std::size_t open_descriptors() {
    std::size_t count = 0;
    DIR* directory = opendir("/proc/self/fd");
    while (readdir(directory) != nullptr) {
        ++count;
    }
    closedir(directory);
    return count;
}

std::uint64_t read_all(Receiver& receiver) {
    std::uint64_t count = 0;
    for (const Record& record : receiver.read()) {
        count += record.is_notice() ? 0 : 1;
    }
    return count;
}

// Datagrams that wait on a plain socket.
std::uint64_t receive_all(Socket& socket) {
    std::uint64_t count = 0;
    std::vector<std::byte> buffer(65536);
    while (recv(socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
        ++count;
    }
    return count;
}

class Library : public testing::Test {
  protected:
    const std::string name_ = unique_name("library");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_, NLMMAP_GROUP_PUBLIC, 1024);
};

TEST_F(Library, LosesNoPlainMessageToARequest) {
    Socket socket;
    socket.subscribe(name_);
    std::uint64_t published = 0;
    std::uint64_t received = 0;
    ASSERT_TRUE(eventually([&] {
        published += producer_.publish({.group = group_}).delivered;
        usleep(1000);
        received += receive_all(socket);
        return received > 0;
    }));
    // Several may have been on their way when the first one came.
    ASSERT_TRUE(eventually([&] { return (received += receive_all(socket)) == published; }))
        << received << " of " << published;
    for (int round = 0; round < 20; ++round) {
        producer_.publish({.group = group_, .count = 5});
        EXPECT_EQ(socket.group(name_).id, group_);
        EXPECT_FALSE(socket.groups().empty());
    }
    std::uint64_t heard = 0;
    EXPECT_TRUE(eventually([&] { return (heard += receive_all(socket)) == 100; })) << heard;
    EXPECT_TRUE(socket.group(name_).plain);
    socket.unsubscribe(name_);
    producer_.publish({.group = group_, .count = 5});
    usleep(100'000);
    EXPECT_EQ(receive_all(socket), 0U) << "who unsubscribed hears nothing";
}

TEST_F(Library, UsesASocketForOneOfTwoThings) {
    Socket plain;
    plain.subscribe(name_);
    expect_error(ENODEV, {"no ring"}, [&] { static_cast<void>(plain.info()); });
    expect_error(EBUSY, {"another Socket"}, [&] { const Receiver receiver(std::move(plain)); });

    Receiver receiver = Receiver::join(name_, {.ring_bytes = kPage});
    expect_error(EBUSY, {"another Socket"}, [&] { receiver.socket().subscribe(name_); });
    EXPECT_EQ(receiver.socket().info().groups,
              std::vector<std::uint16_t>{static_cast<std::uint16_t>(group_)});
}

TEST_F(Library, TellsWhenTheLastOfSeveralGroupsIsGone) {
    const std::string other = unique_name("other");
    const std::uint32_t other_id = producer_.add_group(other);
    Receiver receiver = Receiver::join({name_, other}, {.ring_bytes = kPage});
    producer_.publish({.group = group_});
    producer_.publish({.group = other_id});
    ASSERT_EQ(receiver.wait(30s), Wait::readable);
    EXPECT_EQ(read_all(receiver), 2U);
    producer_.remove_group(other_id);
    ASSERT_EQ(receiver.wait(30s), Wait::readable);
    EXPECT_EQ(read_all(receiver), 0U);
    EXPECT_EQ(receiver.wait(10ms), Wait::timed_out) << "one group is left";
    producer_.remove_group(group_);
    ASSERT_EQ(receiver.wait(30s), Wait::readable);
    for (const Record& record : receiver.read()) {
        EXPECT_TRUE(record.is_notice());
        EXPECT_EQ(record.group(), group_);
    }
    EXPECT_EQ(receiver.wait(30s), Wait::group_gone);
    expect_error(ENOENT, {"library"}, [&] { receiver.leave_group(name_); });
}

TEST_F(Library, JoinsAndLeavesWhileMessagesFlow) {
    Receiver receiver = Receiver::join(name_, {.ring_bytes = 4 << 20});
    auto flow = producer_.start({.group = group_, .count = 20'000, .burst = 100, .pause_us = 200});
    const std::string other = unique_name("other");
    producer_.add_group(other);
    for (int round = 0; round < 50; ++round) {
        receiver.join_group(other);
        receiver.leave_group(other);
        EXPECT_EQ(receiver.socket().info().lost, 0U);
    }
    std::uint64_t received = 0;
    while (received < 20'000) {
        ASSERT_EQ(receiver.wait(30s), Wait::readable) << received;
        received += read_all(receiver);
    }
    EXPECT_EQ(flow.get().delivered, 20'000U);
    EXPECT_EQ(receiver.lost(), 0U);
    receiver.leave_group(name_);
    producer_.publish({.group = group_});
    EXPECT_EQ(receiver.wait(10ms), Wait::timed_out);
}

TEST_F(Library, SleepsOverUnreadAnswers) {
    Receiver receiver = Receiver::join(name_, {.ring_bytes = kPage});
    nlmmap::Socket& socket = receiver.socket();
    ASSERT_GE(nl_send_simple(socket.get(), NLMMAP_MSG_SOCKET_GET, 0, nullptr, 0), 0);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(receiver.wait(50ms), Wait::timed_out);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
    EXPECT_FALSE(receiver.arm());
    // And the unread answer does not disturb the next request.
    EXPECT_EQ(socket.info().rx_bytes, kPage);
    producer_.publish({.group = group_});
    EXPECT_EQ(receiver.wait(30s), Wait::readable);
}

TEST_F(Library, SleepsOverAnOverflowOfTheOrdinaryQueue) {
    const std::string other = unique_name("other");
    const std::uint32_t other_id = producer_.add_group(other);
    Receiver receiver = Receiver::join(other, {.ring_bytes = kPage});
    const int small = 1;
    const int fd = receiver.fd();
    ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    const auto id = static_cast<int>(group_);
    ASSERT_EQ(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &id, sizeof(id)), 0);
    epoll_event event{};
    event.events = EPOLLERR;
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    ASSERT_TRUE(eventually([&] {
        producer_.publish({.group = group_, .count = 100, .min_bytes = 500});
        return epoll_wait(epoll, &event, 1, 10) == 1 && (event.events & EPOLLERR) != 0;
    })) << "the plain queue never overflowed";
    close(epoll);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(receiver.wait(50ms), Wait::timed_out);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 50ms);
    producer_.publish({.group = other_id});
    EXPECT_EQ(receiver.wait(30s), Wait::readable);
}

TEST_F(Library, SaysWhatToDo) {
    Socket socket;
    expect_error(EINVAL, {"31"}, [&] { static_cast<void>(socket.group(std::string(32, 'x'))); });
    expect_error(EINVAL, {"at least 1"}, [&] { static_cast<void>(socket.group("")); });
    expect_error(ENOENT, {"no-such", "groups here:", name_},
                 [&] { static_cast<void>(socket.group("no-such")); });
    expect_error(ENOENT, {"groups here:", name_}, [&] { socket.subscribe("no-such"); });
    expect_error(EINVAL, {"power of two", "4096"},
                 [&] { const Receiver receiver = Receiver::join(name_, {.ring_bytes = 4000}); });
    expect_error(EINVAL, {"4096"},
                 [&] { const Receiver receiver = Receiver::join(name_, {.ring_bytes = 0}); });
    expect_error(ERANGE, {"max_ring_bytes"}, [&] {
        const Receiver receiver = Receiver::join(name_, {.ring_bytes = std::size_t{1} << 31});
    });
    expect_error(ERANGE, {"max_ring_bytes"}, [&] {
        const Receiver receiver = Receiver::join(name_, {.ring_bytes = std::size_t{1} << 40});
    });
    const std::string big = unique_name("big");
    producer_.add_group(big, NLMMAP_GROUP_PUBLIC, 5000);
    expect_error(EMSGSIZE, {"5000", "ring_bytes = 32768"},
                 [&] { const Receiver receiver = Receiver::join(big, {.ring_bytes = kPage}); });
    Receiver receiver = Receiver::join(name_, {.ring_bytes = kPage});
    expect_error(EALREADY, {name_}, [&] { receiver.join_group(name_); });
    expect_error(EBUSY, {"another Socket"}, [&] {
        Receiver first = Receiver::join(name_, {.ring_bytes = kPage});
        const Receiver second(std::move(first.socket()), {.ring_bytes = kPage});
    });
}

TEST_F(Library, SaysWhichRightIsMissing) {
    const std::string closed = unique_name("closed");
    producer_.add_group(closed, 0);
    as_user(kSomebody, [&] {
        expect_error(EPERM, {"CAP_NET_ADMIN", "setcap"}, [&] {
            const Receiver receiver = Receiver::join(closed, {.ring_bytes = kPage});
        });
        expect_error(EPERM, {"CAP_NET_ADMIN"}, [&] { Socket().subscribe(closed); });
        expect_error(EPERM, {"CAP_NET_ADMIN"}, [&] { static_cast<void>(Socket().sockets()); });
        Receiver open = Receiver::join(name_, {.ring_bytes = kPage});
        producer_.publish({.group = group_});
        EXPECT_EQ(open.wait(30s), Wait::readable);
    });
}

TEST_F(Library, LeaksNothingWhenSetUpFails) {
    const std::size_t before = open_descriptors();
    for (int round = 0; round < 50; ++round) {
        EXPECT_THROW((void)Receiver::join("no-such"), Error);
        EXPECT_THROW((void)Receiver::join(name_, {.ring_bytes = 5}), Error);
    }
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_TRUE(eventually([] { return Socket().sockets().empty(); })) << "rings are left";
}

TEST_F(Library, ListsManyGroupsAndSockets) {
    std::vector<Receiver> receivers;
    for (int i = 0; i < 40; ++i) {
        const std::string name = unique_name("many");
        producer_.add_group(name);
        receivers.push_back(Receiver::join(name, {.ring_bytes = kPage}));
    }
    Socket socket;
    EXPECT_EQ(socket.sockets().size(), 40U);
    const std::vector<nlmmap::GroupInfo> groups = socket.groups();
    EXPECT_GE(groups.size(), 41U);
    for (std::size_t i = 1; i < groups.size(); ++i) {
        EXPECT_LT(groups[i - 1].id, groups[i].id);
    }
}

}  // namespace
}  // namespace guest
