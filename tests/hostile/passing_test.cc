// SPDX-License-Identifier: MIT
//
// A socket goes from hand to hand: to another process, another user, another
// namespace, by SCM_RIGHTS, pidfd_getfd() and inheritance. What was joined goes
// with it; rights do not come with it, and are not lent by whoever sends on it.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/channel.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::Outcome;
using guest::Producer;
using guest::RawMember;
using guest::RawRing;
using guest::RawSocket;
using guest::refused;
using guest::Request;
using guest::succeeded;

constexpr std::uint32_t kRing = 1 << 14;

// With the kernel's address given: netlink then looks at the sender alone.
Outcome ask_with_address(RawSocket& socket, const Request& request) {
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (sendto(socket.fd(), request.bytes().data(), request.bytes().size(), 0,
               reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel)) < 0) {
        throw std::system_error(errno, std::system_category(), "sendto the kernel");
    }
    return socket.answer();
}

Request join_request(const std::string& name) {
    return Request(NLMMAP_MSG_JOIN).string(NLMMAP_A_GROUP_NAME, name);
}

Request dump_request() { return Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP); }

class Passing : public Attack {
  protected:
    void TearDown() override {
        way_.reset();
        EXPECT_TRUE(guest::eventually([&] {
            return members_of(open_name_) == 0 && members_of(closed_name_) == 0;
        })) << "a socket that everybody closed is still a member";
        neighbour_.expect_unharmed();
        expect_nothing_left(0);
    }
    // 0 for who may do this, else EPERM.
    static testing::AssertionResult as_root_only(const Outcome& outcome) {
        return privileged() ? succeeded(outcome) : refused(outcome, EPERM);
    }
    // Everything that would widen what the descriptor is good for.
    void try_to_widen(RawSocket& socket) const {
        EXPECT_TRUE(refused(socket.setup(kRing), EBUSY));
        EXPECT_TRUE(as_root_only(socket.join(other_name_)));
        EXPECT_TRUE(as_root_only(ask_with_address(socket, join_request(third_name_))));
        EXPECT_TRUE(as_root_only(socket.ask(dump_request())));
        EXPECT_TRUE(as_root_only(ask_with_address(socket, dump_request())));
        EXPECT_EQ(socket.add_membership(closed_), privileged() ? 0 : EPERM);
        EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, socket.fd(), 4096),
                  MAP_FAILED);
        EXPECT_TRUE(succeeded(socket.info())) << "its own counters are anybody's who has it";
    }

    Neighbour neighbour_{"passing"};
    Producer producer_;
    const std::string open_name_ = guest::unique_name("open");
    const std::string closed_name_ = guest::unique_name("closed");
    const std::string other_name_ = guest::unique_name("other");
    const std::string third_name_ = guest::unique_name("third");
    const std::uint32_t open_ = producer_.add_group(open_name_);
    const std::uint32_t closed_ = producer_.add_group(closed_name_, 0);
    const std::uint32_t other_ = producer_.add_group(other_name_, 0);
    const std::uint32_t third_ = producer_.add_group(third_name_, 0);
    std::optional<Channel> way_{std::in_place};
};

INSTANTIATE_FOR_ALL_ATTACKERS(Passing);

TEST_P(Passing, ASocketOfRootsOnGivesWhatItJoinedAndNoMore) {
    RawMember member(open_name_, kRing);
    ASSERT_TRUE(succeeded(member.socket.join(closed_name_)));
    put(way_->test(), 0, member.socket.fd());
    producer_.publish({.group = closed_, .count = 5});
    attack([&] {
        RawSocket socket(take_descriptor(way_->attacker()));
        {
            RawRing ring(socket, kRing);
            guest::Check check({.group = closed_, .count = 5});
            while (const auto record = ring.next()) {
                check.message(record->message());
            }
            EXPECT_EQ(check.received(), 5U) << "what it joined goes with it";
            ring.release();
        }
        try_to_widen(socket);
        // To leave is everybody's right, to come back is not.
        EXPECT_TRUE(succeeded(socket.leave(closed_name_)));
        EXPECT_TRUE(as_root_only(socket.join(closed_name_)));
        EXPECT_TRUE(succeeded(socket.leave(open_name_)));
        EXPECT_TRUE(succeeded(socket.join(open_name_)));
    });
    EXPECT_EQ(members_of(open_name_), 1U) << "the owner still has it";
    EXPECT_EQ(members_of(closed_name_), privileged() ? 1U : 0U) << "one socket: left is left";
}

// The child has the descriptor since its birth, and was root when it got it.
TEST_P(Passing, ToAChildThatGivesUpItsRightsIsTheSame) {
    RawMember member(closed_name_, kRing);
    attack([&] { try_to_widen(member.socket); });
}

// A privileged program that sends on what it was given must not lend its rights.
TEST_P(Passing, ToRootDoesNotMakeASocketMoreThanItsOpenerWas) {
    attack([&] {
        RawSocket socket;
        EXPECT_TRUE(succeeded(socket.setup(kRing)));
        EXPECT_TRUE(succeeded(socket.join(open_name_)));
        put(way_->attacker(), 0, socket.fd());
        RawSocket bare;
        put(way_->attacker(), 0, bare.fd());
    });
    RawSocket socket(take_descriptor(way_->test()));
    EXPECT_TRUE(as_root_only(socket.join(closed_name_)));
    EXPECT_TRUE(as_root_only(socket.ask(dump_request())));
    // With an address the message is root's own, as the threat model says.
    EXPECT_TRUE(succeeded(ask_with_address(socket, join_request(other_name_))));
    EXPECT_TRUE(producer_.has_listeners(open_)) << "who opened it is dead, the socket is not";
    // Who asks for the ring is charged for it, not who opened the socket.
    RawSocket bare(take_descriptor(way_->test()));
    const Outcome set_up = bare.setup(kRing);
    ASSERT_TRUE(succeeded(set_up));
    // Told in the user namespace of who opened the socket, where root may be nobody.
    constexpr std::uint32_t kNobody = 65534;
    EXPECT_EQ(set_up.replies.at(0).get<std::uint32_t>(NLMMAP_A_UID),
              GetParam() == Attacker::user_namespace ? kNobody : 0U);
}

TEST_P(Passing, WhoIsChargedStaysChargedWhereverTheRingGoes) {
    const auto set_up_one_more = [](int error) {
        return [error] {
            const guest::MemlockLimit limit(kRing + 2 * 4096);
            RawSocket socket;
            const Outcome outcome = socket.setup(kRing);
            EXPECT_EQ(outcome.error, error) << outcome.sentence;
        };
    };
    attack([&] {
        const guest::MemlockLimit limit(kRing + 2 * 4096);
        RawSocket socket;
        EXPECT_TRUE(succeeded(socket.setup(kRing)));
        put(way_->attacker(), 0, socket.fd());
    });
    // On its way, and then in root's hands: it counts all the same.
    attack(set_up_one_more(privileged() ? 0 : ENOMEM));
    std::optional<RawSocket> socket(std::in_place, take_descriptor(way_->test()));
    attack(set_up_one_more(privileged() ? 0 : ENOMEM));
    socket.reset();
    attack(set_up_one_more(0));
}

TEST_P(Passing, AProcessMayTakeASocketOnlyFromWhomItMayDebug) {
    RawMember roots(closed_name_, kRing);
    const pid_t test = getpid();
    attack([&] {
        const auto take_from = [](pid_t from, int number) {
            const int process = static_cast<int>(syscall(SYS_pidfd_open, from, 0));
            if (process < 0) {
                throw std::system_error(errno, std::system_category(), "pidfd_open");
            }
            const int taken = static_cast<int>(syscall(SYS_pidfd_getfd, process, number, 0));
            const int error = errno;
            close(process);
            errno = error;
            return taken;
        };
        const int taken = take_from(test, roots.socket.fd());
        EXPECT_EQ(taken >= 0, privileged()) << "a socket of root's: " << std::strerror(errno);
        close(taken);
        // From one's own child, which dies while the ring is in use.
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            const RawMember member(open_name_, kRing);
            put(way_->test(), static_cast<std::uint64_t>(member.socket.fd()));
            for (;;) {
                pause();
            }
        }
        RawSocket socket(take_from(child, static_cast<int>(take(way_->attacker()))));
        ASSERT_GE(socket.fd(), 0) << "a socket of his own child: " << std::strerror(errno);
        RawRing ring(socket, kRing);
        const auto sleeper = guest::Sleeper::make(guest::Way::epoll_edge, socket.fd());
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
        producer_.publish({.group = open_, .count = 3});
        EXPECT_TRUE(sleeper->sleep(20s));
        int records = 0;
        while (ring.next()) {
            ++records;
        }
        EXPECT_EQ(records, 3);
    });
}

// A socket belongs to the network namespace in which it was opened, and rights
// are those over that one.
TEST_P(Passing, IntoAnotherNetworkNamespaceChangesNeitherGroupsNorRights) {
    attack([&] {
        RawSocket before;
        ASSERT_TRUE(succeeded(before.setup(kRing)));
        if (GetParam() == Attacker::user) {
            ASSERT_EQ(unshare(CLONE_NEWNET), -1) << "this needs rights";
        } else {
            ASSERT_EQ(unshare(CLONE_NEWNET), 0) << std::strerror(errno);
            RawSocket after;
            ASSERT_TRUE(succeeded(after.setup(kRing)));
            EXPECT_TRUE(refused(after.join(open_name_), ENOENT)) << "a group of the other one";
            EXPECT_TRUE(refused(after.join(open_), ENOENT)) << "numbers are global, groups not";
            EXPECT_EQ(after.add_membership(open_), ENOENT);
            const Outcome dump = after.ask(dump_request());
            EXPECT_TRUE(succeeded(dump)) << "he is the administrator here";
            EXPECT_EQ(dump.replies.size(), 1U) << "and sees the sockets of this one alone";
            put(way_->attacker(), 0, after.fd());
        }
        EXPECT_TRUE(succeeded(before.join(open_name_))) << "it stays where it was opened";
        EXPECT_TRUE(as_root_only(before.join(closed_name_)));
        EXPECT_EQ(before.add_membership(closed_), privileged() ? 0 : EPERM);
    });
    if (GetParam() != Attacker::user) {
        // Back here, the socket is still the other namespace's, which it keeps alive.
        RawSocket theirs(take_descriptor(way_->test()));
        EXPECT_TRUE(refused(theirs.join(open_name_), ENOENT));
        const Outcome dump = theirs.ask(dump_request());
        EXPECT_TRUE(succeeded(dump));
        EXPECT_EQ(dump.replies.size(), 1U);
    }
}

// Descriptors in flight that nobody receives, and circles of them that only the
// core's garbage collector ends, while messages flow into their rings.
TEST_P(Passing, SocketsInFlightThatNobodyReceivesAreClosed) {
    attack([&] {
        for (Rounds rounds(60, 400ms); rounds.more();) {
            together(4, [&](int thread) {
                const Channel pair;
                const RawMember member(neighbour_.name(), kRing);
                put(pair.attacker(), 0, member.socket.fd());
                if (thread % 2 != 0) {
                    // The pair holds itself.
                    put(pair.attacker(), 0, pair.test());
                    put(pair.test(), 0, pair.attacker());
                }
            });
        }
    });
    // Any Unix socket's close collects.
    const Channel another;
}

}  // namespace
}  // namespace hostile
