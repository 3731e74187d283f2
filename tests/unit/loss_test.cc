// SPDX-License-Identifier: MIT
// Nothing is lost while the ring has room, and what is lost is counted and located exactly.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <random>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using unit::message;

constexpr std::size_t kPage = 4096;

TEST(Loss, CountsExactlyWhatTheBurstLost) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    std::uint64_t taken = 0;
    for (std::uint64_t number = 0; number < 1000; ++number)
        taken += kernel.publish(message(number, 64)) ? 1 : 0;
    ASSERT_LT(taken, 1000U);
    // A record takes 88 bytes; the ring keeps room for one notice.
    EXPECT_EQ(taken, (kPage - 64) / 88);

    std::uint64_t seq = 0;
    for (const Record& record : receiver.read()) {
        EXPECT_EQ(record.seq(), ++seq);
        EXPECT_EQ(record.lost_before(), 0U) << "the newest are lost, not the oldest";
    }
    EXPECT_EQ(seq, taken);
    EXPECT_EQ(receiver.lost(), 1000 - taken) << "a lost tail shows in lost()";

    ASSERT_TRUE(kernel.publish(message(1000, 64)));
    for (const Record& record : receiver.read()) {
        EXPECT_EQ(record.seq(), 1001U);
        EXPECT_EQ(record.lost_before(), 1000 - taken);
    }
    EXPECT_EQ(receiver.lost(), 1000 - taken);
}

TEST(Loss, IsLocatedBetweenTheRecordsThatItHit) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    std::mt19937 random(7);
    std::vector<bool> taken;
    std::uint64_t received = 0;
    std::uint64_t lost = 0;
    for (int round = 0; round < 2000; ++round) {
        const auto burst = static_cast<unsigned>(random() % 60);
        for (unsigned i = 0; i < burst; ++i)
            taken.push_back(kernel.publish(message(taken.size(), 16 + random() % 200)));
        // Sometimes not everything is read before the next burst.
        auto reads = static_cast<unsigned>(random() % 80);
        for (const Record& record : receiver.read()) {
            const std::uint64_t number = record.seq() - 1;
            ASSERT_LT(number, taken.size());
            ASSERT_TRUE(taken[number]) << "record " << record.seq() << " was refused, but arrived";
            std::uint64_t missing = 0;
            while (missing < number && !taken[number - 1 - missing]) ++missing;
            ASSERT_EQ(record.lost_before(), missing) << "before record " << record.seq();
            for (const Message& one : record) ASSERT_EQ(one.portid(), number);
            ++received;
            lost += missing;
            if (reads-- == 0) break;
        }
        ASSERT_GE(receiver.lost(), lost);
    }
    for (const Record& record : receiver.read()) {
        ++received;
        lost += record.lost_before();
    }
    std::uint64_t tail = 0;
    while (tail < taken.size() && !taken[taken.size() - 1 - tail]) ++tail;
    EXPECT_EQ(receiver.lost(), lost + tail);
    EXPECT_EQ(received + lost + tail, taken.size());
    EXPECT_GT(lost, 0U) << "the test meant to overflow the ring";
}

TEST(Loss, LeavesNoTraceOnceItWasTold) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    kernel.count_loss(3);
    ASSERT_TRUE(kernel.publish(message(0, 32)));
    ASSERT_TRUE(kernel.publish(message(1, 32)));
    kernel.count_loss(1);
    kernel.count_loss(41);
    ASSERT_TRUE(kernel.publish(message(2, 32)));
    std::vector<std::uint64_t> before;
    for (const Record& record : receiver.read()) before.push_back(record.lost_before());
    EXPECT_EQ(before, (std::vector<std::uint64_t>{3, 0, 42}));
    EXPECT_EQ(receiver.lost(), 45U);
}

TEST(Loss, WakesAReaderOfAnEmptyRingOnce) {
    using std::chrono::nanoseconds;
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    EXPECT_EQ(receiver.wait(nanoseconds(0)), Wait::timed_out);
    kernel.count_loss(5);
    ASSERT_EQ(receiver.wait(), Wait::readable);
    EXPECT_TRUE(receiver.read().empty());
    EXPECT_EQ(receiver.lost(), 5U);
    EXPECT_EQ(receiver.wait(nanoseconds(0)), Wait::timed_out) << "it was told, and spins";
}

TEST(Loss, OfAMessageTooLargeIsAnErrorOfThePublisherAlone) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (const std::size_t bytes : {kPage / 4 + 1, kPage, 10 * kPage}) {
        try {
            static_cast<void>(kernel.publish(message(0, bytes)));
            FAIL() << bytes << " bytes were taken";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), std::errc::message_size) << error.what();
        }
    }
    EXPECT_EQ(receiver.lost(), 0U);
    EXPECT_EQ(receiver.pending_bytes(), 0U);
}

TEST(Loss, CountsOnThroughEarlyLeaves) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (int record = 0; record < 8; ++record) {
        if (record % 2 == 1) kernel.count_loss(static_cast<std::uint32_t>(record));
        ASSERT_TRUE(kernel.publish(message(0, 32)));
    }
    std::vector<std::uint64_t> before;
    while (receiver.pending_bytes() != 0) {
        for (const Record& record : receiver.read()) {
            before.push_back(record.lost_before());
            break;
        }
    }
    EXPECT_EQ(before, (std::vector<std::uint64_t>{0, 1, 0, 3, 0, 5, 0, 7}));
}

}  // namespace
}  // namespace nlmmap
