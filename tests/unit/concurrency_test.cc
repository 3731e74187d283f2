// SPDX-License-Identifier: MIT
// Several producers at once, and a reader's page that is written by somebody hostile.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <random>
#include <thread>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using namespace std::chrono_literals;
using testing::Loopback;
using unit::message;
using unit::same;

constexpr std::size_t kPage = 4096;

// Producer p's n-th message, told apart by portid(), and of a size of its own.
std::uint64_t number_of(unsigned producer, std::uint64_t n) { return (n << 3) | producer; }
std::size_t bytes_of(std::uint64_t number) { return 16 + (number * 37) % 240; }

class Producers : public ::testing::TestWithParam<unsigned> {};

TEST_P(Producers, AreHeardInOrderAndEveryLossIsTold) {
    const unsigned producers = GetParam();
    constexpr std::uint64_t each = unit::kSanitized ? 20'000 : 200'000;
    Loopback kernel({.ring_bytes = 4 * kPage});
    Receiver receiver = kernel.receiver();
    std::vector<std::vector<bool>> taken(producers, std::vector<bool>(each));
    std::vector<std::vector<bool>> heard(producers, std::vector<bool>(each));
    std::atomic<unsigned> running = producers;

    std::uint64_t received = 0;
    std::uint64_t lost = 0;
    std::uint64_t last_seq = 0;
    {
        std::vector<std::jthread> threads;
        threads.reserve(4);
        for (unsigned producer = 0; producer < producers; ++producer)
            threads.emplace_back([&, producer] {
                for (std::uint64_t n = 0; n < each; ++n) {
                    const std::uint64_t number = number_of(producer, n);
                    taken[producer][n] = kernel.publish(message(number, bytes_of(number)));
                }
                --running;
            });

        std::vector<std::uint64_t> next(producers);
        bool last_round = false;
        while (!last_round) {
            last_round = running == 0;
            ASSERT_NE(receiver.wait(1ms), Wait::group_gone);
            for (const Record& record : receiver.read()) {
                ASSERT_EQ(record.seq(), last_seq + 1 + record.lost_before());
                last_seq = record.seq();
                lost += record.lost_before();
                ++received;
                for (const Message& one : record) {
                    const unsigned producer = one.portid() & 7;
                    const std::uint64_t n = one.portid() >> 3;
                    ASSERT_LT(producer, producers);
                    ASSERT_GE(n, next[producer]) << "out of order";
                    next[producer] = n + 1;
                    const std::uint64_t number = number_of(producer, n);
                    ASSERT_TRUE(same(one.bytes(), message(number, bytes_of(number))));
                    heard[producer][n] = true;
                }
            }
        }
    }
    EXPECT_EQ(taken, heard) << "what was taken and what was heard differ";
    EXPECT_EQ(received + receiver.lost(), producers * each);
    EXPECT_LE(lost, receiver.lost());
    EXPECT_EQ(kernel.info().seq, producers * each);
}

INSTANTIATE_TEST_SUITE_P(OneAndFour, Producers, ::testing::Values(1U, 4U));

TEST(Producers, LoseNothingWhileTheRingHasRoom) {
    constexpr std::uint64_t each = 10'000;
    Loopback kernel({.ring_bytes = 8 << 20});
    Receiver receiver = kernel.receiver();
    {
        std::vector<std::jthread> threads;
        threads.reserve(4);
        for (unsigned producer = 0; producer < 4; ++producer)
            threads.emplace_back([&, producer] {
                for (std::uint64_t n = 0; n < each; ++n)
                    EXPECT_TRUE(kernel.publish(message(number_of(producer, n), 64)));
            });
    }
    std::uint64_t received = 0;
    for (const Record& record : receiver.read()) ASSERT_EQ(record.seq(), ++received);
    EXPECT_EQ(received, 4 * each);
    EXPECT_EQ(receiver.lost(), 0U);
}

TEST(Hostile, PositionsBackwardsAreNotAccepted) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(kernel.publish(message(0, 64)));
    for (const Record& record : receiver.read()) ASSERT_GT(record.seq(), 0U);
    const std::uint64_t consumed = kernel.info().consumed;
    ASSERT_EQ(consumed, 10 * 88U);
    std::uint64_t forged = 0;
    for (const std::uint64_t position : {std::uint64_t{0}, std::uint64_t{8}, consumed - 1}) {
        kernel.forge_consumer_position(position);
        EXPECT_EQ(kernel.info().consumed, consumed);
        EXPECT_EQ(kernel.info().forged, ++forged) << "position " << position;
        EXPECT_EQ(kernel.info().forged, forged) << "counted twice";
    }
}

TEST(Hostile, PositionsBeyondWhatWasProducedAreNotAccepted) {
    Loopback kernel({.ring_bytes = kPage});
    const Receiver receiver = kernel.receiver();
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(kernel.publish(message(0, 64)));
    std::uint64_t forged = 0;
    for (const std::uint64_t position :
         {std::uint64_t{10 * 88 + 1}, std::uint64_t{kPage}, std::uint64_t{1} << 63, UINT64_MAX}) {
        kernel.forge_consumer_position(position);
        EXPECT_EQ(kernel.info().consumed, 0U) << "position " << position;
        EXPECT_EQ(kernel.info().forged, ++forged);
    }
    // What was reserved stays so: the ring still takes exactly what fits.
    std::uint64_t taken = 10;
    while (kernel.publish(message(0, 64))) ++taken;
    EXPECT_EQ(taken, (kPage - 64) / 88);
    EXPECT_EQ(kernel.info().produced, taken * 88);
}

TEST(Hostile, RandomPositionsWhileMessagesFlowHurtNobodyElse) {
    constexpr std::uint64_t messages = unit::kSanitized ? 30'000 : 300'000;
    Loopback victim({.ring_bytes = kPage});
    Loopback honest({.ring_bytes = kPage});
    Receiver receiver = honest.receiver();
    std::atomic<bool> done = false;
    std::jthread forger([&] {
        std::mt19937_64 random(11);
        while (!done) {
            // Anything; near what is true; and the truth.
            const std::uint64_t produced = victim.info().produced;
            switch (random() % 3) {
                case 0:
                    victim.forge_consumer_position(random());
                    break;
                case 1:
                    victim.forge_consumer_position(produced - kPage + random() % (2 * kPage));
                    break;
                default:
                    victim.forge_consumer_position(produced);
                    break;
            }
        }
    });
    std::uint64_t consumed = 0;
    std::uint64_t heard = 0;
    for (std::uint64_t n = 0; n < messages; ++n) {
        static_cast<void>(victim.publish(message(n, 64)));
        ASSERT_TRUE(honest.publish(message(n, 64)));
        if (n % 16 != 0) continue;
        const SocketInfo info = victim.info();
        ASSERT_GE(info.consumed, consumed) << "a position went backwards";
        ASSERT_LE(info.consumed, info.produced);
        ASSERT_LE(info.produced - info.consumed, kPage) << "unread records were overwritten";
        ASSERT_EQ(info.seq, n + 1);
        consumed = info.consumed;
        for (const Record& record : receiver.read())
            for (const Message& one : record)
                ASSERT_EQ(one.portid(), static_cast<std::uint32_t>(heard++));
    }
    done = true;
    EXPECT_GT(victim.info().forged, 0U);
}

TEST(Hostile, AReaderThatComesToItsSensesGoesOn) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (std::uint64_t round = 0; round < 200; ++round) {
        ASSERT_TRUE(kernel.publish(message(round, 512)));
        kernel.forge_consumer_position(UINT64_MAX - round);
        // Each read() ends with a true position, which is accepted again.
        for (const Record& record : receiver.read()) ASSERT_EQ(record.seq(), round + 1);
    }
    EXPECT_EQ(receiver.lost(), 0U);
}

}  // namespace
}  // namespace nlmmap
