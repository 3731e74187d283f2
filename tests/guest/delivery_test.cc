// SPDX-License-Identifier: MIT
//
// What arrives is what was published: byte for byte and in order.
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tests/guest/producer.h"

namespace guest {
namespace {

using nlmmap::Attribute;
using nlmmap::Message;
using nlmmap::Receiver;
using nlmmap::Record;
using nlmmap::Wait;

constexpr std::size_t kPage = 4096;

// Everything that is in the ring now. Returns what the records say was lost.
std::uint64_t read_all(Receiver& receiver, Check& check) {
    std::uint64_t lost = 0;
    for (const Record& record : receiver.read()) {
        lost += record.lost_before();
        for (const Message& message : record) {
            check.message(message.get());
        }
    }
    return lost;
}

// Reads until so many messages came or were lost; false if they never do.
bool read_until(Receiver& receiver, Check& check, std::uint64_t messages) {
    while (check.received() + receiver.lost() < messages) {
        if (receiver.wait(std::chrono::seconds(30)) == Wait::timed_out) {
            return false;
        }
        read_all(receiver, check);
    }
    read_all(receiver, check);
    return true;
}

std::chrono::nanoseconds boot_time() {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

class Delivery : public testing::TestWithParam<bool> {
  protected:
    bool in_place() const { return GetParam(); }
    Producer producer_;
};

INSTANTIATE_TEST_SUITE_P(Guest, Delivery, testing::Bool(),
                         [](const auto& way) { return way.param ? "InPlace" : "Copied"; });

TEST_P(Delivery, MessagesOfEverySizeUpToTheLimitArriveByteForByte) {
    const std::string name = unique_name("sizes");
    const std::uint32_t group = producer_.add_group(name, NLMMAP_GROUP_PUBLIC, NLMMAP_MESSAGE_MAX);
    Receiver receiver = Receiver::join(name, {.ring_bytes = 4 * NLMMAP_MESSAGE_MAX});
    constexpr std::uint32_t limit = NLMMAP_MESSAGE_MAX - NLMSG_HDRLEN;
    std::vector<std::uint32_t> sizes;
    for (std::uint32_t size = 0; size <= 72; ++size) {
        sizes.push_back(size);
    }
    for (std::uint32_t size = 128; size < limit; size *= 2) {
        sizes.insert(sizes.end(), {size - 1, size, size + 1, size + 20});
    }
    sizes.insert(sizes.end(), {limit - 1, limit});
    for (const std::uint32_t size : sizes) {
        const Order order{.group = group, .count = 3, .min_bytes = size, .in_place = in_place()};
        const Published published = producer_.publish(order);
        ASSERT_EQ(published.delivered, 3U)
            << "payload of " << size << " bytes, error " << published.error;
        Check check(order);
        read_all(receiver, check);
        ASSERT_EQ(check.received(), 3U) << "payload of " << size << " bytes";
    }
    EXPECT_EQ(receiver.lost(), 0U);
}

TEST_P(Delivery, EightReadersHearEverythingInOrderThroughAThousandWraps) {
    const std::string name = unique_name("wraps");
    Order order{.group = producer_.add_group(name),
                .count = 3,
                .min_bytes = 8,
                .max_bytes = 1024 - NLMSG_HDRLEN,
                .in_place = in_place()};
    std::vector<Receiver> receivers;
    receivers.reserve(8);
    for (int i = 0; i < 8; ++i) {
        receivers.push_back(Receiver::join(name, {.ring_bytes = kPage}));
    }
    // What is read in place must be right now, not only on the whole: each
    // round is checked before the next is published.
    while (receivers[0].socket().info().produced < 1000 * kPage) {
        for (int i = 0; i < 100; ++i, order.first_number += order.count) {
            ASSERT_EQ(producer_.publish(order).delivered, 8 * order.count);
            for (Receiver& receiver : receivers) {
                Check check(order);
                read_all(receiver, check);
                ASSERT_EQ(check.received(), order.count)
                    << "from message " << order.first_number << " on";
            }
        }
    }
    for (Receiver& receiver : receivers) {
        EXPECT_EQ(receiver.lost(), 0U);
    }
}

TEST_P(Delivery, NothingOfFourProducersOnTwoCpusIsLostWhileEightReadersHaveRoom) {
    const std::string name = unique_name("crowd");
    const Order order{.group = producer_.add_group(name),
                      .count = 1000,
                      .min_bytes = 8,
                      .max_bytes = 160,
                      .in_place = in_place(),
                      .context = NLMMAP_TEST_KTHREAD,
                      .producers = 4};
    const std::uint64_t messages = order.count * order.producers;
    std::vector<std::future<Check>> readers;
    std::vector<Receiver> receivers;
    receivers.reserve(8);
    for (int i = 0; i < 8; ++i) {
        receivers.push_back(Receiver::join(name, {.ring_bytes = 1 << 20}));
    }
    readers.reserve(receivers.size());
    for (Receiver& receiver : receivers) {
        readers.push_back(std::async(std::launch::async, [&receiver, &order, messages] {
            Check check(order);
            EXPECT_TRUE(read_until(receiver, check, messages)) << "a reader slept for ever";
            return check;
        }));
    }
    EXPECT_EQ(producer_.publish(order).delivered, 8 * messages);
    for (auto& reader : readers) {
        const Check check = reader.get();
        EXPECT_EQ(check.received(), messages);
        EXPECT_EQ(check.missing(), 0U);
    }
}

TEST_P(Delivery, FourProducersAndASmallRingLoseExactlyWhatIsCountedThroughAThousandWraps) {
    const std::string name = unique_name("flood");
    Order order{.group = producer_.add_group(name),
                .count = 1000,
                .min_bytes = 8,
                .max_bytes = 1024 - NLMSG_HDRLEN,
                .in_place = in_place(),
                .context = NLMMAP_TEST_KTHREAD,
                .producers = 4,
                .burst = 2,
                .pause_us = 60};
    Receiver receiver = Receiver::join(name, {.ring_bytes = kPage});
    std::uint64_t published = 0;
    std::uint64_t received = 0;
    std::uint64_t located = 0;
    while (receiver.socket().info().produced < 1000 * kPage) {
        Check check(order);
        auto done = producer_.start(order);
        while (done.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
            (void)receiver.wait(std::chrono::milliseconds(10));
            located += read_all(receiver, check);
        }
        located += read_all(receiver, check);
        const Published answer = done.get();
        published += order.count * order.producers;
        ASSERT_EQ(answer.refused, 0U);
        received += check.received();
        ASSERT_EQ(received + receiver.lost(), published) << "received and lost must add up";
        order.first_number += order.count;
    }
    // One more that has room tells where the last losses were.
    order.context = NLMMAP_TEST_PROCESS;
    order.producers = 1;
    order.count = 1;
    ASSERT_EQ(producer_.publish(order).delivered, 1U);
    Check check(order);
    located += read_all(receiver, check);
    EXPECT_EQ(check.received(), 1U);
    EXPECT_EQ(located, receiver.lost()) << "the jumps of seq against producer.lost";
}

TEST(Messages, CarryAttributesThatWerePutInPlace) {
    Producer producer;
    const std::string name = unique_name("attributes");
    const Order order{.group = producer.add_group(name),
                      .count = 100,
                      .min_bytes = 0,
                      .max_bytes = 200,
                      .attributes = true};
    Receiver receiver = Receiver::join(name);
    ASSERT_EQ(producer.publish(order).delivered, order.count);
    std::uint64_t number = 0;
    Check check(order);
    for (const Record& record : receiver.read()) {
        for (const Message& message : record) {
            check.message(message.get());
            for (const Attribute& attribute : message.attributes()) {
                if (attribute.type() == NLMMAP_TEST_A_NUMBER) {
                    EXPECT_EQ(attribute.as<std::uint64_t>(), number);
                }
            }
            ++number;
        }
    }
    EXPECT_EQ(number, order.count);
}

TEST(Messages, OfOneDatagramArriveTogetherInOneRecord) {
    Producer producer;
    const std::string name = unique_name("datagram");
    const std::uint32_t group = producer.add_group(name);
    Receiver receiver = Receiver::join(name);
    std::vector<std::byte> datagram(3 * NLMSG_ALIGN(NLMSG_HDRLEN + 5));
    for (std::uint16_t i = 0; i < 3; ++i) {
        nlmsghdr header{};
        header.nlmsg_len = NLMSG_HDRLEN + 5;
        header.nlmsg_type = static_cast<std::uint16_t>(NLMMAP_MSG_PRODUCER_MIN + i);
        std::memcpy(datagram.data() + i * NLMSG_ALIGN(NLMSG_HDRLEN + 5), &header, sizeof(header));
    }
    ASSERT_EQ(producer.publish_datagram(group, datagram), 1);
    int records = 0;
    std::uint16_t messages = 0;
    for (const Record& record : receiver.read()) {
        ++records;
        EXPECT_EQ(record.group(), group);
        EXPECT_EQ(record.portid(), 0U) << "published by the kernel";
        EXPECT_EQ(record.nsid(), -1);
        EXPECT_TRUE(std::ranges::equal(record.bytes(), datagram));
        for (const Message& message : record) {
            EXPECT_EQ(message.type(), NLMMAP_MSG_PRODUCER_MIN + messages);
            EXPECT_EQ(message.payload().size(), 5U);
            ++messages;
        }
    }
    EXPECT_EQ(records, 1);
    EXPECT_EQ(messages, 3);
}

TEST(Messages, ThatAreNotNetlinkArriveAsTheyAreAndDoNoHarm) {
    Producer producer;
    const std::string name = unique_name("odd");
    const std::uint32_t group = producer.add_group(name);
    Receiver receiver = Receiver::join(name);
    // Shorter than a header; a header that says more than there is; one that
    // says less; zeroes.
    nlmsghdr longer{};
    longer.nlmsg_len = 4096;
    nlmsghdr shorter{};
    shorter.nlmsg_len = 3;
    std::vector<std::vector<std::byte>> datagrams{std::vector<std::byte>(1, std::byte{7}),
                                                  std::vector<std::byte>(15, std::byte{0xff}),
                                                  std::vector<std::byte>(40)};
    for (const nlmsghdr& header : {longer, shorter}) {
        const auto* bytes = reinterpret_cast<const std::byte*>(&header);
        datagrams.emplace_back(bytes, bytes + sizeof(header));
    }
    for (const auto& datagram : datagrams) {
        ASSERT_EQ(producer.publish_datagram(group, datagram), 1);
    }
    std::size_t records = 0;
    for (const Record& record : receiver.read()) {
        ASSERT_LT(records, datagrams.size());
        EXPECT_TRUE(std::ranges::equal(record.bytes(), datagrams[records]));
        for (const Message& message : record) {
            ADD_FAILURE() << "datagram " << records << " has no message, but one of type "
                          << message.type() << " was found";
        }
        ++records;
    }
    EXPECT_EQ(records, datagrams.size());
}

TEST(Messages, AreStampedWithBootTimeForWhoAskedForIt) {
    Producer producer;
    const std::string name = unique_name("time");
    const Order order{.group = producer.add_group(name), .count = 10};
    Receiver stamped = Receiver::join(name, {.timestamps = true});
    Receiver bare = Receiver::join(name);
    EXPECT_EQ(stamped.socket().info().header_bytes, sizeof(nlmmap_record) + sizeof(std::uint64_t));
    EXPECT_EQ(bare.socket().info().header_bytes, sizeof(nlmmap_record));

    auto earliest = boot_time();
    Check check(order);
    ASSERT_EQ(producer.publish(order).delivered, 2 * order.count);
    const auto latest = boot_time();
    for (const Record& record : stamped.read()) {
        ASSERT_TRUE(record.time().has_value());
        EXPECT_GE(*record.time(), earliest) << "stamps go backwards, or are of another clock";
        EXPECT_LE(*record.time(), latest);
        earliest = *record.time();
        for (const Message& message : record) {
            check.message(message.get());
        }
    }
    EXPECT_EQ(check.received(), order.count);
    for (const Record& record : bare.read()) {
        EXPECT_FALSE(record.time().has_value());
    }
}

TEST(Receiver, HearsSeveralGroupsInTheOrderOfPublishing) {
    Producer producer;
    const std::string first = unique_name("first");
    const std::string second = unique_name("second");
    const std::vector<std::uint32_t> groups{producer.add_group(first), producer.add_group(second)};
    Receiver receiver = Receiver::join({first, second});
    for (std::uint64_t i = 0; i < 20; ++i) {
        ASSERT_EQ(producer.publish({.group = groups[i % 2], .first_number = i}).delivered, 1U);
    }
    std::uint64_t number = 0;
    for (const Record& record : receiver.read()) {
        EXPECT_EQ(record.group(), groups[number % 2]) << "record " << number;
        EXPECT_EQ(record.seq(), number + 1);
        ++number;
    }
    EXPECT_EQ(number, 20U);
}

}  // namespace
}  // namespace guest
