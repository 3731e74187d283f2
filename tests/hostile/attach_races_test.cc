// SPDX-License-Identifier: MIT
//
// A socket of another family is attached while others use it for all that one can
// do with a socket: sleep in recvmsg(), poll, send, dump, attach too, close. One
// attach wins, nobody hangs, the ring that came of it is whole, and a witness on
// the same group misses nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/sleepers.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/channel.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::attach;
using guest::Bytes;
using guest::family_socket;
using guest::find_empty;
using guest::Outcome;
using guest::RawAttached;
using guest::RawSocket;
using guest::Reader;
using guest::Reading;
using guest::Request;
using guest::Sending;
using guest::SentCheck;

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kGroup = 11;
constexpr int kThreads = 8;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

void send_dump_request(int fd, std::uint32_t messages) {
    const nlmmap_sender_dump fixed{
        .messages = messages, .bytes = 96, .flags = 0, .min_dump_alloc = 0};
    Request request(NLMMAP_SENDER_DUMP, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    if (send(fd, request.bytes().data(), request.bytes().size(), 0) < 0) {
        fail("asking for a dump");
    }
}

// A datagram to everybody in the group, as any user of the family may send it.
void broadcast(const RawSocket& from, std::uint64_t number) {
    sockaddr_nl to{};
    to.nl_family = AF_NETLINK;
    to.nl_groups = 1U << (kGroup - 1);
    const Bytes message = guest::sent_message(0, number, 64);
    if (sendto(from.fd(), message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&to),
               sizeof(to)) < 0 &&
        errno != ECONNREFUSED && errno != ENOBUFS) {
        fail("broadcast");
    }
}

// Throws unless the attach ended in a way that the contract names here.
bool attached_or_busy(int fd, std::uint32_t ring_bytes) {
    const Outcome outcome = attach(fd, ring_bytes);
    if (outcome.error != 0 && outcome.error != EBUSY) {
        throw std::runtime_error("attach: " + std::to_string(outcome.error) + " " +
                                 outcome.sentence);
    }
    return outcome.error == 0;
}

class AttachRace : public Attack {
  protected:
    void SetUp() override {
        std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "Y";
    }
    void TearDown() override {
        std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "N";
        expect_nothing_left(0);
    }
};

INSTANTIATE_FOR_ALL_ATTACKERS(AttachRace);

// What each of the threads does with a descriptor of its own for the same socket.
void use(int me, int fd, Dice& dice, std::atomic<int>& won) {
    std::array<std::byte, 8192> buffer{};
    switch (me) {
        case 0:
        case 1:
        case 2:
            won += attached_or_busy(fd, kPage << (2 * me));
            break;
        case 3:
            // Until it is told that there is a ring.
            while (recv(fd, buffer.data(), buffer.size(), 0) >= 0 || errno == ENOBUFS ||
                   errno == EINVAL) {
            }
            if (errno != EBUSY) {
                fail("recv of one who sleeps");
            }
            break;
        case 4:
            for (int at = 0; at < 40; ++at) {
                const int flags = dice.below(2) != 0 ? MSG_DONTWAIT | MSG_PEEK : MSG_DONTWAIT;
                // EINVAL: netlink's own, where two who receive both go on with a dump.
                if (recv(fd, buffer.data(), buffer.size(), flags) < 0 && errno != EAGAIN &&
                    errno != EBUSY && errno != ENOBUFS && errno != EINVAL) {
                    fail("recv");
                }
            }
            break;
        case 5:
            for (int at = 0; at < 5; ++at) {
                send_dump_request(fd, 200);
            }
            break;
        case 6:
            for (int at = 0; at < 20; ++at) {
                pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
                poll(&readable, 1, static_cast<int>(dice.below(3)));
            }
            break;
        default: {
            const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
            for (std::uint64_t number = 0; number < 40; ++number) {
                broadcast(sender, number);
            }
        }
    }
    if (dice.below(2) != 0) {
        std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
        std::string line;
        while (std::getline(info, line)) {
        }
    }
}

TEST_P(AttachRace, OfEightThreadsGivesTheSocketOneRingThatWorks) {
    attack([] {
        std::uint64_t seed = 0;
        for (Rounds rounds(60, 900ms); rounds.more();) {
            RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
            ASSERT_EQ(socket.add_membership(kGroup), 0);
            std::atomic<int> won{0};
            ++seed;
            together(kThreads, [&](int me) {
                Dice dice(seed * kThreads + static_cast<std::uint64_t>(me));
                const RawSocket own(fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0));
                use(me, own.fd(), dice, won);
            });
            ASSERT_EQ(won.load(), 1) << "one attach wins";
            const Outcome info = guest::attached_info(socket.fd());
            ASSERT_TRUE(guest::succeeded(info));
            const std::uint32_t ring_bytes =
                info.replies.front().get<std::uint32_t>(NLMMAP_A_RX_BYTES).value_or(0);
            RawAttached attached(std::move(socket), ring_bytes);
            // next() checks all that the contract says of records.
            const auto reader = Reader::make(Reading::mapped, attached);
            while (reader->next(20ms)) {
            }
            // As often as it takes: what came before may not all have been drained yet.
            const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
            ASSERT_TRUE(guest::eventually([&] {
                broadcast(sender, 4711);
                const auto arrival = reader->next(50ms);
                std::uint64_t number = 0;
                if (arrival && arrival->datagram.size() >= sizeof(nlmsghdr) + sizeof(number)) {
                    std::memcpy(&number, arrival->datagram.data() + sizeof(nlmsghdr),
                                sizeof(number));
                }
                return number == 4711;
            })) << "it is deaf";
        }
    });
}

// Who sleeps in recvmsg() is woken by an error that he takes; here somebody takes all
// of them, and an exclusive epoll looks like one who sleeps and never leaves.
TEST_P(AttachRace, OfOneWhoTakesEveryErrorIsOverThoughSomebodySeemsToSleep) {
    attack([] {
        RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
        ASSERT_EQ(socket.add_membership(kGroup), 0);
        const RawSocket epoll(epoll_create1(EPOLL_CLOEXEC));
        epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE, .data = {}};
        ASSERT_EQ(epoll_ctl(epoll.fd(), EPOLL_CTL_ADD, socket.fd(), &event), 0);
        std::atomic<bool> over{false};
        std::thread taker([&over, own = RawSocket(fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0))] {
            while (!over.load()) {
                int error = 0;
                socklen_t bytes = sizeof(error);
                getsockopt(own.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
            }
        });
        const bool first = attached_or_busy(socket.fd(), kPage);
        over.store(true);
        taker.join();
        ASSERT_TRUE(first);
        RawAttached attached(std::move(socket), kPage);
        broadcast(family_socket(NLMMAP_SENDER_FAMILY), 4711);
        EXPECT_EQ(epoll_wait(epoll.fd(), &event, 1, static_cast<int>(30000 * patience())), 1);
        EXPECT_TRUE(Reader::make(Reading::mapped, attached)->next(30s * patience()))
            << "it is deaf";
    });
}

TEST_P(AttachRace, WithTheCloseOfTheSocketAttachesItOrFindsItGone) {
    attack([] {
        for (Rounds rounds(200, 400ms); rounds.more();) {
            RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
            ASSERT_EQ(socket.add_membership(kGroup), 0);
            const int fd = socket.fd();
            together(4, [&](int me) {
                if (me == 0) {
                    socket.close();
                } else if (me == 1) {
                    // The number may be another socket's by now: the request's own.
                    const Outcome outcome = attach(fd, kPage);
                    if (outcome.error != 0 && outcome.error != EBADF && outcome.error != EINVAL &&
                        outcome.error != EBUSY) {
                        throw std::runtime_error("attach: " + std::to_string(outcome.error) + " " +
                                                 outcome.sentence);
                    }
                } else {
                    const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
                    for (std::uint64_t number = 0; number < 20; ++number) {
                        broadcast(sender, number);
                    }
                }
            });
        }
    });
}

TEST_P(AttachRace, OfForgedPositionsWithBurstsHurtsNobodyElse) {
    RawAttached witness(NLMMAP_SENDER_FAMILY, 1 << 20);
    witness.listen(kGroup);
    Assault forging = start([] {
        RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
        attached.listen(kGroup);
        std::atomic<bool> stop{false};
        std::thread poller([&] {
            while (!stop.load()) {
                guest::poll_now(attached.socket.fd(), POLLIN);
            }
        });
        Dice dice(4711);
        const auto end = std::chrono::steady_clock::now() + 600ms;
        while (std::chrono::steady_clock::now() < end) {
            const std::uint64_t produced = attached.ring.produced();
            const std::array<std::uint64_t, 6> positions = {produced,
                                                            produced + 8,
                                                            produced - dice.below(1 << 15),
                                                            dice.next(),
                                                            0,
                                                            produced - dice.below(1 << 13) * 8};
            attached.ring.forge(positions[dice.below(positions.size())]);
            attached.ring.set_watermark(static_cast<std::uint32_t>(dice.next()));
            if (dice.below(64) == 0) {
                send_dump_request(attached.socket.fd(), 300);
            }
        }
        stop.store(true);
        poller.join();
        EXPECT_GT(guest::attached_counter(attached.socket.fd(), NLMMAP_A_FORGED), 0U);
    });
    guest::Senders senders;
    const auto reader = Reader::make(Reading::mapped, witness);
    std::uint64_t first = 0;
    const auto under_way = [&] {
        siginfo_t info{};
        return waitid(P_PID, static_cast<id_t>(forging.pid()), &info,
                      WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == 0;
    };
    while (under_way()) {
        const Sending burst{.group = kGroup,
                            .context = NLMMAP_SENDER_CPUS,
                            .senders = 2,
                            .first = first,
                            .count = 400};
        first += burst.count;
        senders.send(burst);
        SentCheck check(burst);
        while (!check.whole()) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << check.received();
            ASSERT_EQ(arrival->lost, 0U);
            ASSERT_NO_THROW(check.datagram(arrival->datagram));
        }
    }
    forging.finish();
    EXPECT_EQ(guest::socket_drops(witness.socket.inode()), 0);
    witness.ring.unmap();
    witness.socket.close();
}

TEST_P(AttachRace, OfKillsWithDumpsLeavesNothingBehind) {
    attack([] {
        Dice dice(7);
        for (Rounds rounds(60, 600ms); rounds.more();) {
            const pid_t child = fork();
            if (child == 0) {
                RawAttached attached(NLMMAP_SENDER_FAMILY, kPage << dice.below(5));
                attached.listen(kGroup);
                const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
                for (std::uint64_t number = 0;; ++number) {
                    send_dump_request(attached.socket.fd(), 2000);
                    for (int at = 0; at < 8; ++at) {
                        broadcast(sender, number);
                        while (attached.ring.next()) {
                        }
                        find_empty(attached);
                    }
                }
            }
            ASSERT_GT(child, 0);
            std::this_thread::sleep_for(std::chrono::microseconds(dice.below(20000)));
            kill(child, SIGKILL);
            ASSERT_EQ(waitpid(child, nullptr, 0), child);
        }
    });
}

// The descriptor goes to a child by fork() and to another process by a message; all
// send and poll, one of them maps, and they end in any order.
TEST_P(AttachRace, OfProcessesThatShareTheDescriptorEndsWithTheLastOfThem) {
    attack([] {
        Dice dice(11);
        for (Rounds rounds(40, 500ms); rounds.more();) {
            RawSocket socket = family_socket(NLMMAP_SENDER_FAMILY);
            ASSERT_EQ(socket.add_membership(kGroup), 0);
            ASSERT_TRUE(guest::succeeded(attach(socket.fd(), kPage << 2)));
            const Channel channel;
            std::array<pid_t, 2> children{};
            for (std::size_t at = 0; at < children.size(); ++at) {
                children[at] = fork();
                if (children[at] == 0) {
                    // The second one has only what was sent to it.
                    if (at == 1) {
                        socket.close();
                    }
                    RawAttached attached(at == 0 ? std::move(socket)
                                                 : RawSocket(take_descriptor(channel.attacker())),
                                         kPage << 2);
                    const RawSocket sender = family_socket(NLMMAP_SENDER_FAMILY);
                    for (std::uint64_t number = 0;; ++number) {
                        broadcast(sender, number);
                        send_dump_request(attached.socket.fd(), 50);
                        guest::poll_now(attached.socket.fd(), POLLIN);
                        // Two readers of one ring hurt each other, and nobody else.
                        attached.ring.forge(attached.ring.produced());
                    }
                }
                ASSERT_GT(children[at], 0);
            }
            put(channel.test(), 0, socket.fd());
            if (dice.below(2) != 0) {
                socket.close();
            }
            std::this_thread::sleep_for(std::chrono::microseconds(dice.below(15000)));
            for (const pid_t child : children) {
                kill(child, SIGKILL);
                ASSERT_EQ(waitpid(child, nullptr, 0), child);
            }
        }
    });
}

}  // namespace
}  // namespace hostile
