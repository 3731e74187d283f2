// SPDX-License-Identifier: MIT
//
// Programs that send to an attached socket and wait for room: nobody sleeps while
// there is some, and what they send arrives byte for byte, whatever its size.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <future>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

// Sends numbered messages to a port; sleeps where the kernel lets it.
void send_all(const Sending& sending, std::uint32_t sender, std::atomic<std::uint64_t>& sent) {
    const RawSocket socket = family_socket(NETLINK_USERSOCK);
    const int large = 1 << 20;
    ASSERT_EQ(setsockopt(socket.fd(), SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof(large)), 0);
    sockaddr_nl to{};
    to.nl_family = AF_NETLINK;
    to.nl_pid = sending.portid;
    for (std::uint64_t at = 0; at < sending.count; ++at) {
        const Bytes message = sent_message(sender, sending.first + at, sending.bytes);
        ASSERT_EQ(sendto(socket.fd(), message.data(), message.size(), 0,
                         reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
                  static_cast<ssize_t>(message.size()))
            << "errno " << errno << " after " << at;
        sent.fetch_add(1);
    }
}

struct Amount {
    std::uint32_t bytes;
    std::uint64_t count;
    std::uint32_t ring_bytes;
    int rcvbuf_bytes;
};

void PrintTo(const Amount& amount, std::ostream* out) {  // NOLINT: GoogleTest looks for this name
    *out << amount.bytes << " bytes, ring " << amount.ring_bytes << ", buffer "
         << amount.rcvbuf_bytes;
}

class BlockingSenders : public testing::TestWithParam<Amount> {
  protected:
    static std::uint64_t count() { return GetParam().count / (patience() > 1 ? 4 : 1); }
    // Two senders at once, and a reader that may begin later.
    static void run(bool read_at_once) {
        RawAttached attached(NETLINK_USERSOCK, GetParam().ring_bytes, 0, GetParam().rcvbuf_bytes);
        const Sending sending{.portid = attached.socket.portid(),
                              .senders = 2,
                              .bytes = GetParam().bytes,
                              .count = count()};
        std::atomic<std::uint64_t> sent{0};
        const auto one = std::async(std::launch::async, [&] { send_all(sending, 0, sent); });
        const auto two = std::async(std::launch::async, [&] { send_all(sending, 1, sent); });
        if (!read_at_once) {
            // Until both sleep, or have sent all.
            std::uint64_t before = 0;
            do {
                before = sent.load();
                std::this_thread::sleep_for(50ms * patience());
            } while (sent.load() != before);
        }
        const auto reader = Reader::make(Reading::mapped, attached);
        SentCheck check(sending);
        while (!check.whole()) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << check.received() << " received, " << sent.load()
                                 << " sent: somebody sleeps on an empty ring";
            ASSERT_EQ(arrival->lost, 0U) << "after " << check.received();
            ASSERT_NO_THROW(check.datagram(arrival->datagram));
        }
        EXPECT_EQ(check.missing(), 0U);
        EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
    }
};

INSTANTIATE_TEST_SUITE_P(
    , BlockingSenders,
    testing::Values(
        // Queues of 150 kB: two messages on their way fill it.
        Amount{.bytes = 60000, .count = 600, .ring_bytes = 1 << 20, .rcvbuf_bytes = 75000},
        // So small that a message on its way keeps every other out.
        Amount{.bytes = 4096, .count = 2000, .ring_bytes = 1 << 20, .rcvbuf_bytes = 1},
        // Memory from vmalloc(), which goes with its buffer.
        Amount{.bytes = 16384, .count = 1000, .ring_bytes = 1 << 20, .rcvbuf_bytes = 0},
        // Copied by the work item.
        Amount{.bytes = 150000, .count = 200, .ring_bytes = 1 << 20, .rcvbuf_bytes = 150000},
        // Through a ring that is always full.
        Amount{.bytes = 64, .count = 3000, .ring_bytes = 1 << 13, .rcvbuf_bytes = 75000},
        Amount{.bytes = 60000, .count = 200, .ring_bytes = 1 << 17, .rcvbuf_bytes = 75000}),
    [](const auto& one) {
        return std::to_string(one.param.bytes) + "_bytes_ring_" +
               std::to_string(one.param.ring_bytes) + "_buffer_" +
               std::to_string(one.param.rcvbuf_bytes);
    });

TEST_P(BlockingSenders, NeverSleepWhileTheRingHasRoom) { run(true); }

TEST_P(BlockingSenders, GoOnWhenTheReaderComesAtLast) { run(false); }

TEST(AttachedSenders, WhoMayNotWaitIsToldThatThereIsNoRoom) {
    RawAttached attached(NETLINK_USERSOCK, 1 << 12, 0, 1 << 14);
    const RawSocket sender = family_socket(NETLINK_USERSOCK);
    sockaddr_nl to{};
    to.nl_family = AF_NETLINK;
    to.nl_pid = attached.socket.portid();
    const auto try_one = [&](std::uint64_t number) {
        const Bytes message = sent_message(0, number, 512);
        return sendto(sender.fd(), message.data(), message.size(), MSG_DONTWAIT,
                      reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0
                   ? errno
                   : 0;
    };
    std::uint64_t sent = 0;
    int error = 0;
    while (sent < 1000 && (error = try_one(sent)) == 0) {
        ++sent;
    }
    EXPECT_EQ(error, EAGAIN);
    EXPECT_GT(sent, 7U);
    const auto reader = Reader::make(Reading::mapped, attached);
    SentCheck check({.portid = 1, .bytes = 512, .count = sent});
    while (!check.whole()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << check.received();
        ASSERT_EQ(arrival->lost, 0U) << "who was told EAGAIN has sent nothing";
        ASSERT_NO_THROW(check.datagram(arrival->datagram));
    }
    EXPECT_EQ(try_one(sent), 0);
}

TEST(AttachedSenders, NotificationsOfMessageQueuesAreNoMessagesAndArriveAsTheyAre) {
    RawAttached attached(NETLINK_ROUTE, 1 << 14);
    const std::string name = "/nlmmap_" + std::to_string(getpid());
    const mqd_t queue = mq_open(name.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600, nullptr);
    ASSERT_GE(queue, 0) << "errno " << errno;
    std::array<char, 32> cookie{};  // NOTIFY_COOKIE_LEN
    std::iota(cookie.begin(), cookie.end(), 'A');
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_signo = attached.socket.fd();
    event.sigev_value.sival_ptr = cookie.data();
    // The system call itself: the C library would make a socket and a thread of its own.
    ASSERT_EQ(syscall(SYS_mq_notify, queue, &event), 0) << "errno " << errno;
    ASSERT_EQ(mq_send(queue, "x", 1, 0), 0) << "errno " << errno;
    std::optional<RawRecord> record;
    ASSERT_TRUE(eventually([&] { return (record = attached.ring.next()).has_value(); }));
    EXPECT_EQ(record->header.flags, 0) << "nothing about it is well-formed";
    ASSERT_EQ(record->datagram.size(), cookie.size());
    EXPECT_EQ(std::memcmp(record->datagram.data(), cookie.data(), cookie.size() - 1), 0);
    EXPECT_EQ(record->datagram.back(), std::byte{1}) << "NOTIFY_WOKENUP";
    mq_close(queue);
    mq_unlink(name.c_str());
}

}  // namespace
}  // namespace guest
