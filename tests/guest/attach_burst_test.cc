// SPDX-License-Identifier: MIT
//
// Bursts into an attached socket, from wherever and to whomever they are sent,
// and however they are read: nothing is lost while the ring has room, what is
// lost is counted where the kernel counts it, and the next burst arrives whole.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <string>
#include <tuple>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kGroup = 3;

enum class To { unicast, multicast };

enum class From {
    softirqs_off,      // one task, all in one stretch
    softirq,           // a softirq, all in one stretch
    two_cpus,          // kernel threads, both at once
    blocking_senders,  // two programs, whose sendmsg() waits for room if it has to
};

struct Case {
    To to;
    From from;
    Reading reading;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const To to : {To::unicast, To::multicast}) {
        for (const From from :
             {From::softirqs_off, From::softirq, From::two_cpus, From::blocking_senders}) {
            for (const Reading reading : all_readings()) {
                cases.push_back({to, from, reading});
            }
        }
    }
    return cases;
}

std::string name_of(const Case& one) {
    static const char* const from[] = {"softirqs_off", "softirq", "two_cpus", "blocking_senders"};
    return std::string(one.to == To::unicast ? "unicast_" : "multicast_") +
           from[static_cast<int>(one.from)] + "_" + name_of(one.reading);
}

void PrintTo(const Case& one, std::ostream* out) {  // NOLINT: GoogleTest looks for this name
    *out << name_of(one);
}

class Burst : public testing::TestWithParam<Case> {
  protected:
    // Messages of a burst, all senders together.
    static std::uint64_t messages() { return patience() > 1 ? 1200 : 5000; }

    // The order for a burst into this socket.
    static Sending burst(const RawAttached& attached, std::uint64_t first) {
        const bool two =
            GetParam().from == From::two_cpus || GetParam().from == From::blocking_senders;
        Sending sending;
        sending.portid = GetParam().to == To::unicast ? attached.socket.portid() : 0;
        sending.group = GetParam().to == To::unicast ? 0 : kGroup;
        sending.context = GetParam().from == From::softirqs_off ? NLMMAP_SENDER_SOFTIRQS_OFF
                          : GetParam().from == From::softirq    ? NLMMAP_SENDER_SOFTIRQ
                                                                : NLMMAP_SENDER_CPUS;
        sending.senders = two ? 2 : 1;
        sending.first = first;
        sending.count = messages() / sending.senders;
        return sending;
    }

    std::future<void> start(const Sending& sending) {
        if (GetParam().from != From::blocking_senders) {
            return std::async(std::launch::async, [this, sending] { senders_.send(sending); });
        }
        return std::async(std::launch::async, [sending] {
            const auto first = std::async(std::launch::async, [&] { send_as_user(sending, 0); });
            send_as_user(sending, 1);
        });
    }

    // The kernel drops nothing silently: all that was sent is here, in order.
    static void expect_whole(Reader& reader, const Sending& sending) {
        SentCheck check(sending);
        while (!check.whole()) {
            const auto arrival = reader.next(30s * patience());
            ASSERT_TRUE(arrival) << "nothing more came after " << check.received();
            ASSERT_EQ(arrival->lost, 0U) << "after " << check.received();
            ASSERT_FALSE(arrival->lost_unknown) << "after " << check.received();
            ASSERT_NO_THROW(check.datagram(arrival->datagram)) << "after " << check.received();
        }
    }

  private:
    static void send_as_user(const Sending& sending, std::uint32_t sender) {
        const RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
        sockaddr_nl to{};
        to.nl_family = AF_NETLINK;
        to.nl_pid = sending.portid;
        to.nl_groups = sending.group == 0 ? 0 : 1U << (sending.group - 1);
        for (std::uint64_t at = 0; at < sending.count; ++at) {
            const Bytes message = sent_message(sender, sending.first + at, sending.bytes);
            if (sendto(socket.fd(), message.data(), message.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0) {
                ADD_FAILURE() << "sendto: errno " << errno << " after " << at;
                return;
            }
        }
    }

    Senders senders_;
};

INSTANTIATE_TEST_SUITE_P(, Burst, testing::ValuesIn(all_cases()),
                         [](const auto& one) { return name_of(one.param); });

TEST_P(Burst, ArrivesWholeInARingWithRoomForIt) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 20);
    attached.listen(kGroup);
    const auto reader = Reader::make(GetParam().reading, attached);
    const Sending sending = burst(attached, 0);
    // The reader sleeps through it, and wakes up to all of it.
    start(sending).get();
    expect_whole(*reader, sending);
    // And reads a second one while it comes.
    const Sending second = burst(attached, messages());
    auto sent = start(second);
    expect_whole(*reader, second);
    sent.get();
    EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
    EXPECT_EQ(attached_counter(attached.socket.fd(), NLMMAP_A_SEQ), 2 * messages());
}

TEST_P(Burst, IsCountedWhereItOverflowedAndTheNextOneArrivesWhole) {
    // Room for some hundred messages, ring and receive buffer together.
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14, 0, 1 << 14);
    attached.listen(kGroup);
    const auto reader = Reader::make(GetParam().reading, attached);
    const bool waits = GetParam().to == To::unicast && GetParam().from == From::blocking_senders;
    std::uint64_t first = 0;
    for (int round = 0; round < 3; ++round) {
        const Sending sending = burst(attached, first);
        first += messages();
        auto sent = start(sending);
        if (!waits) {
            sent.get();
        }
        SentCheck check(sending);
        std::uint64_t lost = 0;
        while (check.received() + lost < messages()) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << "nothing more came after " << check.received()
                                 << " messages and " << lost << " losses";
            EXPECT_FALSE(arrival->lost_unknown) << "the kernel counted what it dropped";
            lost += arrival->lost;
            if (!arrival->datagram.empty()) {
                ASSERT_NO_THROW(check.datagram(arrival->datagram));
                if (sending.senders == 1) {
                    EXPECT_EQ(check.missing(), lost) << "a loss is told elsewhere than it was";
                } else if (GetParam().from != From::two_cpus) {
                    EXPECT_LE(check.missing(), lost) << "a gap that nobody told";
                }
            }
        }
        if (waits) {
            sent.get();
            EXPECT_EQ(lost, 0U) << "who can wait for room loses nothing";
        } else {
            EXPECT_GT(lost, 0U) << "nothing was lost, so this tests nothing";
        }
        EXPECT_EQ(socket_drops(attached.socket.inode()),
                  static_cast<std::int64_t>(attached.ring.lost()));

        Sending next = burst(attached, first);
        next.count = 40 / next.senders;
        first += messages();
        start(next).get();
        expect_whole(*reader, next);
        EXPECT_EQ(socket_drops(attached.socket.inode()),
                  static_cast<std::int64_t>(attached.ring.lost()));
    }
}

}  // namespace
}  // namespace guest
