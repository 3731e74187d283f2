// SPDX-License-Identifier: MIT
//
// A reader that writes nonsense where its position belongs loses its own
// messages and nothing else: not others', not the kernel's memory, not the rules.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kPage = 4096;

class Forged : public testing::Test {
  protected:
    std::uint64_t drain(RawMember& member) {
        std::uint64_t records = 0;
        while (member.ring.next()) {
            ++records;
        }
        member.ring.release();
        return records;
    }
    const std::string name_ = unique_name("forged");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
};

TEST_F(Forged, PositionBeyondWhatWasProducedIsIgnoredAndCounted) {
    RawMember member(name_, kPage);
    producer_.publish({.group = group_, .count = 10});
    for (const std::uint64_t ahead :
         {std::uint64_t{8}, std::uint64_t{kPage}, std::uint64_t{1} << 40, std::uint64_t{1} << 63,
          ~std::uint64_t{0} - (10 * 88)}) {
        const std::uint64_t before = counter(member.socket, NLMMAP_A_FORGED);
        member.ring.forge(member.ring.produced() + ahead);
        EXPECT_EQ(counter(member.socket, NLMMAP_A_FORGED), before + 1) << "ahead by " << ahead;
        EXPECT_EQ(counter(member.socket, NLMMAP_A_CONSUMED), 0U);
    }
    // Honest again: nothing was lost, everything is still there.
    member.ring.forge(0);
    EXPECT_EQ(drain(member), 10U);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_CONSUMED), 10U * 88);
    producer_.publish({.group = group_, .count = 40});
    EXPECT_EQ(drain(member), 40U);
    EXPECT_EQ(member.ring.lost(), 0U);
}

TEST_F(Forged, PositionBackwardsDoesNotUndoWhatWasGivenBack) {
    RawMember member(name_, kPage);
    producer_.publish({.group = group_, .count = 30});
    EXPECT_EQ(drain(member), 30U);
    ASSERT_EQ(counter(member.socket, NLMMAP_A_CONSUMED), 30U * 88);
    member.ring.forge(0);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_FORGED), 1U) << "back to the beginning";
    EXPECT_EQ(counter(member.socket, NLMMAP_A_CONSUMED), 30U * 88);
    member.ring.forge(88);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_FORGED), 2U);
    // The room that it gave back is used all the same.
    EXPECT_EQ(producer_.publish({.group = group_, .count = 40}).delivered, 40U);
    EXPECT_EQ(drain(member), 40U);
}

TEST_F(Forged, PositionInTheMiddleOfARecordGivesBackJustThatMuch) {
    RawMember member(name_, kPage);
    producer_.publish({.group = group_, .count = 45});
    member.ring.forge(13);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_CONSUMED), 13U) << "a step forward is a step forward";
    EXPECT_EQ(producer_.publish({.group = group_}).delivered, 0U);
    member.ring.forge(88);
    EXPECT_EQ(producer_.publish({.group = group_}).delivered, 1U);
}

TEST_F(Forged, PositionsNeverLetTheProducerPassTheEndOfTheRing) {
    RawMember liar(name_, kPage);
    RawMember honest(name_, kPage * 16);
    // More than the ring holds, while the reader says that it read all and more.
    for (std::uint64_t i = 0; i < 200; ++i) {
        liar.ring.forge(~std::uint64_t{0} - i * 8);
        producer_.publish({.group = group_, .first_number = i});
    }
    EXPECT_LE(liar.ring.produced(), kPage);
    Check check({.group = group_, .count = 200});
    while (const auto record = honest.ring.next()) {
        check.message(record->message());
    }
    EXPECT_EQ(check.received(), 200U);
    EXPECT_EQ(honest.ring.lost(), 0U);
    // The liar's own accounts are right, too.
    EXPECT_EQ(drain(liar) + liar.ring.lost(), 200U);
}

TEST_F(Forged, PositionsWhileMessagesFlowHurtOnlyTheForger) {
    RawMember honest1(name_, 1 << 20);
    RawMember forger(name_, kPage);
    RawMember honest2(name_, 1 << 20);
    std::atomic<bool> stop{false};
    auto forging = std::async(std::launch::async, [&] {
        std::uint64_t state = 88172645463325252ULL;
        std::uint64_t forgeries = 0;
        while (!stop) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            const std::uint64_t produced = forger.ring.produced();
            const std::uint64_t nonsense[] = {
                state, produced + state % 8192, produced - state % 8192, produced,
                0,     std::uint64_t{1} << 63};
            forger.ring.forge(nonsense[state % std::size(nonsense)]);
            forger.ring.set_watermark(static_cast<std::uint32_t>(state));
            forger.ring.consumer().lost_seen = state;
            if (state % 16 == 0) {
                poll_now(forger.socket.fd(), POLLIN);
            }
            ++forgeries;
        }
        return forgeries;
    });
    for (const bool in_place : {false, true}) {
        const Order order{.group = group_,
                          .count = 800,
                          .min_bytes = 8,
                          .max_bytes = 200,
                          .in_place = in_place,
                          .context = NLMMAP_TEST_KTHREAD,
                          .producers = 4};
        producer_.publish(order);
        for (RawMember* member : {&honest1, &honest2}) {
            Check check(order);
            while (const auto record = member->ring.next()) {
                check.message(record->message());
            }
            member->ring.release();
            EXPECT_EQ(check.received(), order.count * order.producers);
            EXPECT_EQ(member->ring.lost(), 0U);
        }
    }
    stop = true;
    EXPECT_GT(forging.get(), 0U);
    const Outcome info = forger.socket.info();
    ASSERT_TRUE(succeeded(info));
    const Reply& reply = info.replies.at(0);
    EXPECT_EQ(reply.get<std::uint64_t>(NLMMAP_A_SEQ), 2U * 800 * 4) << "seq is the kernel's own";
    EXPECT_LE(
        *reply.get<std::uint64_t>(NLMMAP_A_PRODUCED) - *reply.get<std::uint64_t>(NLMMAP_A_CONSUMED),
        kPage);
    EXPECT_GT(*reply.get<std::uint64_t>(NLMMAP_A_FORGED), 0U);
    // And it may come back to honesty: from where the kernel stands it goes on.
    forger.ring.forge(forger.ring.produced());
    forger.ring.set_watermark(0);
    EXPECT_EQ(producer_.publish({.group = group_, .count = 20}).delivered, 60U);
}

TEST_F(Forged, WordsDoNotKeepTheKernelFromTellingThatAGroupIsGone) {
    RawMember member(name_, kPage);
    producer_.publish({.group = group_, .count = 100});
    member.ring.forge(~std::uint64_t{0});
    member.ring.set_watermark(0xffffffff);
    member.ring.consumer().reserved = 0xffffffff;
    producer_.remove_group(group_);
    std::uint16_t last = 0;
    while (const auto record = member.ring.next()) {
        last = record->message()->nlmsg_type;
    }
    EXPECT_EQ(last, NLMMAP_MSG_GROUP_DELETED);
}

TEST_F(Forged, WatermarksDoNotKeepAReaderFromBeingWoken) {
    RawMember member(name_, kPage);
    for (const std::uint32_t watermark : {0U, 1U, 0x7fffffffU, 0xffffffffU}) {
        member.ring.set_watermark(watermark);
        auto sleeper = Sleeper::make(Way::poll, member.socket.fd());
        auto woken = std::async(std::launch::async,
                                [&] { return sleeper->sleep(std::chrono::seconds(30)); });
        producer_.publish({.group = group_, .count = 60});
        EXPECT_TRUE(woken.get()) << watermark;
        drain(member);
    }
}

}  // namespace
}  // namespace guest
