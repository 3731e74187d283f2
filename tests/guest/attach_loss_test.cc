// SPDX-License-Identifier: MIT
//
// What does not reach an attached socket's ring: waiting for room, losses that the
// kernel counts and that it does not, errors.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kGroup = 5;

std::uint32_t state(const RawAttached& attached) {
    return __atomic_load_n(&attached.ring.producer().state, __ATOMIC_ACQUIRE);
}

// All records up to where nothing more comes, headers alone. The kernel is asked
// to go on as a reader would.
std::vector<nlmmap_record> all_records(RawAttached& attached) {
    std::vector<nlmmap_record> records;
    for (int quiet = 0; quiet < 5;) {
        if (const auto record = attached.ring.next()) {
            records.push_back(record->header);
            quiet = 0;
            continue;
        }
        attached.ring.release();
        pollfd readable{.fd = attached.socket.fd(), .events = POLLIN, .revents = 0};
        quiet = poll(&readable, 1, static_cast<int>(10 * patience())) == 1 ? 0 : quiet + 1;
    }
    return records;
}

std::uint64_t datagrams(const std::vector<nlmmap_record>& records) {
    std::uint64_t count = 0;
    for (const nlmmap_record& record : records) {
        count += record.len != 0;
    }
    return count;
}

TEST(AttachedLoss, FullRingMakesMessagesWaitAndSaysSo) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
    attached.listen(kGroup);
    Senders senders;
    const Sending sending{.group = kGroup, .count = 250};
    EXPECT_EQ(senders.send(sending).refused, 0U);
    EXPECT_EQ(state(attached), std::uint32_t{NLMMAP_STATE_STALLED});
    EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
    SentCheck check(sending);
    while (const auto record = attached.ring.next()) {
        ASSERT_NO_THROW(check.datagram(record->datagram));
    }
    EXPECT_FALSE(check.whole()) << "all of it fitted, so this tests nothing";
    attached.ring.release();
    // One look, that does not sleep, brings the next ones.
    EXPECT_NE(poll_now(attached.socket.fd(), POLLIN) & POLLIN, 0);
    const std::uint64_t before = check.received();
    while (const auto record = attached.ring.next()) {
        ASSERT_NO_THROW(check.datagram(record->datagram));
    }
    EXPECT_GT(check.received(), before);
    const auto reader = Reader::make(Reading::mapped, attached);
    while (!check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << check.received();
        ASSERT_NO_THROW(check.datagram(arrival->datagram));
    }
    EXPECT_EQ(check.missing(), 0U);
    EXPECT_EQ(state(attached), 0U);
}

TEST(AttachedLoss, SleeperIsWokenByWhatWaitedForRoom) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
    attached.listen(kGroup);
    Senders senders;
    const Sending sending{.group = kGroup, .count = 250};
    senders.send(sending);
    SentCheck check(sending);
    const auto reader = Reader::make(Reading::epoll_edge, attached);
    while (!check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << check.received();
        ASSERT_NO_THROW(check.datagram(arrival->datagram));
    }
}

TEST(AttachedLoss, AtTheEndIsToldByAnEmptyRecord) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14, 0, 1 << 14);
    attached.listen(kGroup);
    Senders().send({.group = kGroup, .count = 1000});
    const std::vector<nlmmap_record> records = all_records(attached);
    ASSERT_FALSE(records.empty());
    EXPECT_EQ(records.back().len, 0U);
    EXPECT_EQ(records.back().flags, NLMMAP_RECORD_LOST | NLMMAP_RECORD_NO_DATAGRAM);
    EXPECT_EQ(datagrams(records) + attached.ring.missing(), 1000U);
    EXPECT_EQ(socket_drops(attached.socket.inode()),
              static_cast<std::int64_t>(attached.ring.missing()));
    EXPECT_EQ(attached.ring.lost(), attached.ring.missing());
    EXPECT_EQ(attached_counter(attached.socket.fd(), NLMMAP_A_LOST), attached.ring.missing());
}

TEST(AttachedLoss, WithoutEnobufsIsCountedNearItsPlace) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14, 0, 1 << 14);
    attached.listen(kGroup);
    const int on = 1;
    ASSERT_EQ(setsockopt(attached.socket.fd(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on)),
              0);
    Senders senders;
    std::uint64_t sent = 0;
    for (int round = 0; round < 3; ++round) {
        senders.send({.group = kGroup, .first = sent, .count = 1000});
        sent += 1000;
        const std::vector<nlmmap_record> records = all_records(attached);
        bool nearby = false;
        for (const nlmmap_record& record : records) {
            EXPECT_FALSE(record.flags & NLMMAP_RECORD_LOST_UNKNOWN);
            EXPECT_EQ((record.flags & NLMMAP_RECORD_LOST) != 0,
                      (record.flags & NLMMAP_RECORD_LOST_NEARBY) != 0);
            nearby |= (record.flags & NLMMAP_RECORD_LOST_NEARBY) != 0;
        }
        EXPECT_TRUE(nearby) << "nothing was lost, or the reader was not told";
        EXPECT_EQ(socket_drops(attached.socket.inode()),
                  static_cast<std::int64_t>(attached.ring.missing()));
        // And one that finds room arrives whole.
        const Sending burst{.group = kGroup, .first = sent, .count = 60};
        sent += 60;
        senders.send(burst);
        SentCheck check(burst);
        const auto reader = Reader::make(Reading::mapped, attached);
        while (!check.whole()) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << check.received();
            EXPECT_EQ(arrival->lost, 0U);
            ASSERT_NO_THROW(check.datagram(arrival->datagram));
        }
    }
}

TEST(AttachedLoss, ThatTheSourceDoesNotCountIsToldAsUnknown) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 16);
    attached.listen(kGroup);
    Senders senders;
    for (std::uint64_t round = 0; round < 6; ++round) {
        senders.send({.group = kGroup, .first = 2 * round});
        senders.error(kGroup, ENOBUFS);
        senders.send({.group = kGroup, .first = 2 * round + 1});
        const std::vector<nlmmap_record> records = all_records(attached);
        int unknown = 0;
        for (const nlmmap_record& record : records) {
            EXPECT_FALSE(record.flags & (NLMMAP_RECORD_LOST | NLMMAP_RECORD_ERROR));
            unknown += (record.flags & NLMMAP_RECORD_LOST_UNKNOWN) != 0;
        }
        EXPECT_EQ(unknown, 1) << "in round " << round;
        EXPECT_EQ(datagrams(records), 2U);
    }
    EXPECT_EQ(attached.ring.missing(), 0U);
}

TEST(AttachedLoss, ErrorOfTheSocketIsToldOnceInItsPlace) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 16);
    attached.listen(kGroup);
    Senders senders;
    for (const int error : {EMSGSIZE, EPIPE, ECONNREFUSED}) {
        senders.send({.group = kGroup, .first = 0});
        senders.error(kGroup, error);
        std::vector<int> told;
        std::uint64_t seen = 0;
        ASSERT_TRUE(eventually([&] {
            while (const auto record = attached.ring.next()) {
                if (record->header.flags & NLMMAP_RECORD_ERROR) {
                    std::int32_t value = 0;
                    EXPECT_EQ(record->datagram.size(), sizeof(value));
                    std::memcpy(&value, record->datagram.data(), sizeof(value));
                    told.push_back(value);
                    EXPECT_EQ(seen, 1U);
                } else {
                    ++seen;
                }
            }
            attached.ring.release();
            return !told.empty();
        }));
        EXPECT_EQ(told, std::vector<int>{error});
        EXPECT_EQ(poll_now(attached.socket.fd(), POLLIN) & (POLLERR | POLLIN), 0);
        EXPECT_TRUE(all_records(attached).empty());
    }
}

TEST(AttachedLoss, FromBeforeTheAttachIsToldAsUnknown) {
    RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY, 1 << 14);
    ASSERT_EQ(socket.add_membership(kGroup), 0);
    Senders().send({.group = kGroup, .count = 500});
    const std::int64_t dropped = socket_drops(socket.inode());
    ASSERT_GT(dropped, 0);
    ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 16)));
    RawAttached attached(std::move(socket), 1 << 16);
    const std::vector<nlmmap_record> records = all_records(attached);
    EXPECT_EQ(datagrams(records) + static_cast<std::uint64_t>(dropped), 500U);
    ASSERT_FALSE(records.empty());
    EXPECT_EQ(records.back().len, 0U);
    EXPECT_EQ(records.back().flags, NLMMAP_RECORD_LOST_UNKNOWN | NLMMAP_RECORD_NO_DATAGRAM);
    EXPECT_EQ(attached.ring.missing(), 0U) << "the ring counts from its beginning";
    const Sending burst{.group = kGroup, .first = 500, .count = 300};
    Senders().send(burst);
    SentCheck check(burst);
    const auto reader = Reader::make(Reading::mapped, attached);
    while (!check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << check.received();
        ASSERT_NO_THROW(check.datagram(arrival->datagram));
    }
}

TEST(AttachedLoss, WakesASleeperWhateverItsWatermark) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 16);
    attached.listen(kGroup);
    attached.ring.set_watermark(1 << 15);
    auto woken = std::async(std::launch::async, [&] { return attached.wait(); });
    std::this_thread::sleep_for(50ms * patience());
    // More than half of the ring: lost, counted, and told.
    Senders().send({.group = kGroup, .bytes = 40000});
    EXPECT_TRUE(woken.get());
}

TEST(AttachedLoss, DatagramOfHalfTheRingArrivesAndALargerOneIsCounted) {
    for (const std::uint32_t ring_bytes : {1U << 12, 1U << 16, 1U << 18, 1U << 20}) {
        SCOPED_TRACE(ring_bytes);
        RawAttached attached(NLMMAP_SENDER_FAMILY, ring_bytes);
        attached.listen(kGroup);
        const std::uint32_t largest =
            ring_bytes / 2 - static_cast<std::uint32_t>(sizeof(nlmmap_record) + sizeof(nlmsghdr));
        Senders senders;
        std::uint64_t lost = 0;
        for (std::uint64_t round = 0; round < 2; ++round) {
            senders.send({.group = kGroup, .bytes = largest, .first = round});
            const std::vector<nlmmap_record> fits = all_records(attached);
            ASSERT_EQ(fits.size(), 1U);
            EXPECT_EQ(fits.front().len, largest + sizeof(nlmsghdr));
            EXPECT_EQ(fits.front().flags, std::uint16_t{NLMMAP_RECORD_SINGLE});

            senders.send({.group = kGroup, .bytes = largest + 8, .first = round});
            ++lost;
            const std::vector<nlmmap_record> does_not = all_records(attached);
            ASSERT_EQ(does_not.size(), 1U) << "a lost tail is never silent";
            EXPECT_EQ(does_not.front().len, 0U);
            EXPECT_EQ(does_not.front().flags, NLMMAP_RECORD_LOST | NLMMAP_RECORD_NO_DATAGRAM);
            EXPECT_EQ(attached.ring.missing(), lost);
            EXPECT_EQ(socket_drops(attached.socket.inode()), static_cast<std::int64_t>(lost));
        }
    }
}

}  // namespace
}  // namespace guest
