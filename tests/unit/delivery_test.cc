// SPDX-License-Identifier: MIT
// What arrives is what was published: byte for byte, in order, at every size, however often the
// ring wraps.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using unit::message;
using unit::raw_datagram;
using unit::same;

constexpr std::size_t kPage = 4096;

// The number of messages in a record; the last one's bytes go to `last`.
int count_messages(const Record& record, std::span<const std::byte>* last = nullptr) {
    int count = 0;
    for (const Message& message : record) {
        ++count;
        if (last != nullptr) *last = message.bytes();
    }
    return count;
}

TEST(Delivery, IsByteForByteAtEverySizeFromNothingToTheLimit) {
    constexpr std::size_t ring_bytes = 16 * kPage;
    Loopback kernel({.ring_bytes = ring_bytes});
    Receiver receiver = kernel.receiver();
    std::uint64_t seq = 0;
    constexpr std::size_t step = unit::kSanitized ? 7 : 1;
    for (std::size_t bytes = 0; bytes <= ring_bytes / 4; bytes += bytes < 256 ? 1 : step) {
        const std::vector<std::byte> datagram = raw_datagram(bytes, bytes);
        ASSERT_TRUE(kernel.publish(datagram)) << bytes << " bytes";
        int records = 0;
        for (const Record& record : receiver.read()) {
            ++records;
            ASSERT_TRUE(same(record.bytes(), datagram)) << bytes << " bytes";
            ASSERT_EQ(record.seq(), ++seq);
            ASSERT_EQ(count_messages(record), 0) << "nonsense was taken for a message";
        }
        ASSERT_EQ(records, 1) << bytes << " bytes";
    }
    EXPECT_EQ(receiver.lost(), 0U);
}

TEST(Delivery, IsByteForByteForMessagesOfManySizes) {
    constexpr std::size_t ring_bytes = 16 * kPage;
    Loopback kernel({.ring_bytes = ring_bytes});
    Receiver receiver = kernel.receiver();
    for (std::size_t bytes = NLMSG_HDRLEN; bytes <= ring_bytes / 4; bytes += 1 + bytes / 512) {
        ASSERT_TRUE(kernel.publish(message(bytes, bytes)));
        for (const Record& record : receiver.read()) {
            std::span<const std::byte> last;
            ASSERT_EQ(count_messages(record, &last), 1) << bytes << " bytes";
            ASSERT_TRUE(same(last, message(bytes, bytes))) << bytes << " bytes";
        }
    }
}

TEST(Delivery, TakesTheLargestMessageThereIs) {
    Loopback kernel({.ring_bytes = 1 << 20});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(1, NLMMAP_MESSAGE_MAX)));
    for (const Record& record : receiver.read())
        EXPECT_TRUE(same(record.bytes(), message(1, NLMMAP_MESSAGE_MAX)));
}

TEST(Delivery, KeepsOrderAndBytesThroughAMillionWraps) {
    constexpr std::uint64_t wraps = unit::kSanitized ? 20'000 : 1'000'000;
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    // Sizes that put records across the end of the ring at ever different places.
    std::vector<std::vector<std::byte>> sent;
    for (std::size_t bytes = 1024; bytes > 900; bytes -= 4) sent.push_back(message(bytes, bytes));

    std::uint64_t published = 0;
    std::uint64_t received = 0;
    while (kernel.info().produced < wraps * kPage) {
        for (int burst = 0; burst < 3; ++burst)
            ASSERT_TRUE(kernel.publish(sent[published++ % sent.size()])) << "record " << published;
        for (const Record& record : receiver.read()) {
            const std::vector<std::byte>& expected = sent[received++ % sent.size()];
            ASSERT_EQ(record.seq(), received);
            ASSERT_EQ(record.bytes().size(), expected.size());
            ASSERT_EQ(std::memcmp(record.bytes().data(), expected.data(), expected.size()), 0)
                << "record " << received;
        }
    }
    EXPECT_EQ(received, published);
    EXPECT_EQ(receiver.lost(), 0U);
}

TEST(Delivery, SplitsADatagramIntoItsMessages) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    std::vector<std::byte> datagram;
    const std::vector<std::size_t> sizes = {16, 17, 64, 19, 40};  // some need padding
    for (const std::size_t bytes : sizes) {
        const std::vector<std::byte> one = message(bytes, bytes);
        datagram.insert(datagram.end(), one.begin(), one.end());
        datagram.resize(NLMSG_ALIGN(datagram.size()));
    }
    ASSERT_TRUE(kernel.publish(datagram));
    for (const Record& record : receiver.read()) {
        std::size_t at = 0;
        for (const Message& part : record) {
            ASSERT_LT(at, sizes.size());
            EXPECT_TRUE(same(part.bytes(), message(sizes[at], sizes[at])));
            EXPECT_EQ(part.type(), unit::kType);
            ++at;
        }
        EXPECT_EQ(at, sizes.size());
    }
}

TEST(Delivery, TellsGroupAndSender) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(0, 32), 1));
    ASSERT_TRUE(kernel.publish(message(1, 32), 1023));
    std::vector<std::uint16_t> groups;
    for (const Record& record : receiver.read()) {
        groups.push_back(record.group());
        EXPECT_EQ(record.portid(), 0U);
        EXPECT_EQ(record.nsid(), -1);
        EXPECT_FALSE(record.is_notice());
        EXPECT_EQ(record.time(), std::nullopt) << "nobody asked for timestamps";
    }
    EXPECT_EQ(groups, (std::vector<std::uint16_t>{1, 1023}));
}

TEST(Delivery, StampsRecordsOnRequest) {
    Loopback kernel({.ring_bytes = kPage, .timestamps = true});
    Receiver receiver = kernel.receiver();
    const auto now = [] {
        timespec time{};
        ::clock_gettime(CLOCK_BOOTTIME, &time);
        return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    };
    auto earliest = now();
    for (std::uint64_t number = 0; number < 100; ++number) {
        ASSERT_TRUE(kernel.publish(message(number, 64 + number)));
        const auto latest = now();
        for (const Record& record : receiver.read()) {
            ASSERT_TRUE(record.time().has_value());
            EXPECT_GE(*record.time(), earliest);
            EXPECT_LE(*record.time(), latest);
            EXPECT_TRUE(same(record.bytes(), message(number, 64 + number)));
            earliest = *record.time();
        }
    }
}

TEST(Delivery, CopiesOutliveTheRing) {
    std::vector<OwnedMessage> kept;
    {
        Loopback kernel({.ring_bytes = kPage});
        Receiver receiver = kernel.receiver();
        for (std::uint64_t number = 0; number < 5; ++number)
            ASSERT_TRUE(kernel.publish(message(number, 50 + number)));
        for (const Record& record : receiver.read())
            for (const Message& one : record) kept.push_back(one.copy());
    }
    ASSERT_EQ(kept.size(), 5U);
    for (std::uint64_t number = 0; number < 5; ++number)
        EXPECT_TRUE(same(kept[number].view().bytes(), message(number, 50 + number)));
}

TEST(Delivery, GoesOnInAMovedReceiver) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver first = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(1, 32)));
    Receiver second = std::move(first);
    ASSERT_TRUE(kernel.publish(message(2, 32)));
    std::uint64_t seq = 0;
    for (const Record& record : second.read()) EXPECT_EQ(record.seq(), ++seq);
    EXPECT_EQ(seq, 2U);
}

}  // namespace
}  // namespace nlmmap
