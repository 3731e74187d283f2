// SPDX-License-Identifier: MIT
//
// Who pays for a ring's memory, and what the kernel tells about rings.
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlmmap/nlmmap.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using nlmmap::Receiver;

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kRing = 1 << 18;
// The data, the consumer's page and the producer's.
constexpr std::uint64_t kCharged = kRing + 2 * kPage;

TEST(LockedMemory, IsChargedToTheUserUpToTheLimitAndGivenBack) {
    const MemlockLimit limit(2 * kCharged);
    as_user(kSomebody, [] {
        for (int round = 0; round < 3; ++round) {
            RawSocket first;
            std::optional<RawSocket> second(std::in_place);
            ASSERT_TRUE(succeeded(first.setup(kRing)))
                << "what the sockets of the last round were charged has to be there again";
            ASSERT_TRUE(succeeded(second->setup(kRing))) << "two fit exactly";
            RawSocket third;
            EXPECT_TRUE(refused(third.setup(kPage), ENOMEM)) << "not a page more";
            EXPECT_TRUE(refused(third.setup(kRing), ENOMEM));
            EXPECT_TRUE(refused(third.info(), ENODEV));
            second.reset();
            ASSERT_TRUE(succeeded(third.setup(kRing))) << "a closed socket is charged no more";
            RawRing ring(third, kRing);
        }
    });
}

TEST(LockedMemory, OfOneUserIsNotAnothers) {
    const MemlockLimit limit(kCharged);
    std::optional<RawSocket> mine;
    as_user(kSomebody, [&] {
        mine.emplace();
        ASSERT_TRUE(succeeded(mine->setup(kRing)));
    });
    as_user(kSomebodyElse, [] {
        RawSocket theirs;
        EXPECT_TRUE(succeeded(theirs.setup(kRing)));
    });
    as_user(kSomebody, [] {
        RawSocket more;
        EXPECT_TRUE(refused(more.setup(kPage), ENOMEM)) << "in another program of the same user";
    });
}

TEST(LockedMemory, StaysWithWhoSetTheRingUpWhenTheSocketIsPassedOn) {
    const MemlockLimit limit(kCharged);
    std::optional<RawSocket> passed;
    as_user(kSomebody, [&] {
        passed.emplace();
        ASSERT_TRUE(succeeded(passed->setup(kRing)));
    });
    as_user(kSomebodyElse, [&] {
        RawRing ring(*passed, kRing);
        RawSocket own;
        EXPECT_TRUE(succeeded(own.setup(kRing))) << "who maps a ring is not charged for it";
    });
    as_user(kSomebody, [] {
        RawSocket more;
        EXPECT_TRUE(refused(more.setup(kPage), ENOMEM));
    });
    passed.reset();
    as_user(kSomebody, [] {
        RawSocket more;
        EXPECT_TRUE(succeeded(more.setup(kRing)));
    });
}

TEST(LockedMemory, IsNotLimitedForWhoHasCapIpcLock) {
    const MemlockLimit limit(kPage);
    RawSocket socket;
    EXPECT_TRUE(succeeded(socket.setup(kRing)));
}

TEST(LockedMemory, OfARefusedSetupIsNotCharged) {
    const MemlockLimit limit(kCharged);
    as_user(kSomebody, [] {
        RawSocket socket;
        for (int i = 0; i < 50; ++i) {
            EXPECT_TRUE(refused(socket.setup(2 * kRing), ENOMEM));
            EXPECT_TRUE(refused(socket.setup(kRing + 1), EINVAL));
        }
        EXPECT_TRUE(succeeded(socket.setup(kRing)));
        for (int i = 0; i < 50; ++i) {
            EXPECT_TRUE(refused(socket.setup(kRing), EBUSY));
        }
        socket.close();
        RawSocket again;
        EXPECT_TRUE(succeeded(again.setup(kRing)));
    });
}

TEST(LockedMemory, IsNamedWithItsLimitToWhoAskedForTooMuch) {
    const MemlockLimit limit(8 * kPage);
    as_user(kSomebody, [] {
        try {
            Receiver receiver{nlmmap::Socket{}, {.ring_bytes = 1 << 20}};
            FAIL() << "set up over RLIMIT_MEMLOCK";
        } catch (const nlmmap::Error& error) {
            EXPECT_EQ(error.code().value(), ENOMEM);
            EXPECT_NE(std::string(error.what()).find("RLIMIT_MEMLOCK"), std::string::npos)
                << error.what();
        }
    });
}

// Root of a user namespace that an ordinary user made: it may do what it likes
// in its own network namespace, and pays as the user that it is.
TEST(LockedMemory, OfAUserNamespacesRootIsLimitedAsItsUsersIs) {
    const MemlockLimit limit(kCharged);
    Producer producer;
    const std::string outside = unique_name("outside");
    producer.add_group(outside, 0);
    EXPECT_EQ(in_child([&]() -> std::string {
                  if (setgroups(0, nullptr) != 0 || setresgid(1002, 1002, 1002) != 0 ||
                      setresuid(1002, 1002, 1002) != 0 ||
                      unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
                      return std::string("becoming root of a user namespace: ") + strerror(errno);
                  }
                  const std::string inside = unique_name("inside");
                  producer.add_group(inside, 0);
                  RawSocket first;
                  Outcome outcome = first.setup(kRing);
                  if (outcome.error != 0) {
                      return "SETUP: " + outcome.sentence;
                  }
                  if (first.join(inside).error != 0) {
                      return "it cannot join a private group of its own namespace";
                  }
                  if (first.join(outside).error != ENOENT) {
                      return "it sees a group of the namespace that it left";
                  }
                  RawSocket second;
                  outcome = second.setup(kPage);
                  return outcome.error == ENOMEM ? "" : "it is not limited by RLIMIT_MEMLOCK";
              }),
              "");
}

TEST(Memory, OfClosedSocketsIsFreed) {
    // Much more than this machine has, one after the other.
    const std::uint64_t machine = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * kPage;
    constexpr std::uint32_t large = 64U << 20;
    for (std::uint64_t sum = 0; sum < machine + machine / 4; sum += large) {
        RawSocket socket;
        ASSERT_TRUE(eventually([&] { return socket.setup(large).error == 0; }))
            << "after " << (sum >> 20) << " MiB in all";
    }
}

class Info : public testing::Test {
  protected:
    const std::string name_ = unique_name("info");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
};

TEST_F(Info, OfASocketTellsItsGeometryPositionsAndCounters) {
    const std::string other = unique_name("other");
    const std::uint32_t other_group = producer_.add_group(other);
    Receiver receiver = Receiver::join({name_, other}, {.ring_bytes = kPage, .timestamps = true});
    ASSERT_FALSE(receiver.arm());
    producer_.publish({.group = group_, .count = 100});
    const std::uint64_t record_bytes = 32 + 16 + 48;
    const std::uint64_t fit = (kPage - 2 * 64) / record_bytes;

    const nlmmap::SocketInfo info = receiver.socket().info();
    struct stat status{};
    ASSERT_EQ(fstat(receiver.fd(), &status), 0);
    EXPECT_EQ(info.inode, status.st_ino);
    EXPECT_EQ(info.uid, 0U);
    EXPECT_EQ(info.rx_bytes, kPage);
    EXPECT_EQ(info.header_bytes, 32U);
    EXPECT_EQ(info.abi_version, std::uint32_t{NLMMAP_ABI_VERSION});
    EXPECT_EQ(info.produced, fit * record_bytes);
    EXPECT_EQ(info.consumed, 0U);
    EXPECT_EQ(info.seq, 100U);
    EXPECT_EQ(info.lost, 100 - fit);
    EXPECT_GE(info.high_water, info.produced);
    EXPECT_LT(info.high_water, info.produced + kPage / 16);
    // The first record, and then a loss, found somebody waiting: the first did.
    EXPECT_EQ(info.wakeups, 1U);
    EXPECT_EQ(info.forged, 0U);
    EXPECT_EQ(std::set<std::uint16_t>(info.groups.begin(), info.groups.end()),
              (std::set<std::uint16_t>{static_cast<std::uint16_t>(group_),
                                       static_cast<std::uint16_t>(other_group)}));
    std::uint64_t records = 0;
    for ([[maybe_unused]] const nlmmap::Record& record : receiver.read()) {
        ++records;
    }
    EXPECT_EQ(records, fit);
    EXPECT_EQ(receiver.socket().info().consumed, info.produced);
}

TEST_F(Info, HighWaterIsTheMostThatEverWaited) {
    RawMember member(name_, 1 << 16);
    std::uint64_t most = 0;
    for (const std::uint64_t count : {10U, 300U, 20U, 600U, 1U}) {
        producer_.publish({.group = group_, .count = count});
        most = std::max(most, count * 88);
        while (member.ring.next()) {
        }
        member.ring.release();
        const std::uint64_t high = counter(member.socket, NLMMAP_A_HIGH_WATER);
        EXPECT_GE(high, most);
        EXPECT_LT(high, most + (1 << 16) / 16) << "rounded up to a sixteenth, no more";
    }
}

TEST_F(Info, InProcSaysTheSameAsTheRequest) {
    RawMember member(name_, kPage);
    member.ring.forge(1 << 20);
    producer_.publish({.group = group_, .count = 100});
    auto lines = fdinfo(member.socket.fd());
    const Outcome outcome = member.socket.info();
    ASSERT_TRUE(succeeded(outcome));
    const Reply& reply = outcome.replies.at(0);
    EXPECT_EQ(lines["rx-bytes"], std::to_string(kPage));
    const std::vector<std::pair<std::string, std::uint16_t>> same{
        {"rx-produced", NLMMAP_A_PRODUCED},
        {"rx-consumed", NLMMAP_A_CONSUMED},
        {"rx-seq", NLMMAP_A_SEQ},
        {"rx-lost", NLMMAP_A_LOST},
        {"rx-high-water", NLMMAP_A_HIGH_WATER},
        {"rx-wakeups", NLMMAP_A_WAKEUPS},
        {"rx-forged", NLMMAP_A_FORGED}};
    for (const auto& [line, attribute] : same) {
        const auto value = reply.get<std::uint64_t>(attribute);
        ASSERT_TRUE(value.has_value()) << line;
        EXPECT_EQ(lines[line], std::to_string(*value)) << line;
    }
    EXPECT_EQ(lines["rx-forged"], "1");
    EXPECT_TRUE(lines.contains("pos") && lines.contains("ino")) << "the usual lines are there, too";
}

TEST_F(Info, OfAllSocketsIsToldToAdministratorsInADumpOfManyPackets) {
    std::vector<RawMember> members;
    std::set<std::uint32_t> expected;
    for (int i = 0; i < 150; ++i) {
        members.emplace_back(name_, kPage);
        expected.insert(members.back().socket.portid());
    }
    nlmmap::Socket socket;
    std::set<std::uint32_t> found;
    for (const nlmmap::SocketInfo& info : socket.sockets()) {
        if (expected.contains(info.portid)) {
            EXPECT_TRUE(found.insert(info.portid).second) << "told twice: " << info.portid;
            EXPECT_EQ(info.rx_bytes, kPage);
            EXPECT_EQ(info.groups, std::vector<std::uint16_t>{static_cast<std::uint16_t>(group_)});
        }
    }
    EXPECT_EQ(found, expected);
}

TEST_F(Info, OfAllSocketsIsNotForOrdinaryUsers) {
    RawMember member(name_, kPage);
    as_user(kSomebody, [] {
        RawSocket socket;
        const Request dump(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP);
        EXPECT_TRUE(refused(socket.ask(dump), EPERM));
        EXPECT_TRUE(succeeded(socket.setup(kPage)));
        const Outcome own = socket.info();
        ASSERT_TRUE(succeeded(own));
        EXPECT_EQ(own.replies.at(0).get<std::uint32_t>(NLMMAP_A_UID), kSomebody);
    });
}

TEST_F(Info, OfOtherNetworkNamespacesIsNotTold) {
    RawMember here(name_, kPage);
    in_new_network([] {
        RawSocket there;
        ASSERT_TRUE(succeeded(there.setup(kPage)));
        const Request dump(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP);
        const Outcome outcome = there.ask(dump);
        ASSERT_TRUE(succeeded(outcome));
        ASSERT_EQ(outcome.replies.size(), 1U);
        EXPECT_EQ(outcome.replies[0].get<std::uint32_t>(NLMMAP_A_PORTID), there.portid());
    });
}

TEST_F(Info, DumpsMayBeAskedForWhileSocketsComeAndGo) {
    nlmmap::Socket socket;
    for (int i = 0; i < 20; ++i) {
        std::vector<RawMember> members;
        members.reserve(10);
        for (int k = 0; k < 10; ++k) {
            members.emplace_back(name_, kPage);
        }
        EXPECT_GE(socket.sockets().size(), 10U);
        EXPECT_FALSE(socket.groups().empty());
    }
}

}  // namespace
}  // namespace guest
