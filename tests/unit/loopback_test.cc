// SPDX-License-Identifier: MIT
// The loopback kernel itself: filling in place, and what it refuses.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <optional>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using testing::Writer;
using unit::message;

constexpr std::size_t kPage = 4096;

int errno_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.code().value();
    }
    return 0;
}

TEST(Loopback, RefusesSizesThatTheModuleRefuses) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, kPage - 1, kPage / 2, kPage + 1,
                                    3 * kPage, std::size_t{1000000}})
        EXPECT_EQ(errno_of([&] { const Loopback kernel({.ring_bytes = bytes}); }), EINVAL) << bytes;
    EXPECT_EQ(errno_of([] { const Loopback kernel({.ring_bytes = kPage}); }), 0);
}

TEST(Loopback, HasOneReceiver) {
    Loopback kernel({.ring_bytes = kPage});
    const Receiver receiver = kernel.receiver();
    EXPECT_EQ(errno_of([&] { const Receiver second = kernel.receiver(); }), EBUSY);
}

TEST(Loopback, HasNoSocketAndNoOtherGroups) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    EXPECT_EQ(errno_of([&] { static_cast<void>(receiver.socket()); }), EOPNOTSUPP);
    EXPECT_EQ(errno_of([&] { receiver.join_group("other"); }), EOPNOTSUPP);
    EXPECT_EQ(errno_of([&] { receiver.leave_group("loopback"); }), EOPNOTSUPP);
}

TEST(Loopback, IsOutlivedByItsReceiver) {
    std::optional<Receiver> receiver;
    {
        Loopback kernel({.ring_bytes = kPage});
        receiver.emplace(kernel.receiver());
        ASSERT_TRUE(kernel.publish(message(0, 64)));
    }
    EXPECT_EQ(receiver->wait(), Wait::readable);
    int records = 0;
    for (const Record& record : receiver->read()) records += record.bytes().size() == 64 ? 1 : 0;
    EXPECT_EQ(records, 1);
    EXPECT_EQ(receiver->wait(std::chrono::nanoseconds(0)), Wait::timed_out);
}

TEST(Loopback, FillsAMessageInPlace) {
    for (const bool timestamps : {false, true}) {
        Loopback kernel({.ring_bytes = kPage, .timestamps = timestamps});
        Receiver receiver = kernel.receiver();
        // Leftovers of earlier laps must not show in the padding.
        for (int lap = 0; lap < 20; ++lap) {
            ASSERT_TRUE(kernel.publish(unit::raw_datagram(255, 900)));
            for (const Record& record : receiver.read()) ASSERT_EQ(record.lost_before(), 0U);
        }
        Writer writer = kernel.begin(unit::kType, 256);
        ASSERT_TRUE(writer);
        auto* header = static_cast<std::uint8_t*>(writer.put_fixed(3));
        ASSERT_NE(header, nullptr);
        header[0] = header[1] = header[2] = 0xAB;
        EXPECT_TRUE(writer.put(1, std::uint64_t{1} << 40));
        EXPECT_TRUE(writer.put(2, std::as_bytes(std::span("comm", 5))));
        EXPECT_EQ(receiver.pending_bytes(), 0U) << "half a message is visible";
        ASSERT_TRUE(writer.end());
        int messages = 0;
        for (const Record& record : receiver.read()) {
            // The wire contract: a record is padded with zeroes to a multiple of 8.
            for (std::size_t at = record.bytes().size(); at % 8 != 0; ++at)
                EXPECT_EQ(record.bytes().data()[at], std::byte{0}) << "leftovers are visible";
            for (const Message& one : record) {
                ++messages;
                EXPECT_EQ(one.type(), unit::kType);
                EXPECT_EQ(one.seq(), 0U);
                EXPECT_EQ(one.payload()[3], std::byte{0}) << "padding";
                EXPECT_EQ(one.bytes().size(), 16U + 4 + 12 + 12);
                const Attributes attributes = one.attributes(3);
                for (const Attribute& attribute : attributes) {
                    if (attribute.type() == 1) {
                        EXPECT_EQ(attribute.as<std::uint64_t>(), std::uint64_t{1} << 40);
                    } else {
                        EXPECT_EQ(attribute.string(), "comm");
                    }
                }
            }
        }
        EXPECT_EQ(messages, 1);
    }
}

TEST(Loopback, LosesWhatOverflowsInPlaceAndSaysSo) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    {
        Writer writer = kernel.begin(unit::kType, 32);
        ASSERT_TRUE(writer);
        EXPECT_TRUE(writer.put(1, std::uint64_t{1}));
        EXPECT_FALSE(writer.put(2, std::uint64_t{2})) << "8 + 4 bytes are over 32 - 16 - 12";
        EXPECT_FALSE(writer.end());
    }
    EXPECT_EQ(receiver.lost(), 1U);
    {
        const Writer abandoned = kernel.begin(unit::kType, 32);
        ASSERT_TRUE(abandoned);
    }
    EXPECT_EQ(receiver.lost(), 2U);
    ASSERT_TRUE(kernel.publish(message(0, 16)));
    for (const Record& record : receiver.read()) EXPECT_EQ(record.lost_before(), 2U);
}

TEST(Loopback, HasNothingToFillWithoutRoom) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    while (kernel.publish(message(0, 1024))) continue;
    while (kernel.publish(message(0, 16))) continue;
    const std::uint64_t lost = receiver.lost();
    Writer writer = kernel.begin(unit::kType, 64);
    EXPECT_FALSE(writer);
    EXPECT_EQ(writer.put_fixed(4), nullptr);
    EXPECT_FALSE(writer.put(1, 5));
    EXPECT_FALSE(writer.end());
    EXPECT_EQ(receiver.lost(), lost + 1);
}

TEST(Loopback, RefusesAMessageThatCannotBe) {
    Loopback kernel({.ring_bytes = kPage});
    EXPECT_EQ(errno_of([&] { const Writer writer = kernel.begin(1, 15); }), EINVAL);
    EXPECT_EQ(errno_of([&] { const Writer writer = kernel.begin(1, kPage / 4 + 1); }), EMSGSIZE);
    kernel.delete_group();
    kernel.delete_group();
    EXPECT_EQ(errno_of([&] { const Writer writer = kernel.begin(1, 16); }), ENOENT);
    EXPECT_EQ(errno_of([&] { static_cast<void>(kernel.publish(message(0, 16))); }), ENOENT);
}

TEST(Loopback, CountsWhatTheModuleCounts) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(kernel.publish(message(0, 64)));
    for (const Record& record : receiver.read())
        if (record.seq() == 10) break;
    const SocketInfo info = kernel.info();
    EXPECT_EQ(info.abi_version, static_cast<std::uint32_t>(NLMMAP_ABI_VERSION));
    EXPECT_EQ(info.rx_bytes, kPage);
    EXPECT_EQ(info.header_bytes, sizeof(nlmmap_record));
    EXPECT_EQ(info.produced, 20 * 88U);
    EXPECT_EQ(info.consumed, 10 * 88U);
    EXPECT_EQ(info.seq, 20U);
    EXPECT_EQ(info.lost, 0U);
    EXPECT_GE(info.high_water, 20 * 88U);
    EXPECT_LE(info.high_water, 20 * 88U + kPage / 16);
    EXPECT_EQ(info.groups, std::vector<std::uint16_t>{1});
}

}  // namespace
}  // namespace nlmmap
