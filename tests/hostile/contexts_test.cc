// SPDX-License-Identifier: MIT
//
// Threads, softirqs, interrupts, non-maskable interrupts and the scheduler
// publish all at once to two groups that share their readers, with and without
// rings, while others join and leave: nobody deadlocks, whoever has room gets
// every message in the order of its producer, and an NMI's losses are counted.
// Those who come and go are an ordinary user's; the others are root's, who alone may
// have rings and buffers that are large enough.
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::Order;
using guest::Producer;
using guest::Published;
using guest::RawMember;
using guest::RawSocket;

constexpr std::uint32_t kBytes = 48;
// Who publishes from where. The rare ones, of which there can be but one at a
// time, come last.
constexpr std::uint32_t kRare = 7;

struct Part {
    std::uint32_t context;
    std::uint32_t first_producer;
    std::uint32_t producers;
};
constexpr std::array<Part, 6> kParts = {{{NLMMAP_TEST_PROCESS, 0, 1},
                                         {NLMMAP_TEST_KTHREAD, 1, 2},
                                         {NLMMAP_TEST_SOFTIRQ, 3, 1},
                                         {NLMMAP_TEST_IRQ_WORK, 4, 1},
                                         {NLMMAP_TEST_IPI, 5, 1},
                                         {NLMMAP_TEST_IRQS_OFF, 6, 1}}};

Order order_of(std::uint32_t group, const Part& part, std::uint64_t count, bool in_place) {
    return {.group = group,
            .count = count,
            .min_bytes = kBytes,
            .in_place = in_place,
            .context = part.context,
            .producers = part.producers,
            .first_producer = part.first_producer,
            .cpu = 1,
            .burst = 8,
            .pause_us = 20};
}

// What one reader got of one group: all of the ordinary producers, in order, and
// of the rare one what it did not miss.
class Ledger {
  public:
    explicit Ledger(std::uint64_t endless)
        : ordinary_({.count = endless, .min_bytes = kBytes, .producers = kRare}),
          rare_({.count = endless, .min_bytes = kBytes, .producers = 1, .first_producer = kRare}) {}
    void message(const nlmsghdr* message) {
        const bool rare = message->nlmsg_type == NLMMAP_MSG_PRODUCER_MIN + kRare;
        (rare ? rare_ : ordinary_).message(message);
    }
    const guest::Check& ordinary() const { return ordinary_; }
    const guest::Check& rare() const { return rare_; }

  private:
    guest::Check ordinary_;
    guest::Check rare_;
};

constexpr std::uint64_t kEndless = 1'000'000'000;
constexpr std::uint64_t kRareCount = 20'000;

// Threads of an ordinary user's, each of which does one thing over and over.
class Churn {
  public:
    Churn() = default;
    Churn(const Churn&) = delete;
    Churn& operator=(const Churn&) = delete;
    ~Churn() { stop_ = true; }
    void start(std::function<void()> once) {
        threads_.push_back(std::async(std::launch::async, [this, once = std::move(once)] {
            guest::as_user(guest::kSomebody, [&] {
                while (!stop_) {
                    once();
                }
            });
        }));
    }
    // Rethrows what they threw.
    void end() {
        stop_ = true;
        for (auto& thread : threads_) {
            thread.get();
        }
        threads_.clear();
    }

  private:
    std::atomic<bool> stop_{false};
    std::vector<std::future<void>> threads_;  // their destructors wait for them
};

class Everything : public testing::Test {
  protected:
    void TearDown() override { expect_nothing_left(0); }

    // All contexts at once, until all have published; the rare one as long as they do, or as
    // there is room for it with a reader that does not read yet.
    void publish(std::uint32_t group, std::uint64_t count, std::uint32_t rare) {
        // So that a signal ends the rare one's request.
        struct sigaction quiet{};
        quiet.sa_handler = [](int) {};
        sigaction(SIGUSR1, &quiet, nullptr);
        std::atomic<bool> ended{false};
        Published rare_one;
        std::thread rare_thread([&] {
            // An NMI comes for the CPU that the others publish on, the scheduler is everywhere.
            Order order = order_of(group, {rare, kRare, 1}, kRareCount, false);
            order.burst = 1;
            order.pause_us = 200;
            rare_one = producer_.publish(order);
            ended = true;
        });
        // The scheduler's probe is in its place before the machine is busy.
        EXPECT_TRUE(guest::eventually([&] { return watcher_->produced() != 0; }));
        std::vector<std::future<Published>> running;
        running.reserve(kParts.size());
        for (const Part& part : kParts) {
            running.push_back(
                producer_.start(order_of(group, part, count, running.size() % 2 != 0)));
        }
        for (auto& one : running) {
            const Published published = one.get();
            EXPECT_EQ(published.refused + published.skipped, 0U) << std::strerror(published.error);
            EXPECT_EQ(published.ended, 0);
        }
        while (!ended) {
            pthread_kill(rare_thread.native_handle(), SIGUSR1);
            std::this_thread::sleep_for(1ms);
        }
        rare_thread.join();
        EXPECT_TRUE(rare_one.ended == EINTR || rare_one.ended == 0) << rare_one.ended;
        rare_published_ = rare_one.accepted;
    }

    // For the small rings of those who come and go, of which many are freed late.
    const guest::MemlockLimit limit_{8U << 20};
    Producer producer_;
    const std::string name_ = guest::unique_name("everything");
    const std::uint32_t group_ = producer_.add_group(name_);
    guest::RawRing* watcher_ = nullptr;
    std::uint64_t rare_published_ = 0;
};

class With : public Everything, public testing::WithParamInterface<std::uint32_t> {};

INSTANTIATE_TEST_SUITE_P(Everything, With,
                         testing::Values(std::uint32_t{NLMMAP_TEST_SCHED},
                                         std::uint32_t{NLMMAP_TEST_NMI}),
                         [](const auto& rare) {
                             return rare.param == NLMMAP_TEST_NMI ? "Nmi" : "Scheduler";
                         });

TEST_P(With, InterruptsAndThreadsReachesAllWhileOthersComeAndGo) {
    constexpr std::uint64_t kCount = 300;
    RawMember large(name_, 4 << 20);
    RawMember stamped(name_, 4 << 20, NLMMAP_SETUP_TIME);
    RawMember small(name_, 4096);
    RawSocket plain;
    const int bytes = 64 << 20;
    ASSERT_EQ(setsockopt(plain.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
    ASSERT_EQ(plain.add_membership(group_), 0);
    watcher_ = &large.ring;

    Churn others;
    for (unsigned i = 0; i < 2; ++i) {
        others.start([&, dice = std::make_shared<Dice>(i)] {
            // Before and after the steady ones in the order of the locks.
            RawMember member(name_, 1U << (12 + dice->below(4)));
            guest::poll_now(member.socket.fd(), POLLIN);
            if (dice->below(2) != 0) {
                EXPECT_TRUE(guest::succeeded(member.socket.leave(name_)));
            }
            RawSocket brief;
            EXPECT_EQ(brief.add_membership(group_), 0);
        });
    }
    publish(group_, kCount, GetParam());
    others.end();

    const std::uint64_t ordinary = kRare * kCount;
    for (RawMember* member : {&large, &stamped, &small}) {
        EXPECT_EQ(guest::counter(member->socket, NLMMAP_A_SEQ), ordinary + rare_published_);
    }
    for (RawMember* member : {&large, &stamped}) {
        Ledger ledger(kEndless);
        while (const auto record = member->ring.next()) {
            ledger.message(record->message());
        }
        EXPECT_EQ(ledger.ordinary().received(), ordinary);
        EXPECT_EQ(ledger.ordinary().missing(), 0U);
        EXPECT_EQ(ledger.rare().received() + member->ring.lost(), rare_published_);
        if (GetParam() == NLMMAP_TEST_SCHED) {
            EXPECT_EQ(member->ring.lost(), 0U) << "there was room";
        }
    }
    while (small.ring.next()) {
    }
    EXPECT_EQ(small.ring.seq() + small.ring.lost() - small.ring.missing(),
              ordinary + rare_published_);

    // And the listener without a ring: an NMI's loss is told by ENOBUFS.
    Ledger ledger(kEndless);
    std::vector<std::byte> buffer(8192);
    const auto read = [&] {
        for (;;) {
            const ssize_t got = recv(plain.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) {
                return ledger.ordinary().received() == ordinary;
            }
            if (got < 0) {
                EXPECT_TRUE(errno == ENOBUFS && GetParam() == NLMMAP_TEST_NMI)
                    << std::strerror(errno);
                continue;
            }
            ledger.message(reinterpret_cast<const nlmsghdr*>(buffer.data()));
        }
    };
    EXPECT_TRUE(guest::eventually(read))
        << ledger.ordinary().received() << " of " << ordinary << " reached a plain listener";
    EXPECT_EQ(ledger.ordinary().missing(), 0U);
}

// Two groups with the same members, filled in place from threads and interrupts
// of all CPUs: each holds one ring's lock while it takes another's.
TEST_F(Everything, MayBeginAndEndInTwoGroupsOfTheSameReadersWithoutDeadlock) {
    const std::string second_name = guest::unique_name("second");
    const std::uint32_t second = producer_.add_group(second_name);
    std::vector<std::unique_ptr<RawMember>> members;
    for (int i = 0; i < 4; ++i) {
        // Some are full most of the time: the next one is then filled first.
        members.push_back(std::make_unique<RawMember>(i % 2 != 0 ? name_ : second_name,
                                                      i < 2 ? 4096U : 1U << 22));
        ASSERT_TRUE(
            guest::succeeded(members.back()->socket.join(i % 2 != 0 ? second_name : name_)));
    }
    constexpr std::uint64_t kCount = 400;
    std::vector<std::future<Published>> running;
    for (const Part& part : kParts) {
        for (const std::uint32_t group : {group_, second}) {
            running.push_back(producer_.start(order_of(group, part, kCount, true)));
        }
    }
    Churn others;
    others.start([&] {
        RawMember member(name_, 1 << 14);
        // EAGAIN: what came by the first group stands where the room for a notice should be.
        const int error = member.socket.join(second_name).error;
        EXPECT_TRUE(error == 0 || error == EAGAIN) << std::strerror(error);
        EXPECT_TRUE(guest::succeeded(member.socket.leave(name_)));
    });
    for (auto& one : running) {
        EXPECT_EQ(one.get().ended, 0);
    }
    others.end();
    for (const auto& member : members) {
        std::uint64_t records = 0;
        while (member->ring.next()) {
            ++records;
        }
        EXPECT_EQ(guest::counter(member->socket, NLMMAP_A_SEQ), 2 * kRare * kCount);
        EXPECT_EQ(records + member->ring.lost(), 2 * kRare * kCount);
    }
}

}  // namespace
}  // namespace hostile
