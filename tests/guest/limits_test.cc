// SPDX-License-Identifier: MIT
//
// What bounds the work that readers can make for a producer: places in a group,
// bytes copied with interrupts off, dumps, rings for plain listeners.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kPage = 4096;

// The module's max_members, while it lives.
class MaxMembers {
  public:
    explicit MaxMembers(unsigned count) : before_(exchange(count)) {}
    MaxMembers(const MaxMembers&) = delete;
    MaxMembers& operator=(const MaxMembers&) = delete;
    ~MaxMembers() { exchange(before_); }

  private:
    static unsigned exchange(unsigned count) {
        const std::string path = "/sys/module/nlmmap/parameters/max_members";
        unsigned before = 0;
        std::ifstream(path) >> before;
        std::ofstream(path) << count << std::flush;
        return before;
    }
    unsigned before_;
};

RawSocket with_ring(std::uint32_t ring_bytes = kPage) {
    RawSocket socket;
    EXPECT_TRUE(succeeded(socket.setup(ring_bytes)));
    return socket;
}

TEST(Places, OfAPublicGroupAreNotAllOneUsersAndAQuarterIsForAdministrators) {
    const MaxMembers limit(16);
    Producer producer;
    const std::string name = unique_name("places");
    producer.add_group(name);
    std::vector<RawSocket> members;
    const auto join_as = [&](unsigned uid) {
        Outcome outcome;
        as_user(uid, [&] {
            RawSocket socket = with_ring();
            outcome = socket.join(name);
            if (outcome.error == 0) {
                members.push_back(std::move(socket));
            }
        });
        return outcome;
    };
    // An eighth of 16 for each of them.
    EXPECT_TRUE(succeeded(join_as(kSomebody)));
    EXPECT_TRUE(succeeded(join_as(kSomebody)));
    EXPECT_TRUE(refused(join_as(kSomebody), ENOSPC));
    // Three quarters of 16 for all of them.
    for (unsigned other = 1; other <= 5; ++other) {
        EXPECT_TRUE(succeeded(join_as(kSomebody + other)));
        EXPECT_TRUE(succeeded(join_as(kSomebody + other)));
    }
    ASSERT_EQ(members.size(), 12U);
    EXPECT_TRUE(refused(join_as(kSomebody + 6), ENOSPC));
    // The rest for administrators, and no more than there are.
    for (int i = 0; i < 4; ++i) {
        members.push_back(with_ring());
        EXPECT_TRUE(succeeded(members.back().join(name)));
    }
    EXPECT_TRUE(refused(with_ring().join(name), ENOSPC));
    // A place that becomes free is given again, the last quarter not to everybody.
    members.front().close();
    EXPECT_TRUE(refused(join_as(kSomebody), ENOSPC));
    EXPECT_TRUE(succeeded(with_ring().join(name)));
}

TEST(Places, AreFewerWhereMessagesAreLarge) {
    Producer producer;
    const std::string name = unique_name("large");
    producer.add_group(name, 1, NLMMAP_MESSAGE_MAX);
    std::vector<RawSocket> members;
    for (int i = 0; i < (4 << 20) / NLMMAP_MESSAGE_MAX; ++i) {
        members.push_back(with_ring(4 * NLMMAP_MESSAGE_MAX));
        ASSERT_TRUE(succeeded(members.back().join(name))) << "member " << i;
    }
    EXPECT_TRUE(refused(with_ring(4 * NLMMAP_MESSAGE_MAX).join(name), ENOSPC))
        << "nlmmap_end() would copy more than 4 MiB with interrupts off";
}

TEST(Dump, ASecondOneOnTheSameSocketIsRefusedAndTheFirstGoesOn) {
    std::vector<RawSocket> sockets;
    sockets.reserve(100);
    for (int i = 0; i < 100; ++i) {
        sockets.push_back(with_ring());
    }
    RawSocket asker;
    Request dump(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP);
    for (std::uint32_t seq = 1; seq <= 2; ++seq) {
        dump.header().nlmsg_seq = seq;
        ASSERT_EQ(send(asker.fd(), dump.bytes().data(), dump.bytes().size(), 0),
                  static_cast<ssize_t>(dump.bytes().size()));
    }
    const Outcome second = asker.answer();
    EXPECT_TRUE(refused(second, EBUSY));
    const Outcome rest = asker.answer();
    EXPECT_EQ(rest.error, 0);
    EXPECT_GE(second.replies.size() + rest.replies.size(), sockets.size())
        << "the first dump was cut short";
}

// The core tells us when somebody leaves, but not how many are left.
TEST(PlainRing, IsGivenUpSomeTimeAfterTheLastListenerLeftAndMadeAgainForTheNext) {
    Producer producer;
    const std::string name = unique_name("plain-ring");
    const std::uint32_t id = producer.add_group(name);
    RawSocket listener;
    const auto served = [&] { return listener.group(name).replies.at(0).has(NLMMAP_A_PLAIN); };
    EXPECT_FALSE(served());
    for (int round = 0; round < 2; ++round) {
        ASSERT_EQ(listener.add_membership(id), 0);
        EXPECT_TRUE(served());
        EXPECT_EQ(producer.publish({.group = id}).delivered, 1U);
        std::array<std::byte, 4096> bytes{};
        EXPECT_GT(recv(listener.fd(), bytes.data(), bytes.size(), 0), 0);
        ASSERT_EQ(listener.drop_membership(id), 0);
        EXPECT_EQ(producer.publish({.group = id, .count = 1000}).accepted, 1000U);
        if (round == 0) {
            EXPECT_TRUE(eventually([&] { return !served(); }))
                << "a ring is kept, and written, for nobody";
            EXPECT_FALSE(producer.has_listeners(id));
        }
    }
}

}  // namespace
}  // namespace guest
