// SPDX-License-Identifier: MIT
//
// Eight threads race set-up, join, leave, mmap, poll, dumps and close on the same
// sockets. Whatever the order, every request is answered, and by nothing but what
// the contract names for it; one set-up wins; nothing is left behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
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
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/channel.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::RawMember;
using guest::RawRing;
using guest::RawSocket;
using guest::Request;

constexpr int kThreads = 8;
constexpr std::uint32_t kPage = 4096;
constexpr std::array<std::uint32_t, 3> kSizes = {kPage, 4 * kPage, 16 * kPage};

// What a request is, in the top byte of its nlmsg_seq: so that whoever finds the
// answer knows to what.
enum Kind : std::uint32_t { kSetup = 1, kJoin, kLeave, kInfo, kGroup, kSockets, kGroups, kUnknown };

// The errors that the contract names.
std::vector<int> documented(Kind kind) {
    switch (kind) {
        case kSetup:
            // Not ENOMEM: these rings are small, and those that are gone do not count.
            return {0, EBUSY};
        case kJoin:
            return {0, ENOENT, ENODEV, EALREADY, ENOSPC, EAGAIN};
        case kLeave:
            return {0, ENOENT, ENODEV};
        case kInfo:
            return {0, ENODEV};
        case kGroup:
            return {0, ENOENT};
        case kSockets:
            return {0, EPERM, EBUSY};
        case kGroups:
            return {0, EBUSY};
        case kUnknown:
            return {EOPNOTSUPP};
    }
    return {};
}

// Requests that many threads send on sockets that they share, and their answers,
// which any of them may find.
class Traffic {
  public:
    void send(int fd, Kind kind, Request request) {
        request.header().nlmsg_seq = kind << 24 | (++serial_ & 0xffffff);
        const auto& bytes = request.bytes();
        if (::send(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
            throw std::system_error(errno, std::system_category(), "send of a request");
        }
        ++sent_;
    }
    // Takes all there is.
    void receive(int fd) {
        std::vector<std::byte> buffer(32768);
        for (;;) {
            const ssize_t got = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
            // ENOBUFS: told once; a plain listener's queue may be full. EINVAL: the core's word to
            // whoever comes for a dump that another thread has just read to its end.
            if (got < 0 && (errno == ENOBUFS || errno == EINVAL)) {
                continue;
            }
            if (got < 0 && errno == EAGAIN) {
                return;
            }
            if (got < 0) {
                throw std::system_error(errno, std::system_category(), "recv of an answer");
            }
            take({buffer.data(), static_cast<std::size_t>(got)});
        }
    }
    std::uint64_t sent() const { return sent_; }
    std::uint64_t answered() const { return answered_; }

  private:
    void take(std::span<const std::byte> datagram) {
        while (datagram.size() >= sizeof(nlmsghdr)) {
            nlmsghdr header;
            std::memcpy(&header, datagram.data(), sizeof(header));
            if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size()) {
                throw std::runtime_error("an answer is not well-formed netlink");
            }
            if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
                int error = 0;
                std::memcpy(&error, datagram.data() + sizeof(header), sizeof(error));
                judge(header, -error);
            }
            datagram = datagram.subspan(
                std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), datagram.size()));
        }
    }
    void judge(const nlmsghdr& header, int error) {
        const Kind kind = static_cast<Kind>(header.nlmsg_seq >> 24);
        const std::vector<int> allowed = documented(kind);
        if (std::find(allowed.begin(), allowed.end(), error) == allowed.end()) {
            throw std::runtime_error("request of kind " + std::to_string(kind) +
                                     " was answered with " + std::to_string(error) + " (" +
                                     std::strerror(error) + "), which the contract does not name");
        }
        ++answered_;
    }

    std::atomic<std::uint32_t> serial_{0};
    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::uint64_t> answered_{0};
};

std::uint32_t any_size(Dice& dice) { return kSizes[dice.below(kSizes.size())]; }

[[noreturn]] void unexpected(const std::string& what) {
    throw std::system_error(errno, std::system_category(), what + " answered");
}

// Both mappings, in either order, and a look at them; or the error for it.
void map_and_touch(int fd, Dice& dice) {
    const std::uint32_t bytes = any_size(dice);
    void* consumer = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (consumer == MAP_FAILED && errno != ENODEV) {
        unexpected("mmap of the consumer page");
    }
    void* rest = mmap(nullptr, kPage + 2 * bytes, PROT_READ, MAP_SHARED, fd, kPage);
    // EINVAL: a ring of another size.
    if (rest == MAP_FAILED && errno != ENODEV && errno != EINVAL) {
        unexpected("mmap of the data");
    }
    if (rest != MAP_FAILED) {
        const auto* words = static_cast<const volatile std::uint64_t*>(rest);
        for (std::size_t at = 0; at < (kPage + 2 * bytes) / sizeof(*words); at += kPage / 16) {
            static_cast<void>(words[at]);
        }
    }
    if (consumer != MAP_FAILED) {
        *static_cast<volatile std::uint64_t*>(consumer) = dice.below(1 << 20);
        munmap(consumer, kPage);
    }
    if (rest != MAP_FAILED) {
        munmap(rest, kPage + 2 * bytes);
    }
}

void wait_by_epoll(int fd, Dice& dice) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDBAND | (dice.below(2) != 0 ? EPOLLET : 0U);
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) {
        unexpected("epoll_ctl");
    }
    epoll_wait(set, &event, 1, static_cast<int>(dice.below(2)));
    close(set);
}

// What netlink has no use for goes through our operations all the same.
void call_what_netlink_refuses(int fd) {
    if (accept4(fd, nullptr, nullptr, SOCK_CLOEXEC) != -1 || errno != EOPNOTSUPP) {
        unexpected("accept");
    }
    if (listen(fd, 1) != -1 || errno != EOPNOTSUPP) {
        unexpected("listen");
    }
    if (shutdown(fd, SHUT_RDWR) != -1 || errno != EOPNOTSUPP) {
        unexpected("shutdown");
    }
}

void poll_for(int fd, int milliseconds) {
    pollfd ready{.fd = fd, .events = POLLIN | POLLRDBAND, .revents = 0};
    if (poll(&ready, 1, milliseconds) < 0 || ready.revents & POLLNVAL) {
        unexpected("poll");
    }
}

// One thing that a program may do with a socket of the family.
void hit(int fd, const std::string& group, Dice& dice, Traffic& traffic) {
    switch (dice.below(14)) {
        case 0:
            traffic.send(fd, kSetup,
                         Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, any_size(dice)));
            break;
        case 1:
        case 2:
            traffic.send(fd, kJoin, Request(NLMMAP_MSG_JOIN).string(NLMMAP_A_GROUP_NAME, group));
            break;
        case 3:
            traffic.send(fd, kLeave, Request(NLMMAP_MSG_LEAVE).string(NLMMAP_A_GROUP_NAME, group));
            break;
        case 4:
            traffic.send(fd, kInfo, Request(NLMMAP_MSG_SOCKET_GET));
            break;
        case 5:
            traffic.send(fd, kSockets,
                         Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP));
            break;
        case 6:
            traffic.send(fd, kGroups,
                         Request(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP));
            break;
        case 7:
            traffic.send(fd, kGroup,
                         Request(NLMMAP_MSG_GROUP_GET).string(NLMMAP_A_GROUP_NAME, group));
            break;
        case 8:
            traffic.send(fd, kUnknown, Request(NLMMAP_MSG_ATTACH + 1));
            break;
        case 9:
            map_and_touch(fd, dice);
            break;
        case 10:
            poll_for(fd, static_cast<int>(dice.below(2)));
            break;
        case 11:
            wait_by_epoll(fd, dice);
            break;
        case 12:
            guest::fdinfo(fd);
            break;
        default:
            call_what_netlink_refuses(fd);
            break;
    }
    traffic.receive(fd);
}

// Asleep on a number that may be /dev/null's by now, which cannot be waited for in
// every way.
void sleep_or_find_it_closed(guest::Sleeper& sleeper) {
    try {
        sleeper.sleep(2ms);
    } catch (const std::system_error& error) {
        if (error.code().value() != EINVAL && error.code().value() != EOPNOTSUPP) {
            throw;
        }
    }
}

class Race : public Attack {
  protected:
    void TearDown() override {
        neighbour_.expect_unharmed();
        expect_nothing_left(0);
    }
    const std::string& group() const { return neighbour_.name(); }

    Neighbour neighbour_{"race"};
};

INSTANTIATE_FOR_ALL_ATTACKERS(Race);

TEST_P(Race, OfSetUpsIsWonByExactlyOne) {
    attack([] {
        for (Rounds rounds(100, 200ms); rounds.more();) {
            RawSocket socket;
            std::atomic<int> mapped{0};
            together(kThreads, [&](int thread) {
                const std::uint32_t bytes =
                    kSizes[static_cast<std::size_t>(thread) % kSizes.size()];
                Request request(NLMMAP_MSG_SETUP);
                request.u32(NLMMAP_A_RX_BYTES, bytes);
                send(socket.fd(), request.bytes().data(), request.bytes().size(), 0);
                // Whoever won, it is set up now, for everybody.
                void* page = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, socket.fd(), 0);
                mapped += page != MAP_FAILED;
                if (page != MAP_FAILED) {
                    munmap(page, kPage);
                }
            });
            int won = 0;
            std::uint32_t bytes = 0;
            for (int i = 0; i < kThreads; ++i) {
                const guest::Outcome outcome = socket.answer();
                won += outcome.error == 0;
                if (outcome.error != 0) {
                    ASSERT_TRUE(guest::refused(outcome, EBUSY));
                }
                for (const guest::Reply& reply : outcome.replies) {
                    EXPECT_EQ(bytes, 0U) << "two answers say what the ring is";
                    bytes = reply.get<std::uint32_t>(NLMMAP_A_RX_BYTES).value_or(0);
                }
            }
            ASSERT_EQ(won, 1) << "set-ups that succeeded";
            ASSERT_EQ(mapped, kThreads) << "a ring that is there could not be mapped";
            const RawRing ring(socket, bytes);
            ASSERT_EQ(ring.producer().data_bytes, bytes) << "the ring is not the one of the winner";
        }
    });
}

TEST_P(Race, OfEverythingOnOneSocketAnswersEveryRequest) {
    attack([&] {
        for (Rounds rounds(5, 300ms, 2); rounds.more();) {
            RawSocket socket;
            Traffic traffic;
            together(kThreads, [&](int thread) {
                Dice dice(rounds.begun() * kThreads + static_cast<unsigned>(thread));
                for (Rounds hits(200, 60ms, 5); hits.more();) {
                    hit(socket.fd(), group(), dice, traffic);
                }
            });
            traffic.receive(socket.fd());
            ASSERT_EQ(traffic.answered(), traffic.sent()) << "a request was not answered";
        }
    });
}

// The last reference to a socket is dropped by whatever call is under way: in
// mmap, in poll, by an epoll set, by munmap.
TEST_P(Race, OfEverythingAgainstCloseLeavesNothingBehind) {
    attack([&] {
        const int slot = fcntl(RawSocket().fd(), F_DUPFD_CLOEXEC, 100);
        ASSERT_GE(slot, 0);
        Traffic traffic;
        std::atomic<bool> stop{false};
        together(kThreads, [&](int thread) {
            Dice dice(static_cast<unsigned>(thread));
            if (thread == 0) {
                for (Rounds rounds(1000, 400ms); rounds.more();) {
                    RawSocket next;
                    if (dice.below(2) != 0) {
                        static_cast<void>(next.setup(any_size(dice)));
                        static_cast<void>(next.join(group()));
                        next.add_membership(neighbour_.group());
                    }
                    dup3(next.fd(), slot, O_CLOEXEC);
                    next.close();
                }
                stop = true;
                return;
            }
            while (!stop && !somebody_failed()) {
                hit(slot, group(), dice, traffic);
            }
        });
        close(slot);
    });
}

TEST_P(Race, OfSleepersAgainstCloseEndsAllOfThem) {
    attack([&] {
        const std::vector<guest::Way> ways = guest::all_ways();
        for (Rounds rounds(70, 300ms, ways.size()); rounds.more();) {
            const guest::Way way = ways[rounds.begun() % ways.size()];
            RawMember member(group(), kPage);
            std::vector<std::unique_ptr<guest::Sleeper>> sleepers;
            sleepers.reserve(kThreads);
            for (int i = 0; i < kThreads - 2; ++i) {
                sleepers.push_back(guest::Sleeper::make(way, member.socket.fd()));
            }
            together(kThreads, [&](int thread) {
                Dice dice(rounds.begun() * kThreads + static_cast<unsigned>(thread));
                std::this_thread::sleep_for(std::chrono::microseconds(dice.below(500)));
                if (thread == 0) {
                    // Not closed as such: the number must not be somebody else's next.
                    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
                    dup3(null, member.socket.fd(), O_CLOEXEC);
                    close(null);
                } else if (thread == 1) {
                    member.ring.unmap();
                } else {
                    sleep_or_find_it_closed(*sleepers[static_cast<std::size_t>(thread - 2)]);
                }
            });
        }
    });
}

TEST_P(Race, OfSleepersAgainstSigkillLeavesNothingBehind) {
    attack([&] {
        const std::vector<guest::Way> ways = guest::all_ways();
        for (Rounds rounds(20, 250ms, 2); rounds.more();) {
            const Channel ready;
            const pid_t sleeping = fork();
            ASSERT_GE(sleeping, 0);
            if (sleeping == 0) {
                together(static_cast<int>(ways.size()), [&](int thread) {
                    RawMember member(group(), kPage);
                    const auto way = ways[static_cast<std::size_t>(thread)];
                    const auto sleeper = guest::Sleeper::make(way, member.socket.fd());
                    put(ready.attacker(), 0);
                    while (!somebody_failed()) {
                        sleeper->sleep(1000ms);
                        while (member.ring.next()) {
                        }
                        member.ring.release();
                    }
                });
                _exit(1);
            }
            if (rounds.begun() % 2 == 0) {
                // On a slow kernel nobody would have a ring after the time below.
                for (std::size_t i = 0; i < ways.size(); ++i) {
                    take(ready.test());
                }
            }
            usleep(static_cast<useconds_t>(2000 * rounds.begun()));
            kill(sleeping, SIGKILL);
            int status = 0;
            ASSERT_EQ(waitpid(sleeping, &status, 0), sleeping);
            ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself: a way to sleep failed";
        }
    });
}

// Every membership ends by a leave or by a notice in the ring: exactly one of them.
TEST_P(Race, OfJoinsAgainstTheEndOfGroupsLosesNoNotice) {
    const std::string brief = guest::unique_name("brief");
    std::atomic<bool> stop{false};
    std::thread groups([&] {
        while (!stop) {
            guest::Producer producer;
            const std::uint32_t group = producer.add_group(brief);
            auto flow = producer.start({.group = group,
                                        .count = 1000000,
                                        .in_place = true,
                                        .context = NLMMAP_TEST_KTHREAD,
                                        .producers = 2,
                                        .burst = 4,
                                        .pause_us = 100});
            // Long enough for somebody to join, if he is quick.
            for (int i = 0; i < 20 && !producer.has_listeners(group); ++i) {
                usleep(1000);
            }
            producer.remove_group(group);
            flow.wait();
        }
    });
    attack([&] {
        std::atomic<std::uint64_t> all_joined{0};
        together(kThreads, [&](int thread) {
            Dice dice(static_cast<unsigned>(thread));
            if (thread == 0) {
                // Plain listeners make the end of a group take longer.
                for (Rounds rounds(20, 300ms); rounds.more();) {
                    RawSocket plain;
                    const auto group = plain.group(brief);
                    if (group.error == 0) {
                        plain.add_membership(
                            group.replies.front().get<std::uint32_t>(NLMMAP_A_GROUP_ID).value());
                    }
                    usleep(3000);
                }
                return;
            }
            RawSocket socket;
            ASSERT_TRUE(guest::succeeded(socket.setup(16 * kPage)));
            RawRing ring(socket, 16 * kPage);
            std::uint64_t joined = 0;
            std::uint64_t ended = 0;
            const auto read = [&] {
                while (const auto record = ring.next()) {
                    ended += (record->header.flags & NLMMAP_RECORD_NOTICE) != 0;
                }
                ring.release();
            };
            for (Rounds rounds(2000, 400ms); rounds.more();) {
                const int error = socket.join(brief).error;
                joined += error == 0;
                ASSERT_TRUE(error == 0 || error == ENOENT || error == EALREADY || error == EAGAIN)
                    << std::strerror(error);
                if (dice.below(3) == 0) {
                    const int left = socket.leave(brief).error;
                    ended += left == 0;
                    ASSERT_TRUE(left == 0 || left == ENOENT) << std::strerror(left);
                }
                read();
            }
            EXPECT_TRUE(guest::eventually([&] {
                read();
                return ended == joined;
            })) << joined
                << " memberships began and " << ended << " ended by a leave or a notice";
            all_joined += joined;
        });
        EXPECT_GT(all_joined, 0U) << "no join came in time: this raced nothing";
    });
    stop = true;
    groups.join();
}

TEST_P(Race, OfDumpsAgainstSocketsThatComeAndGoEndsAndIsWellFormed) {
    attack([&] {
        std::atomic<bool> stop{false};
        together(kThreads, [&](int thread) {
            if (thread < 2) {
                RawSocket socket;
                for (Rounds rounds(200, 300ms); rounds.more();) {
                    const auto sockets =
                        socket.ask(Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP));
                    ASSERT_EQ(sockets.error, privileged() ? 0 : EPERM) << sockets.sentence;
                    for (const guest::Reply& reply : sockets.replies) {
                        ASSERT_TRUE(reply.get<std::uint32_t>(NLMMAP_A_RX_BYTES).has_value());
                        ASSERT_TRUE(reply.get<std::uint64_t>(NLMMAP_A_FORGED).has_value());
                    }
                    if (privileged()) {
                        ASSERT_FALSE(sockets.replies.empty()) << "the neighbour's, at least";
                    }
                    const auto groups =
                        socket.ask(Request(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_DUMP));
                    ASSERT_EQ(groups.error, 0) << groups.sentence;
                    ASSERT_FALSE(groups.replies.empty()) << "the neighbour's, at least";
                }
                stop = true;
                return;
            }
            Dice dice(static_cast<unsigned>(thread));
            while (!stop && !somebody_failed()) {
                RawSocket socket;
                ASSERT_TRUE(guest::succeeded(socket.setup(any_size(dice))));
                const auto joined = socket.join(group());
                ASSERT_EQ(joined.error, 0) << joined.sentence;
                if (dice.below(2) != 0) {
                    ASSERT_TRUE(guest::succeeded(socket.leave(group())));
                }
                // A dump that nobody reads to its end goes with its socket.
                const Request dump(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_DUMP);
                send(socket.fd(), dump.bytes().data(), dump.bytes().size(), 0);
            }
        });
    });
}

}  // namespace
}  // namespace hostile
