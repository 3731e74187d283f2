// SPDX-License-Identifier: MIT
//
// Dumps asked for on an attached socket: netlink makes their parts one by one
// while somebody reads, and here nobody calls recvmsg().
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/module/nlmmap_test.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

// What came of a dump.
struct Dump {
    std::vector<nlmsghdr> messages;      // without NLMSG_DONE
    std::vector<std::uint32_t> numbers;  // of nlmmap_sender's
    std::size_t datagrams = 0;
    std::size_t largest = 0;  // datagram
    bool done = false;
    bool interrupted = false;

    void take(std::span<const std::byte> datagram) {
        ++datagrams;
        largest = std::max(largest, datagram.size());
        int left = static_cast<int>(datagram.size());
        for (auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
             NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
            interrupted |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (message->nlmsg_type == NLMSG_DONE) {
                done = true;
                continue;
            }
            messages.push_back(*message);
            if (message->nlmsg_type == NLMMAP_SENDER_PART) {
                numbers.push_back(number_of(message));
            }
        }
    }

    // A message of nlmmap_sender's, of which every word is known.
    static std::uint32_t number_of(const nlmsghdr* message) {
        nlmmap_sender_part part{};
        std::memcpy(&part, NLMSG_DATA(message), sizeof(part));
        const auto* words = static_cast<const std::byte*>(NLMSG_DATA(message));
        for (std::uint32_t index = 2; index < NLMSG_PAYLOAD(message, 0) / sizeof(std::uint64_t);
             ++index) {
            std::uint64_t word = 0;
            std::memcpy(&word, words + index * sizeof(word), sizeof(word));
            EXPECT_EQ(word, nlmmap_test_word(0, part.number, index)) << "message " << part.number;
        }
        return part.number;
    }
};

void ask(int fd, const Request& request) {
    ASSERT_GT(send(fd, request.bytes().data(), request.bytes().size(), 0), 0) << "errno " << errno;
}

Request sender_dump(const nlmmap_sender_dump& fixed) {
    Request request(NLMMAP_SENDER_DUMP, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    return request;
}

// As large as libmnl's buffer, the smallest of the usual ones.
constexpr std::size_t kRoom = 4096;

// What recvmsg() with that gives.
Dump plainly(int protocol, const Request& request) {
    const RawSocket socket = family_socket(protocol);
    Dump dump;
    ask(socket.fd(), request);
    Bytes buffer(1 << 20);
    while (!dump.done) {
        const ssize_t got = recv(socket.fd(), buffer.data(), kRoom, MSG_TRUNC);
        if (got < 0 || got > static_cast<ssize_t>(kRoom)) {
            ADD_FAILURE() << "recv answers " << got << ", errno " << errno;
            break;
        }
        dump.take(std::span(buffer).first(static_cast<std::size_t>(got)));
    }
    return dump;
}

// Reads on until the dump's end; what is not the dump's goes elsewhere.
void read_dump(RawAttached& attached, Dump& dump, SentCheck* events = nullptr) {
    const auto reader = Reader::make(Reading::mapped, attached);
    while (!dump.done) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << "the dump stopped after " << dump.datagrams << " datagrams, "
                             << dump.messages.size() << " messages";
        ASSERT_EQ(arrival->lost, 0U);
        ASSERT_FALSE(arrival->lost_unknown);
        nlmsghdr header{};
        std::memcpy(&header, arrival->datagram.data(),
                    std::min(sizeof(header), arrival->datagram.size()));
        if (events != nullptr && header.nlmsg_type >= NLMMAP_SENDER_DATA) {
            ASSERT_NO_THROW(events->datagram(arrival->datagram));
        } else {
            dump.take(arrival->datagram);
        }
    }
    attached.ring.release();
}

Dump through_ring(int protocol, const Request& request, std::uint32_t ring_bytes) {
    RawAttached attached(protocol, ring_bytes);
    Dump dump;
    ask(attached.socket.fd(), request);
    read_dump(attached, dump);
    EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
    return dump;
}

std::vector<std::uint32_t> all_numbers(std::uint32_t count) {
    std::vector<std::uint32_t> numbers(count);
    for (std::uint32_t number = 0; number < count; ++number) {
        numbers[number] = number;
    }
    return numbers;
}

// What each message is, but for the request's own numbers.
std::vector<std::pair<std::uint16_t, std::uint32_t>> shapes(const Dump& dump) {
    std::vector<std::pair<std::uint16_t, std::uint32_t>> shapes;
    shapes.reserve(dump.messages.size());
    for (const nlmsghdr& message : dump.messages) {
        shapes.emplace_back(message.nlmsg_type, message.nlmsg_len);
    }
    return shapes;
}

TEST(AttachedDump, ArrivesAsByRecvmsgWithAndWithoutTheMultiFlag) {
    for (const std::uint32_t flags : {0U, std::uint32_t{NLMMAP_SENDER_NO_MULTI}}) {
        SCOPED_TRACE(flags);
        const Request request =
            sender_dump({.messages = 4000, .bytes = 96, .flags = flags, .min_dump_alloc = 0});
        const Dump plain = plainly(NLMMAP_SENDER_FAMILY, request);
        ASSERT_EQ(plain.numbers, all_numbers(4000));
        // More than fits, about as much as fits, and with room to spare.
        for (const std::uint32_t ring_bytes : {1U << 17, 1U << 19, 1U << 20}) {
            const Dump ring = through_ring(NLMMAP_SENDER_FAMILY, request, ring_bytes);
            EXPECT_EQ(ring.numbers, all_numbers(4000)) << ring_bytes;
            EXPECT_EQ(ring.largest, plain.largest) << "parts keep their size";
            EXPECT_FALSE(ring.interrupted);
        }
    }
}

TEST(AttachedDump, ComesInPartsThatFitIntoASmallRing) {
    const Request request =
        sender_dump({.messages = 1000, .bytes = 96, .flags = 0, .min_dump_alloc = 0});
    for (const std::uint32_t ring_bytes : {1U << 13, 1U << 14, 1U << 15}) {
        EXPECT_EQ(through_ring(NLMMAP_SENDER_FAMILY, request, ring_bytes).numbers,
                  all_numbers(1000))
            << ring_bytes;
    }
}

TEST(AttachedDump, GoesOnAfterPartsThatAreEmptyAndTellsEachOfThemOnce) {
    for (const std::uint32_t multi : {0U, std::uint32_t{NLMMAP_SENDER_NO_MULTI}}) {
        SCOPED_TRACE(multi);
        const Request request = sender_dump({.messages = 1000,
                                             .bytes = 96,
                                             .flags = multi | NLMMAP_SENDER_EMPTY_PARTS,
                                             .min_dump_alloc = 0});
        const Dump plain = plainly(NLMMAP_SENDER_FAMILY, request);
        ASSERT_EQ(plain.numbers, all_numbers(1000));
        ASSERT_GT(plain.datagrams, 4U) << "so few parts test nothing";
        const Dump ring = through_ring(NLMMAP_SENDER_FAMILY, request, 1 << 20);
        EXPECT_EQ(ring.numbers, all_numbers(1000));
        EXPECT_EQ(ring.datagrams, plain.datagrams);
    }
}

TEST(AttachedDump, SaysThatWhatItToldChangedMeanwhile) {
    const Request request = sender_dump(
        {.messages = 1000, .bytes = 96, .flags = NLMMAP_SENDER_CHANGING, .min_dump_alloc = 0});
    EXPECT_TRUE(plainly(NLMMAP_SENDER_FAMILY, request).interrupted);
    EXPECT_TRUE(through_ring(NLMMAP_SENDER_FAMILY, request, 1 << 17).interrupted);
}

TEST(AttachedDump, OfPartsLargerThan64KiBArrivesWhole) {
    const Request request =
        sender_dump({.messages = 400, .bytes = 2048, .flags = 0, .min_dump_alloc = 150000});
    const Dump dump = through_ring(NLMMAP_SENDER_FAMILY, request, 1 << 20);
    EXPECT_EQ(dump.numbers, all_numbers(400));
    EXPECT_GT(dump.largest, 65536U) << "the parts are small, so this tests nothing";
}

// Messages to group 1 until no more fit into the ring; how many.
std::uint64_t fill(RawAttached& attached, Senders& senders) {
    std::uint64_t sent = 0;
    while (!(attached.ring.producer().state & NLMMAP_STATE_STALLED)) {
        senders.send({.group = 1, .first = sent, .count = 1});
        ++sent;
    }
    return sent;
}

TEST(AttachedDump, GoesOnThoughTheRingWasFullWhenItWasAskedFor) {
    for (const std::uint32_t flags : {0U, std::uint32_t{NLMMAP_SENDER_NO_MULTI}}) {
        SCOPED_TRACE(flags);
        RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 16);
        attached.listen(1);
        Senders senders;
        const std::uint64_t sent = fill(attached, senders);
        ask(attached.socket.fd(),
            sender_dump({.messages = 2000, .bytes = 96, .flags = flags, .min_dump_alloc = 0}));
        SentCheck check({.portid = 1, .first = 0, .count = sent});
        Dump dump;
        read_dump(attached, dump, &check);
        EXPECT_TRUE(check.whole());
        EXPECT_EQ(dump.numbers, all_numbers(2000));
    }
}

TEST(AttachedDump, KeepsItsPlaceBeforeWhatIsSentBehindIt) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 17);
    attached.listen(1);
    Senders senders;
    // The ring takes a part of the dump; the rest waits for the reader.
    ask(attached.socket.fd(),
        sender_dump({.messages = 4000, .bytes = 96, .flags = 0, .min_dump_alloc = 0}));
    ASSERT_TRUE(
        eventually([&] { return (attached.ring.producer().state & NLMMAP_STATE_STALLED) != 0; }));
    const Sending behind{.group = 1, .first = 0, .count = 60};
    senders.send(behind);
    SentCheck check(behind);
    Dump dump;
    read_dump(attached, dump, &check);
    EXPECT_EQ(dump.numbers, all_numbers(4000));
    const auto reader = Reader::make(Reading::mapped, attached);
    while (!check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << check.received();
        ASSERT_NO_THROW(check.datagram(arrival->datagram));
    }
    EXPECT_EQ(check.missing(), 0U);
    // When who serves has seen that nothing is left, the next burst is drained in line again, more
    // than the receive buffer holds. A sender's own work is done when it is told so.
    ask(attached.socket.fd(), Request(NLMMAP_SENDER_ERROR));
    ASSERT_TRUE(reader->next(30s * patience()));
    const Sending burst{
        .group = 1, .context = NLMMAP_SENDER_SOFTIRQS_OFF, .first = 100, .count = 800};
    EXPECT_EQ(senders.send(burst).refused, 0U);
    SentCheck burst_check(burst);
    while (!burst_check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << burst_check.received();
        ASSERT_NO_THROW(burst_check.datagram(arrival->datagram));
    }
    EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
}

TEST(AttachedDump, MayBeAskedForAgainAndAgain) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 17);
    for (int round = 0; round < 20; ++round) {
        const bool multi = round % 2 == 0;
        ask(attached.socket.fd(), sender_dump({.messages = 300,
                                               .bytes = 96,
                                               .flags = multi ? 0U : NLMMAP_SENDER_NO_MULTI,
                                               .min_dump_alloc = 0}));
        Dump dump;
        read_dump(attached, dump);
        ASSERT_EQ(dump.numbers, all_numbers(300)) << round;
    }
}

// An answer to a request waits for room, many messages behind it; then the program
// reads all that there is and sends its next request, without a poll() between.
TEST(AttachedDump, LeavesNothingBehindThatNobodyAsksFor) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 15);
    attached.listen(1);
    Senders senders;
    const std::uint64_t sent = fill(attached, senders);
    ask(attached.socket.fd(),
        sender_dump({.messages = 1, .bytes = 16, .flags = 0, .min_dump_alloc = 0}));
    const Sending behind{.group = 1, .first = 0, .count = 120};
    ASSERT_EQ(senders.send(behind).refused, 0U);
    ASSERT_EQ(socket_drops(attached.socket.inode()), 0) << "the buffer did not take them";

    SentCheck before({.portid = 1, .first = 0, .count = sent});
    SentCheck check(behind);
    bool answered = false;
    const auto take = [&](std::span<const std::byte> datagram) {
        const auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
        if (message->nlmsg_type < NLMMAP_SENDER_DATA) {
            answered |= message->nlmsg_type == NLMMAP_SENDER_PART;
        } else {
            (before.whole() ? check : before).datagram(datagram);
        }
    };
    while (const auto record = attached.ring.next()) {
        ASSERT_NO_THROW(take(record->datagram));
    }
    attached.ring.release();
    ask(attached.socket.fd(), Request(NLMMAP_SENDER_ERROR));
    EXPECT_TRUE(eventually([&] {
        while (const auto record = attached.ring.next()) {
            take(record->datagram);
        }
        // As one who looks at the ring alone; it never gets full again.
        attached.ring.release();
        return check.whole();
    })) << check.received()
        << " of " << behind.count;
    EXPECT_TRUE(answered);
}

// Datagrams to one port as long as this lives, up to so many more than were taken.
class Beside {
  public:
    explicit Beside(std::uint32_t portid)
        : sending_(std::async(std::launch::async, [this, portid] { send(portid); })) {}
    ~Beside() { stop_ = true; }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;
    void took_one() { ++taken_; }
    std::uint64_t taken() const { return taken_; }

  private:
    static constexpr std::uint64_t kMost = 400;

    void send(std::uint32_t portid) {
        const RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
        const Bytes message = sent_message(0, 0, 64);
        sockaddr_nl to{};
        to.nl_family = AF_NETLINK;
        to.nl_pid = portid;
        std::uint64_t sent = 0;
        while (!stop_) {
            if (sent < taken_ + kMost &&
                sendto(socket.fd(), message.data(), message.size(), MSG_DONTWAIT,
                       reinterpret_cast<const sockaddr*>(&to), sizeof(to)) > 0) {
                ++sent;
            }
        }
    }

    std::atomic<bool> stop_ = false;
    std::atomic<std::uint64_t> taken_ = 0;
    std::future<void> sending_;
};

// Somebody else's messages keep the work item looking at the queue while a dump is asked for, made
// and over. One thread with recvmsg() is told of no error then, and may ask again when it has seen
// the end.
TEST(AttachedDump, EndsWithoutAnErrorThoughSomebodyServesMeanwhile) {
    for (const std::uint32_t flags : {0U, std::uint32_t{NLMMAP_SENDER_AT_ONCE}}) {
        SCOPED_TRACE(flags);
        // So small that it is full now and then; in the buffer is always room for a part.
        RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 15);
        const int room = 1 << 22;
        ASSERT_EQ(setsockopt(attached.socket.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)),
                  0);
        const Request request =
            sender_dump({.messages = 100, .bytes = 96, .flags = flags, .min_dump_alloc = 16000});
        Beside beside(attached.socket.portid());
        std::size_t ends = 0;
        std::size_t errors = 0;
        const auto take = [&](const RawRecord& record) {
            errors += (record.header.flags & NLMMAP_RECORD_ERROR) != 0 ? 1 : 0;
            if (record.datagram.size() < sizeof(nlmsghdr)) {
                return;
            }
            if (record.message()->nlmsg_type >= NLMMAP_SENDER_DATA) {
                beside.took_one();
                return;
            }
            Dump dump;
            dump.take(record.datagram);
            ends += dump.done ? 1 : 0;
            for (const nlmsghdr& message : dump.messages) {
                errors += message.nlmsg_type == NLMSG_ERROR ? 1 : 0;
            }
        };
        const std::size_t rounds = patience() > 1 ? 50 : 2000;
        for (std::size_t asked = 1; asked <= rounds && errors == 0 && !HasFailure(); ++asked) {
            ask(attached.socket.fd(), request);
            EXPECT_TRUE(eventually([&] {
                while (const auto record = attached.ring.next()) {
                    take(*record);
                }
                find_empty(attached);
                return ends + errors >= asked;
            })) << asked;
        }
        EXPECT_EQ(errors, 0U) << "after " << ends << " dumps, beside " << beside.taken();
        EXPECT_GT(beside.taken(), 100U) << "nobody served meanwhile, so this tests nothing";
        EXPECT_EQ(attached.ring.lost(), 0U);
    }
}

TEST(AttachedDump, OfRtnetlinkIsTheSameAsByRecvmsg) {
    in_new_network([] {
        Addresses addresses;
        addresses.add(0, 500);
        ifaddrmsg fixed{};
        fixed.ifa_family = AF_INET;
        Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        const Dump plain = plainly(NETLINK_ROUTE, request);
        EXPECT_GE(plain.messages.size(), 500U);
        EXPECT_EQ(shapes(through_ring(NETLINK_ROUTE, request, 1 << 17)), shapes(plain));
    });
}

TEST(AttachedDump, OfSocketDiagnosisIsTheSameAsByRecvmsg) {
    in_new_network([] {
        std::vector<RawSocket> sockets;  // closed at the end
        sockets.reserve(300);
        for (int at = 0; at < 300; ++at) {
            sockets.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        }
        unix_diag_req fixed{};
        fixed.sdiag_family = AF_UNIX;
        fixed.udiag_states = ~0U;
        Request request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        const Dump plain = plainly(NETLINK_SOCK_DIAG, request);
        EXPECT_GE(plain.messages.size(), 300U);
        EXPECT_EQ(shapes(through_ring(NETLINK_SOCK_DIAG, request, 1 << 17)), shapes(plain));
    });
}

TEST(AttachedDump, OfGenericNetlinksFamiliesIsTheSameAsByRecvmsg) {
    genlmsghdr fixed{};
    fixed.cmd = CTRL_CMD_GETFAMILY;
    fixed.version = 1;
    Request request(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    const Dump plain = plainly(NETLINK_GENERIC, request);
    EXPECT_GE(plain.messages.size(), 2U);
    EXPECT_EQ(shapes(through_ring(NETLINK_GENERIC, request, 1 << 17)), shapes(plain));
}

}  // namespace
}  // namespace guest
