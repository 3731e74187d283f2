// SPDX-License-Identifier: MIT
// Several producers at once, and a reader's page that is written by somebody hostile.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using unit::message;

constexpr std::size_t kPage = 4096;

// Producer p's n-th message, told apart by portid(); its other bytes repeat with n.
std::uint64_t number_of(unsigned producer, std::uint64_t n) { return (n << 3) | producer; }

// One of the datagrams that producers send, with the number to be filled in.
constexpr std::size_t kVariants = 61;
std::vector<std::byte> variant(std::uint64_t n) {
    const std::uint64_t which = n % kVariants;
    return message(which, 300 + which * 37 % 725);
}
const std::vector<std::vector<std::byte>>& variants() {
    static const auto made = [] {
        std::vector<std::vector<std::byte>> all;
        all.reserve(kVariants);
        for (std::uint64_t n = 0; n < kVariants; ++n) all.push_back(variant(n));
        return all;
    }();
    return made;
}

// Which messages were taken, or heard: how many, and a sum that no other selection has by chance.
struct Tally {
    std::uint64_t count = 0;
    std::uint64_t sum = 0;

    void add(std::uint64_t number) {
        ++count;
        std::uint64_t mixed = (number + 1) * 0x9E3779B97F4A7C15U;
        mixed = (mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9U;
        sum += mixed ^ (mixed >> 29);
    }
    bool operator==(const Tally&) const = default;
};

constexpr unsigned kMaxProducers = 4;
using Tallies = std::array<Tally, kMaxProducers>;

// One ring, and who reads it.
struct Reader {
    Loopback kernel{{.ring_bytes = kPage}};
    Receiver receiver = kernel.receiver();
    Tallies heard{};
    std::array<std::uint64_t, kMaxProducers> next{};
    std::uint64_t last_seq = 0;
    std::uint64_t lost = 0;
    std::uint64_t received = 0;

    // Reads what there is; false if something is wrong with it.
    [[nodiscard]] bool read() {
        bool good = true;
        for (const Record& record : receiver.read()) {
            good = good && record.seq() == last_seq + 1 + record.lost_before();
            last_seq = record.seq();
            lost += record.lost_before();
            ++received;
            for (const Message& one : record) good = good && take(one);
        }
        return good;
    }
    // In its producer's order, and byte for byte.
    [[nodiscard]] bool take(const Message& one) {
        const unsigned producer = one.portid() & 7;
        const std::uint64_t n = one.portid() >> 3;
        if (producer >= kMaxProducers || n < next[producer]) return false;
        next[producer] = n + 1;
        heard[producer].add(n);
        const std::vector<std::byte>& expected = variants()[n % kVariants];
        return one.type() == unit::kType && one.bytes().size() == expected.size() &&
               std::memcmp(one.payload().data(), expected.data() + NLMSG_HDRLEN,
                           expected.size() - NLMSG_HDRLEN) == 0;
    }
};

struct Crowd {
    unsigned producers;
    unsigned readers;
};

class Producers : public ::testing::TestWithParam<Crowd> {};

// Each message goes to every reader's ring, which is one page, until that many wraps were made in
// all. What is not taken is lost, and everything of it is accounted for.
TEST_P(Producers, AreHeardInOrderAndEveryLossIsToldThroughAMillionWraps) {
    const auto [producers, readers] = GetParam();
    constexpr std::uint64_t wraps = unit::kSanitized ? 10'000 : 1'000'000;
    const std::uint64_t enough = wraps / readers * kPage;
    std::deque<Reader> all(readers);
    std::vector<std::vector<Tally>> taken(producers, std::vector<Tally>(readers));
    std::vector<std::uint64_t> published(producers);
    std::atomic<unsigned> producing = producers;
    std::atomic<bool> stop = false;
    std::atomic<bool> good = true;
    {
        std::vector<std::jthread> threads;
        threads.reserve(kMaxProducers + readers);
        for (unsigned producer = 0; producer < producers; ++producer)
            threads.emplace_back([&, producer] {
                std::vector<std::vector<std::byte>> mine = variants();
                std::uint64_t n = 0;
                for (; !stop; ++n) {
                    std::vector<std::byte>& datagram = mine[n % kVariants];
                    const auto number = static_cast<std::uint32_t>(number_of(producer, n));
                    std::memcpy(datagram.data() + offsetof(nlmsghdr, nlmsg_pid), &number,
                                sizeof(number));
                    bool all_took = true;
                    for (unsigned reader = 0; reader < readers; ++reader) {
                        if (all[reader].kernel.publish(datagram))
                            taken[producer][reader].add(n);
                        else
                            all_took = false;
                    }
                    if (!all_took) std::this_thread::yield();
                }
                published[producer] = n;
                --producing;
            });
        for (Reader& reader : all)
            threads.emplace_back([&] {
                bool last_round = false;
                while (!last_round) {
                    last_round = producing == 0;
                    const std::uint64_t before = reader.received;
                    if (!reader.read()) good = false;
                    if (reader.received == before) std::this_thread::yield();
                    if (!good) stop = true;
                    // The slowest reader ends it, so that every ring has its share of wraps.
                    if (&reader != &all.front() || stop) continue;
                    stop = std::ranges::all_of(all, [&](const Reader& one) {
                        return one.kernel.info().produced >= enough;
                    });
                }
            });
    }
    EXPECT_TRUE(good) << "a record was out of order or had other bytes";
    const std::uint64_t sent = std::accumulate(published.begin(), published.end(), std::uint64_t{});
    for (unsigned reader = 0; reader < readers; ++reader) {
        const Reader& one = all[reader];
        for (unsigned producer = 0; producer < producers; ++producer)
            EXPECT_EQ(one.heard[producer], taken[producer][reader])
                << "what was taken and what was heard differ";
        EXPECT_EQ(one.received + one.receiver.lost(), sent);
        EXPECT_EQ(one.kernel.info().seq, sent);
        // The newest losses come before no record.
        EXPECT_EQ(one.last_seq + (one.receiver.lost() - one.lost), sent);
        EXPECT_EQ(one.last_seq, one.received + one.lost);
        EXPECT_EQ(one.receiver.pending_bytes(), 0U);
        EXPECT_GE(one.kernel.info().produced, enough);
        EXPECT_EQ(one.kernel.info().forged, 0U);
    }
}

INSTANTIATE_TEST_SUITE_P(OneAndMany, Producers,
                         ::testing::Values(Crowd{1, 1}, Crowd{4, 1}, Crowd{1, 8}, Crowd{4, 8}),
                         [](const auto& test) {
                             return std::to_string(test.param.producers) + "To" +
                                    std::to_string(test.param.readers);
                         });

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
