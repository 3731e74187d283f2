// SPDX-License-Identifier: MIT
// When space is given back, and what leaving the loop means.
#include <gtest/gtest.h>

#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <stdexcept>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using unit::message;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kRecordBytes = 24 + 40;

class Batches : public ::testing::Test {
  protected:
    void publish(std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) ASSERT_TRUE(kernel.publish(message(i, 40)));
    }
    // The numbers of what the next read() gives, read to the end.
    std::vector<std::uint64_t> rest() {
        std::vector<std::uint64_t> numbers;
        for (const Record& record : receiver.read()) numbers.push_back(record.seq());
        return numbers;
    }

    Loopback kernel{{.ring_bytes = kPage}};
    Receiver receiver = kernel.receiver();
};

TEST_F(Batches, AreEmptyOnAnEmptyRing) {
    EXPECT_TRUE(receiver.read().empty());
    for (const Record& record : receiver.read()) FAIL() << "record " << record.seq();
    EXPECT_EQ(kernel.info().consumed, 0U);
}

TEST_F(Batches, GiveEverythingBackAtTheEnd) {
    publish(5);
    EXPECT_EQ(receiver.pending_bytes(), 5 * kRecordBytes);
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{1, 2, 3, 4, 5}));
    EXPECT_EQ(receiver.pending_bytes(), 0U);
    EXPECT_EQ(kernel.info().consumed, 5 * kRecordBytes);
}

TEST_F(Batches, GiveSpaceBackEveryEighthWhileTheLoopAdvances) {
    publish(60);
    std::uint64_t before = 0;
    std::uint64_t reached = 0;
    for (const Record& record : receiver.read()) {
        const std::uint64_t consumed = kernel.info().consumed;
        EXPECT_GE(consumed, before);
        EXPECT_LE(consumed, reached * kRecordBytes) << "a record in use was given back";
        EXPECT_LT(reached * kRecordBytes - consumed, kPage / 8 + kRecordBytes)
            << "more than an eighth is held back at record " << record.seq();
        before = consumed;
        ++reached;
    }
    EXPECT_GT(before, 0U);
}

TEST_F(Batches, LetAFullRingTakeMoreWhileTheyAreRead) {
    while (kernel.publish(message(0, 40))) continue;
    bool took = false;
    for (const Record& record : receiver.read()) {
        if (took) continue;
        took = kernel.publish(message(0, 40));
        EXPECT_FALSE(took && record.seq() <= 2) << "nothing was given back yet";
    }
    EXPECT_TRUE(took);
}

TEST_F(Batches, KeepWhatABreakDidNotReach) {
    publish(10);
    for (const Record& record : receiver.read())
        if (record.seq() == 3) break;
    EXPECT_EQ(receiver.pending_bytes(), 7 * kRecordBytes);
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{4, 5, 6, 7, 8, 9, 10}));
}

TEST_F(Batches, KeepWhatAnExceptionDidNotReach) {
    publish(10);
    const auto handle = [](const Record& record) {
        if (record.seq() == 6) throw std::runtime_error("cannot handle it");
    };
    EXPECT_THROW(
        {
            for (const Record& record : receiver.read()) handle(record);
        },
        std::runtime_error);
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{7, 8, 9, 10}));
}

TEST_F(Batches, KeepEverythingIfTheLoopNeverBegan) {
    publish(3);
    {
        const Batch batch = receiver.read();
    }
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST_F(Batches, KeepTheCurrentRecordOnRequest) {
    publish(2);
    kernel.count_loss(9);
    publish(4);
    Batch* current = nullptr;
    {
        Batch batch = receiver.read();
        current = &batch;
        for (const Record& record : batch) {
            if (record.lost_before() != 9) continue;
            current->keep_current();
            break;
        }
    }
    std::vector<std::uint64_t> lost;
    std::vector<std::uint64_t> numbers;
    for (const Record& record : receiver.read()) {
        numbers.push_back(record.seq());
        lost.push_back(record.lost_before());
    }
    EXPECT_EQ(numbers, (std::vector<std::uint64_t>{12, 13, 14, 15}));
    EXPECT_EQ(lost, (std::vector<std::uint64_t>{9, 0, 0, 0}));
}

TEST_F(Batches, DoNotKeepARecordThatTheLoopWentPast) {
    publish(4);
    {
        Batch batch = receiver.read();
        for (const Record& record : batch) {
            if (record.seq() == 2) batch.keep_current();
            if (record.seq() == 3) break;
        }
    }
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{4}));
}

TEST_F(Batches, EndWhereTheRingWasWhenTheyWereRead) {
    publish(2);
    std::uint64_t last = 0;
    for (const Record& record : receiver.read()) {
        last = record.seq();
        if (last < 20) publish(1);
    }
    EXPECT_EQ(last, 2U) << "a loop that publishes would never end";
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{3, 4}));
}

TEST_F(Batches, MayBeLeftAtEveryRecordThroughManyWraps) {
    std::uint64_t seen = 0;
    for (std::uint64_t round = 0; round < 5000; ++round) {
        publish(1 + round % 7);
        std::uint64_t left = 1 + round % 5;
        for (const Record& record : receiver.read()) {
            ASSERT_EQ(record.seq(), ++seen);
            ASSERT_TRUE(record.lost_before() == 0);
            if (--left == 0) break;
        }
        if (receiver.pending_bytes() <= kPage / 2) continue;
        for (const Record& record : receiver.read()) ASSERT_EQ(record.seq(), ++seen);
    }
}

using BatchesDeathTest = Batches;

TEST_F(BatchesDeathTest, AreOneAtATime) {
    publish(3);
    const auto two_at_once = [&] {
        const Batch first = receiver.read();
        const Batch second = receiver.read();
        return second.empty() && !first.empty();
    };
#ifdef NDEBUG
    EXPECT_TRUE(two_at_once());
#else
    EXPECT_DEATH(static_cast<void>(two_at_once()), "last Batch is still alive");
#endif
    EXPECT_EQ(rest(), (std::vector<std::uint64_t>{1, 2, 3}));
}

}  // namespace
}  // namespace nlmmap
