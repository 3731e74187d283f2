// SPDX-License-Identifier: MIT
//
// Messages may be published from wherever a kernel module sees its events.
#include <gtest/gtest.h>
#include <poll.h>

#include <future>
#include <string>
#include <tuple>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

// Messages are published here, and the tests' own thread runs on the other.
constexpr unsigned kProducerCpu = 1;
constexpr unsigned kReaderCpu = 0;

std::string context_name(std::uint32_t context) {
    switch (context) {
        case NLMMAP_TEST_PROCESS:
            return "Process";
        case NLMMAP_TEST_KTHREAD:
            return "KernelThread";
        case NLMMAP_TEST_SOFTIRQ:
            return "Softirq";
        case NLMMAP_TEST_IRQ_WORK:
            return "IrqWork";
        case NLMMAP_TEST_IPI:
            return "Interrupt";
        case NLMMAP_TEST_IRQS_OFF:
            return "InterruptsOff";
        case NLMMAP_TEST_SCHED:
            return "Scheduler";
        case NLMMAP_TEST_NMI:
            return "Nmi";
        default:
            return "Unknown";
    }
}

class Context : public testing::TestWithParam<std::tuple<std::uint32_t, bool>> {
  protected:
    Order order(std::uint64_t count) {
        return {.group = group_,
                .count = count,
                .min_bytes = 8,
                .max_bytes = 120,
                .in_place = std::get<1>(GetParam()),
                .context = std::get<0>(GetParam()),
                .cpu = kProducerCpu};
    }
    const OnCpu here_{kReaderCpu};
    const std::string name_ = unique_name("context");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
};

INSTANTIATE_TEST_SUITE_P(Guest, Context,
                         testing::Combine(testing::Range(0U, std::uint32_t{NLMMAP_TEST_CONTEXTS}),
                                          testing::Bool()),
                         [](const auto& way) {
                             return context_name(std::get<0>(way.param)) +
                                    (std::get<1>(way.param) ? "InPlace" : "Copied");
                         });

TEST_P(Context, PublishesToSeveralReadersInOrderAndWakesThem) {
    RawMember first(name_, 1 << 18);
    RawMember second(name_, 1 << 18);
    const Order wanted = order(300);
    auto sleeper = Sleeper::make(Way::poll, first.socket.fd());
    ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1)));
    auto woken =
        std::async(std::launch::async, [&] { return sleeper->sleep(std::chrono::seconds(30)); });
    const Published published = producer_.publish(wanted);
    EXPECT_EQ(published.delivered, 2 * wanted.count) << "error " << published.error;
    EXPECT_TRUE(woken.get()) << "a reader slept through what this context published";
    for (RawMember* member : {&first, &second}) {
        Check check(wanted);
        while (const auto record = member->ring.next()) {
            check.message(record->message());
        }
        EXPECT_EQ(check.received(), wanted.count);
        EXPECT_EQ(member->ring.lost(), 0U);
    }
}

TEST_P(Context, CountsWhatFindsNoRoom) {
    RawMember member(name_, 4096);
    const Order wanted = order(200);
    const Published published = producer_.publish(wanted);
    EXPECT_LT(published.delivered, wanted.count);
    EXPECT_EQ(member.ring.lost(), wanted.count - published.delivered);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_SEQ), wanted.count);
    EXPECT_EQ(socket_drops(member.socket.inode()), static_cast<std::int64_t>(member.ring.lost()));
}

// A thread publishes on a CPU whose interrupts publish, too, into the same
// rings: whoever comes while a ring is locked waits, or is counted as lost.
class Interrupted : public testing::TestWithParam<std::uint32_t> {};

INSTANTIATE_TEST_SUITE_P(Guest, Interrupted,
                         testing::Values(std::uint32_t{NLMMAP_TEST_IPI},
                                         std::uint32_t{NLMMAP_TEST_NMI}),
                         [](const auto& way) { return context_name(way.param); });

TEST_P(Interrupted, ProducersOfTheSameCpuAreAllHeardOrCounted) {
    const bool is_nmi = GetParam() == NLMMAP_TEST_NMI;
    const OnCpu here(kReaderCpu);
    Producer producer;
    const std::string name = unique_name("interrupted");
    const std::uint32_t group = producer.add_group(name, NLMMAP_GROUP_PUBLIC, 8192);
    std::uint64_t lost = 0;
    // Whether an NMI meets a locked ring is chance: rounds until one has.
    constexpr int kRounds = 40;
    for (int round = 0; round < 2 || (is_nmi && lost == 0 && round < kRounds); ++round) {
        const bool in_place = round % 2 != 0;
        // Large messages, so that most of the time a ring is locked.
        const Order thread{.group = group,
                           .count = 1200,
                           .min_bytes = 4000,
                           .in_place = in_place,
                           .context = NLMMAP_TEST_KTHREAD,
                           .cpu = kProducerCpu};
        const Order interrupt{.group = group,
                              .count = 500,
                              .min_bytes = 4000,
                              .in_place = !in_place,
                              .context = GetParam(),
                              .first_producer = 1,
                              .cpu = kProducerCpu};
        RawMember first(name, 8 << 20);
        RawMember second(name, 8 << 20);
        auto below = producer.start(thread);
        const Published above = producer.publish(interrupt);
        below.get();
        EXPECT_EQ(above.refused, 0U);
        for (RawMember* member : {&first, &second}) {
            EXPECT_EQ(counter(member->socket, NLMMAP_A_SEQ), thread.count + interrupt.count);
            Order both = thread;
            both.producers = 2;
            Check check(both);
            while (const auto record = member->ring.next()) {
                check.message(record->message());
            }
            EXPECT_EQ(check.received() + member->ring.lost(), thread.count + interrupt.count);
            lost += member->ring.lost();
        }
    }
    if (is_nmi) {
        EXPECT_GT(lost, 0U) << "no NMI came while a ring was locked: this test showed nothing";
    } else {
        EXPECT_EQ(lost, 0U) << "an interrupt waits for the ring; there was room";
    }
}

// A loss in an NMI is counted without the ring's lock; who sleeps hears of it.
TEST(NmiLoss, IsToldByTheNextRecordAndWakesASleeper) {
    const OnCpu here(kReaderCpu);
    Producer producer;
    const std::string name = unique_name("nmi");
    const std::uint32_t group = producer.add_group(name);
    RawMember member(name, 4096);
    // Fills the ring; what the NMIs add is lost one way or another.
    producer.publish({.group = group, .count = 100});
    const std::uint64_t lost = counter(member.socket, NLMMAP_A_LOST);
    producer.publish(
        {.group = group, .count = 50, .context = NLMMAP_TEST_NMI, .cpu = kProducerCpu});
    EXPECT_EQ(counter(member.socket, NLMMAP_A_LOST), lost + 50);
    while (member.ring.next()) {
    }
    member.ring.release();
    EXPECT_EQ(producer.publish({.group = group, .context = NLMMAP_TEST_NMI, .cpu = kProducerCpu})
                  .delivered,
              1U);
    const auto record = member.ring.next();
    ASSERT_TRUE(record.has_value());
    EXPECT_TRUE(record->header.flags & NLMMAP_RECORD_LOST);
    EXPECT_EQ(member.ring.missing(), lost + 50);
}

}  // namespace
}  // namespace guest
