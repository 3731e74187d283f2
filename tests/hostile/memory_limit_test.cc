// SPDX-License-Identifier: MIT
//
// Tries to have more locked memory in rings than RLIMIT_MEMLOCK allows, and to
// make others pay: by one socket, by many, by many processes at once, with sockets
// that are passed on or left in flight. What was charged must come back exactly.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/channel.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using guest::as_user;
using guest::RawSocket;

constexpr std::uint32_t kPage = 4096;
// A ring's consumer and producer page.
constexpr std::uint64_t kControl = 2 * kPage;

// Everything that guest::kSomebody may lock, in one ring: fits exactly if nothing
// of that user's is charged any more. What killed processes had, and what was in
// flight, comes back a moment after their end.
void expect_nothing_charged(std::uint32_t all_bytes) {
    as_user(guest::kSomebody, [&] {
        RawSocket socket;
        EXPECT_TRUE(guest::eventually([&] { return socket.setup(all_bytes).error == 0; }))
            << "something is still charged to a user who has nothing left";
        RawSocket another;
        EXPECT_TRUE(guest::refused(another.setup(kPage), ENOMEM))
            << "more came back than had been charged";
    });
}

class LockedMemory : public Attack {
  protected:
    // Room for one ring of 1 MiB.
    static constexpr std::uint32_t kAll = 1U << 20;
    const guest::MemlockLimit limit_{kAll + kControl};

    void TearDown() override { expect_nothing_charged(kAll); }
};
INSTANTIATE_FOR_ALL_ATTACKERS(LockedMemory);

TEST_P(LockedMemory, IsTheSameHoweverManySocketsItIsCutInto) {
    attack([] {
        for (const std::uint32_t ring : {kAll, kAll / 2, kAll / 8, 16 * kPage, kPage}) {
            const std::uint64_t fit = (kAll + kControl) / (ring + kControl);
            const auto sockets = as_many_as_possible(ring, fit + 1);
            EXPECT_EQ(sockets.size(), privileged() ? fit + 1 : fit)
                << "rings of " << ring << " bytes";
        }
    });
}

TEST_P(LockedMemory, IsTheSameForManyProcessesAtOnce) {
    constexpr std::uint32_t ring = 4 * kPage;
    constexpr std::uint64_t fit = (kAll + kControl) / (ring + kControl);
    constexpr unsigned kProcesses = 12;
    const Channel channel;
    Assault assault = start([&] {
        const Channel within;
        for (unsigned i = 0; i < kProcesses; ++i) {
            const pid_t child = fork();
            ASSERT_GE(child, 0);
            if (child == 0) {
                const auto sockets = as_many_as_possible(ring, 2 * fit / kProcesses);
                put(within.attacker(), sockets.size());
                // Keeps what it has until the attacker ends.
                pause();
            }
        }
        std::uint64_t sum = 0;
        for (unsigned i = 0; i < kProcesses; ++i) {
            sum += take(within.test());
        }
        // They may have stood in each other's way, but the limit is met exactly.
        const auto rest = as_many_as_possible(ring, 2 * fit);
        sum += rest.size();
        put(channel.attacker(), sum);
        pause();
    });
    const std::uint64_t sum = take(channel.test());
    if (privileged()) {
        EXPECT_GT(sum, fit) << "CAP_IPC_LOCK is exempt";
    } else {
        EXPECT_EQ(sum, fit) << "rings of one user, by " << kProcesses + 1 << " processes";
    }
    // Another user has all of his own.
    as_user(guest::kSomebodyElse, [] {
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(kAll)));
    });
    kill(assault.pid(), SIGKILL);
    EXPECT_EQ(assault.outcome(SIGKILL), "");
}

// Root, who is exempt, is refused nothing.
class RefusedMemory : public LockedMemory {};
INSTANTIATE_TEST_SUITE_P(, RefusedMemory, testing::Values(Attacker::user, Attacker::user_namespace),
                         [](const auto& attacker) { return name_of(attacker.param); });

// Seven ask all the time for what never fits. The eighth asks for exactly what does,
// and closes it: not even for the moment in which the others' requests are looked at
// may they count, nor what he closed before.
TEST_P(RefusedMemory, IsNotCountedAgainstWhoAsksForWhatFits) {
    attack([] {
        std::atomic<bool> stop{false};
        std::atomic<std::uint64_t> refused_times{0};
        together(8, [&](int thread) {
            if (thread != 0) {
                RawSocket socket;
                while (!stop && !somebody_failed()) {
                    ASSERT_TRUE(guest::refused(socket.setup(2 * kAll), ENOMEM));
                    ++refused_times;
                }
                return;
            }
            Rounds rounds(200, std::chrono::seconds(20), patience() > 1 ? 20 : 200);
            while (rounds.more()) {
                RawSocket socket;
                ASSERT_TRUE(guest::succeeded(socket.setup(kAll))) << "in round " << rounds.begun();
            }
            stop = true;
        });
        EXPECT_GT(refused_times, 0U) << "nobody stood in the way";
    });
}

TEST_P(LockedMemory, OfASocketThatIsPassedOnStaysWithWhoSetItUp) {
    guest::Producer producer;
    const std::string name = guest::unique_name("passed");
    const guest::Order order{.group = producer.add_group(name), .count = 10};
    const Channel channel;
    std::optional<RawSocket> passed;
    attack([&] {
        RawSocket socket;
        ASSERT_TRUE(guest::succeeded(socket.setup(kAll)));
        ASSERT_TRUE(guest::succeeded(socket.join(name)));
        put(channel.attacker(), 0, socket.fd());
    });
    passed.emplace(take_descriptor(channel.test()));
    // Its maker is gone; it still hears, and its maker's user still pays.
    EXPECT_EQ(producer.publish(order).delivered, order.count);
    as_user(guest::kSomebody, [] {
        RawSocket more;
        EXPECT_EQ(more.setup(kPage).error, privileged() ? 0 : ENOMEM);
    });
    {
        guest::RawRing ring(*passed, kAll);
        guest::Check check(order);
        while (const auto record = ring.next()) {
            ASSERT_NO_THROW(check.message(record->message()));
        }
        EXPECT_EQ(check.received(), order.count);
        passed.reset();
        as_user(guest::kSomebody, [] {
            RawSocket more;
            EXPECT_EQ(more.setup(kPage).error, privileged() ? 0 : ENOMEM) << "a map holds the ring";
        });
    }
}

TEST_P(LockedMemory, OfASocketThatIsLeftInFlightComesBack) {
    attack([] {
        // Received by nobody; and in a circle that only the core's collector finds.
        for (const bool circle : {false, true}) {
            const Channel channel;
            RawSocket socket;
            ASSERT_TRUE(guest::succeeded(socket.setup(circle ? kAll / 2 : kAll / 4)));
            put(channel.attacker(), 0, socket.fd());
            if (circle) {
                put(channel.attacker(), 0, channel.test());
                put(channel.test(), 0, channel.attacker());
            }
        }
        // The collector runs when descriptors are sent.
        const Channel another;
        put(another.attacker(), 0, another.attacker());
    });
}

TEST(CapIpcLock, IsExemptFromTheLimitButCounted) {
    constexpr std::uint32_t kAll = 1U << 20;
    const guest::MemlockLimit limit(kAll + kControl);
    const Channel channel;
    Assault holder(Attacker::root, [&] {
        // The user's own, with that one capability and no other.
        ASSERT_EQ(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
        ASSERT_EQ(setresgid(guest::kSomebody, guest::kSomebody, guest::kSomebody), 0);
        ASSERT_EQ(setresuid(guest::kSomebody, guest::kSomebody, guest::kSomebody), 0);
        __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
        std::array<__user_cap_data_struct, 2> only{};
        only[0].effective = only[0].permitted = 1U << CAP_IPC_LOCK;
        ASSERT_EQ(syscall(SYS_capset, &header, only.data()), 0);
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(4 * kAll)));
        put(channel.attacker(), 0);
        take(channel.attacker());
    });
    take(channel.test());
    as_user(guest::kSomebody, [] {
        RawSocket socket;
        EXPECT_TRUE(guest::refused(socket.setup(kPage), ENOMEM));
    });
    put(channel.test(), 0);
    holder.finish();
    expect_nothing_charged(kAll);
}

TEST(TheLimit, ThatIsLoweredLaterTakesNothingAwayAndStopsMore) {
    constexpr std::uint32_t kAll = 1U << 20;
    as_user(guest::kSomebody, [] {
        std::optional<RawSocket> socket;
        {
            const guest::MemlockLimit before(4 * kAll + kControl);
            socket.emplace();
            ASSERT_TRUE(guest::succeeded(socket->setup(4 * kAll)));
        }
        const guest::MemlockLimit lower(kPage);
        guest::RawRing ring(*socket, 4 * kAll);
        RawSocket more;
        EXPECT_TRUE(guest::refused(more.setup(kPage), ENOMEM));
    });
    const guest::MemlockLimit limit(kAll + kControl);
    expect_nothing_charged(kAll);
}

}  // namespace
}  // namespace hostile
