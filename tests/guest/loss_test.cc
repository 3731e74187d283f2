// SPDX-License-Identifier: MIT
//
// A ring without room loses the newest messages: exactly those that seq and the
// counters say, and nobody else's.
#include <gtest/gtest.h>

#include <string>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kPage = 4096;

// Reads what is in the ring and gives it back; how many records.
std::uint64_t drain(RawRing& ring, Check& check) {
    std::uint64_t records = 0;
    while (const auto record = ring.next()) {
        check.message(record->message());
        ++records;
    }
    ring.release();
    return records;
}

class Loss : public testing::TestWithParam<bool> {
  protected:
    bool in_place() const { return GetParam(); }
    Producer producer_;
};

INSTANTIATE_TEST_SUITE_P(Guest, Loss, testing::Bool(),
                         [](const auto& way) { return way.param ? "InPlace" : "Copied"; });

TEST_P(Loss, OfABurstLargerThanTheRingIsToldTheSameEverywhere) {
    const std::string name = unique_name("burst");
    const Order order{
        .group = producer_.add_group(name), .count = 1000, .min_bytes = 48, .in_place = in_place()};
    RawMember member(name, kPage);
    const Published published = producer_.publish(order);

    Check check(order);
    const std::uint64_t received = drain(member.ring, check);
    // 24 bytes of header and 64 of message; one notice of room is kept.
    EXPECT_EQ(received, (kPage - 64) / (24 + 64));
    EXPECT_EQ(check.missing(), 0U) << "the newest are lost, so what came is the beginning";
    EXPECT_EQ(published.delivered, received) << "what the producer was told";

    const std::uint64_t lost = order.count - received;
    EXPECT_EQ(member.ring.lost(), lost) << "producer.lost";
    EXPECT_EQ(counter(member.socket, NLMMAP_A_LOST), lost);
    EXPECT_EQ(counter(member.socket, NLMMAP_A_SEQ), order.count);
    EXPECT_EQ(socket_drops(member.socket.inode()), static_cast<std::int64_t>(lost))
        << "the Drops column of /proc/net/netlink";
    EXPECT_EQ(fdinfo(member.socket.fd())["rx-lost"], std::to_string(lost));

    ASSERT_EQ(producer_.publish({.group = order.group, .first_number = 7}).delivered, 1U);
    const auto record = member.ring.next();
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->header.seq, order.count + 1);
    EXPECT_TRUE(record->header.flags & NLMMAP_RECORD_LOST);
    EXPECT_EQ(member.ring.missing(), lost) << "the jump of seq";
}

TEST_P(Loss, IsFollowedByWholeBurstsOnceThereIsRoom) {
    const std::string name = unique_name("again");
    const std::uint32_t group = producer_.add_group(name);
    RawMember member(name, kPage);
    std::uint64_t lost = 0;
    for (int round = 0; round < 100; ++round) {
        const Order flood{.group = group, .count = 100, .min_bytes = 100, .in_place = in_place()};
        producer_.publish(flood);
        Check first(flood);
        lost += flood.count - drain(member.ring, first);
        ASSERT_EQ(member.ring.lost(), lost) << "round " << round;

        const Order burst{.group = group,
                          .count = 20,
                          .min_bytes = 8,
                          .max_bytes = 160,
                          .in_place = in_place(),
                          .first_number = 1000};
        ASSERT_EQ(producer_.publish(burst).delivered, burst.count) << "round " << round;
        Check second(burst);
        ASSERT_EQ(drain(member.ring, second), burst.count) << "round " << round;
        ASSERT_EQ(second.missing(), 0U);
        ASSERT_EQ(member.ring.lost(), lost) << "round " << round;
        ASSERT_EQ(member.ring.missing(), lost) << "round " << round;
    }
}

TEST_P(Loss, OfASlowReaderIsItsOwnAlone) {
    const std::string name = unique_name("slow");
    Order order{
        .group = producer_.add_group(name), .count = 50, .min_bytes = 64, .in_place = in_place()};
    RawMember slow(name, kPage);
    RawMember fast(name, kPage * 4);
    for (int round = 0; round < 20; ++round, order.first_number += order.count) {
        producer_.publish(order);
        Check check(order);
        ASSERT_EQ(drain(fast.ring, check), order.count);
    }
    EXPECT_EQ(fast.ring.lost(), 0U);
    EXPECT_EQ(counter(fast.socket, NLMMAP_A_LOST), 0U);
    EXPECT_EQ(counter(slow.socket, NLMMAP_A_SEQ), 1000U);
    Check check({.group = order.group, .count = 1000, .min_bytes = 64});
    EXPECT_EQ(drain(slow.ring, check) + slow.ring.lost(), 1000U);
}

TEST_P(Loss, StartsOnlyWhenTheRingIsFullToItsLastRecord) {
    const std::string name = unique_name("brim");
    const std::uint32_t group = producer_.add_group(name);
    RawMember member(name, kPage);
    // Records of 24 + 16 + 88 = 128 bytes: 31 fill all but the room for notices
    // and 64 bytes, which one of 24 + 16 + 24 takes exactly.
    ASSERT_EQ(
        producer_.publish({.group = group, .count = 31, .min_bytes = 88, .in_place = in_place()})
            .delivered,
        31U);
    ASSERT_EQ(
        producer_.publish({.group = group, .min_bytes = 28, .in_place = in_place()}).delivered, 0U)
        << "there is no room for 72 bytes";
    EXPECT_EQ(
        producer_.publish({.group = group, .min_bytes = 24, .in_place = in_place()}).delivered, 1U)
        << "there is room for 64 bytes";
    EXPECT_EQ(member.ring.lost(), 1U);
    EXPECT_EQ(member.ring.produced(), kPage - 64U);
}

TEST(Refusal, OfAMessageThatIsTooLargeCostsNobodyAnything) {
    Producer producer;
    const std::string name = unique_name("large");
    const std::uint32_t group = producer.add_group(name, NLMMAP_GROUP_PUBLIC, 256);
    RawMember member(name, kPage);
    const Published copied = producer.publish({.group = group, .min_bytes = 244});
    EXPECT_EQ(copied.refused, 1U);
    EXPECT_EQ(copied.error, EMSGSIZE);
    const Published in_place =
        producer.publish({.group = group, .min_bytes = 244, .in_place = true});
    EXPECT_EQ(in_place.skipped, 1U) << "nlmmap_begin() should have been false";
    EXPECT_EQ(producer.publish_datagram(group, {}), -EMSGSIZE) << "an empty datagram";
    EXPECT_EQ(producer.publish_datagram(group, Bytes(100000)), -EMSGSIZE);

    ASSERT_EQ(producer.publish({.group = group, .min_bytes = 240}).delivered, 1U);
    const auto record = member.ring.next();
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->header.seq, 1U);
    EXPECT_EQ(member.ring.lost(), 0U);
}

TEST(InPlace, WritingPastTheRoomAskedForIsALossForEveryMember) {
    Producer producer;
    const std::string name = unique_name("overflow");
    const std::uint32_t group = producer.add_group(name);
    RawMember first(name, kPage);
    RawMember second(name, kPage);
    for (const bool attributes : {false, true}) {
        const Published published = producer.publish({.group = group,
                                                      .count = 3,
                                                      .min_bytes = 100,
                                                      .in_place = true,
                                                      .attributes = attributes,
                                                      .room_bytes = 96});
        EXPECT_EQ(published.refused, 3U);
        EXPECT_EQ(published.error, EMSGSIZE);
    }
    ASSERT_EQ(producer.publish({.group = group, .in_place = true}).delivered, 2U);
    for (RawMember* member : {&first, &second}) {
        EXPECT_EQ(member->ring.lost(), 6U);
        const auto record = member->ring.next();
        ASSERT_TRUE(record.has_value());
        EXPECT_EQ(record->header.seq, 7U);
        Check check({.group = group});
        check.message(record->message());
        EXPECT_FALSE(member->ring.next().has_value()) << "nothing of the overflown may be seen";
        EXPECT_EQ(socket_drops(member->socket.inode()), 6);
    }
}

TEST(InPlace, ShorterMessagesThanTheRoomAskedForTakeOnlyTheirOwnLength) {
    Producer producer;
    const std::string name = unique_name("shorter");
    const Order order{.group = producer.add_group(name),
                      .count = 20,
                      .min_bytes = 8,
                      .max_bytes = 60,
                      .in_place = true,
                      .room_bytes = 1000};
    RawMember first(name, kPage);
    RawMember second(name, kPage * 2);
    ASSERT_EQ(producer.publish(order).delivered, 2 * order.count);
    for (RawMember* member : {&first, &second}) {
        Check check(order);
        EXPECT_EQ(drain(member->ring, check), order.count);
        EXPECT_LT(member->ring.produced(), order.count * (24 + 16 + 60 + 8));
    }
}

TEST(InPlace, AMessageIsCopiedFromTheFirstRingWithRoomAlthoughOthersAreFull) {
    Producer producer;
    const std::string name = unique_name("mixed");
    const std::uint32_t group = producer.add_group(name);
    // Whatever order the rings have, some full ones come first and some last.
    RawMember full1(name, kPage);
    RawMember roomy1(name, kPage * 4);
    RawMember full2(name, kPage);
    RawMember roomy2(name, kPage * 4);
    RawMember full3(name, kPage);
    const Order order{.group = group, .count = 100, .min_bytes = 64, .in_place = true};
    producer.publish(order);
    for (RawMember* member : {&full1, &roomy1, &full2, &roomy2, &full3}) {
        Check check(order);
        const std::uint64_t received = drain(member->ring, check);
        EXPECT_EQ(check.missing(), 0U);
        EXPECT_EQ(received + member->ring.lost(), order.count);
        EXPECT_EQ(received == order.count, member->ring.data_bytes() > kPage);
    }
}

TEST(Published, CountsEveryDatagramHeardOrNot) {
    Producer producer;
    const std::string name = unique_name("count");
    const std::uint32_t group = producer.add_group(name);
    producer.publish({.group = group, .count = 5});
    RawMember member(name, kPage);
    producer.publish({.group = group, .count = 100});
    producer.publish({.group = group, .count = 7, .in_place = true});
    const Outcome outcome = member.socket.group(name);
    ASSERT_TRUE(succeeded(outcome));
    ASSERT_EQ(outcome.replies.size(), 1U);
    EXPECT_EQ(outcome.replies[0].get<std::uint64_t>(NLMMAP_A_PUBLISHED), 112U);
}

}  // namespace
}  // namespace guest
