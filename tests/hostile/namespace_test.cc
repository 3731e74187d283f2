// SPDX-License-Identifier: MIT
//
// A network namespace ends with everything live in it: members asleep in every
// way, plain listeners, publishers at work in threads and interrupts, wake-ups
// pending, a socket on its way to another process. Its groups go with it, and
// other namespaces do not notice.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
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
using guest::Producer;
using guest::RawMember;
using guest::RawSocket;

constexpr std::uint32_t kRing = 1 << 14;

// Runs code in a thread that has gone to the network namespace of a process.
void in_network_of(pid_t pid, const std::function<void()>& code) {
    const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
    const int there = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(there, 0) << path << ": " << std::strerror(errno);
    std::thread([&] {
        ASSERT_EQ(setns(there, CLONE_NEWNET), 0) << std::strerror(errno);
        code();
    }).join();
    close(there);
}

// True when the group is gone with its namespace: the producer's file, which
// stays open, knows it no more.
bool gone(Producer& producer, std::uint32_t group) {
    try {
        producer.has_listeners(group);
        return false;
    } catch (const std::system_error& error) {
        return error.code().value() == ENOENT;
    }
}

// Publishes from one context until its group goes, and leaves the CPUs some time
// for that.
void publish_until_gone(Producer& producer, std::uint32_t group, std::uint32_t context) {
    guest::Published published;
    do {
        try {
            const bool threads = context == NLMMAP_TEST_KTHREAD;
            published = producer.publish({.group = group,
                                          .count = 20,
                                          .in_place = context % 2 != 0,
                                          .context = context,
                                          .producers = threads ? 2U : 1U,
                                          .cpu = 1,
                                          .burst = 4,
                                          .pause_us = 50});
            EXPECT_EQ(published.refused, 0U) << std::strerror(published.error);
            usleep(500);
        } catch (const std::system_error& error) {
            EXPECT_EQ(error.code().value(), ENOENT) << error.what();
            return;
        }
    } while (published.ended == 0);
    EXPECT_EQ(published.ended, ECANCELED);
}

// From where messages are published while the namespace ends.
constexpr std::array<std::uint32_t, 4> kContexts = {NLMMAP_TEST_KTHREAD, NLMMAP_TEST_SOFTIRQ,
                                                    NLMMAP_TEST_IRQ_WORK, NLMMAP_TEST_IPI};

std::vector<std::future<void>> publish_from_everywhere(Producer& producer, std::uint32_t group) {
    std::vector<std::future<void>> publishers;
    publishers.reserve(kContexts.size());
    for (const std::uint32_t context : kContexts) {
        publishers.push_back(
            std::async(std::launch::async, publish_until_gone, std::ref(producer), group, context));
    }
    return publishers;
}

// A thread for each way to wait, on a socket of its own with a ring, forever.
void sleep_in_every_way(const std::string& name) {
    const std::vector<guest::Way> ways = guest::all_ways();
    together(static_cast<int>(ways.size()), [&](int thread) {
        RawMember member(name, kRing);
        const auto sleeper =
            guest::Sleeper::make(ways[static_cast<std::size_t>(thread)], member.socket.fd());
        while (!somebody_failed()) {
            sleeper->sleep(10s);
            while (member.ring.next()) {
            }
            member.ring.release();
        }
    });
}

class EndOfNamespace : public Attack {
  protected:
    void TearDown() override {
        neighbour_.expect_unharmed();
        expect_nothing_left(0);
    }
    // The attacker, in a network namespace of his own, which root gives to who
    // cannot make one. Says that it is there, then waits for a word.
    Assault start_elsewhere(const std::function<void()>& code) {
        return start([&, code] {
            if (GetParam() != Attacker::user && unshare(CLONE_NEWNET) != 0) {
                throw std::system_error(errno, std::system_category(), "unshare(CLONE_NEWNET)");
            }
            put(channel_.attacker(), 0);
            take(channel_.attacker());
            code();
        });
    }
    void await() { take(channel_.test()); }
    void go() { put(channel_.test(), 0); }

    Neighbour neighbour_{"namespace"};
    const Channel channel_;
};

INSTANTIATE_FOR_ALL_ATTACKERS(EndOfNamespace);

TEST_P(EndOfNamespace, WithEverythingLiveTakesTheGroupsAlong) {
    for (Rounds rounds(8, 700ms, 2); rounds.more();) {
        const std::string name = guest::unique_name("live");
        Producer producer;
        std::uint32_t group = 0;
        std::optional<Assault> attacker;
        const auto live = [&] {
            attacker.emplace(start_elsewhere([&] {
                RawSocket plain;
                EXPECT_EQ(plain.add_membership(plain.group(name)
                                                   .replies.at(0)
                                                   .get<std::uint32_t>(NLMMAP_A_GROUP_ID)
                                                   .value()),
                          0);
                sleep_in_every_way(name);
            }));
            await();
        };
        if (GetParam() == Attacker::user) {
            // Born into a namespace that root made.
            guest::in_new_network([&] {
                live();
                group = producer.add_group(name);
            });
        } else {
            live();
            in_network_of(attacker->pid(), [&] { group = producer.add_group(name); });
        }
        go();
        auto publishers = publish_from_everywhere(producer, group);
        EXPECT_TRUE(guest::eventually([&] { return producer.has_listeners(group); }));
        usleep(static_cast<useconds_t>(1000 * rounds.begun()));
        kill(attacker->pid(), SIGKILL);
        EXPECT_EQ(attacker->outcome(SIGKILL), "");
        EXPECT_TRUE(guest::eventually([&] { return gone(producer, group); }))
            << "the namespace lives on although everybody in it is dead";
        for (auto& publisher : publishers) {
            publisher.get();
        }
    }
}

// The producer unregisters in the very moment in which the namespace ends.
TEST(NamespaceEnd, MayRaceWithTheEndOfItsProducers) {
    Neighbour neighbour("ends");
    for (Rounds rounds(30, 700ms, 5); rounds.more();) {
        std::optional<Producer> producer(std::in_place);
        std::optional<RawMember> member;
        std::optional<RawSocket> plain;
        guest::in_new_network([&] {
            const std::string name = guest::unique_name("both");
            const std::uint32_t group = producer->add_group(name);
            member.emplace(name, kRing);
            plain.emplace();
            ASSERT_EQ(plain->add_membership(group), 0);
            producer->publish({.group = group, .count = 50});
        });
        together(3, [&](int thread) {
            // The core takes a while from the last socket's close to the namespace's end.
            Dice dice(rounds.begun() * 3 + static_cast<unsigned>(thread));
            usleep(static_cast<useconds_t>(dice.below(thread == 2 ? 30000 : 1000)));
            if (thread == 0) {
                member.reset();
            } else if (thread == 1) {
                plain.reset();
            } else {
                producer.reset();
            }
        });
    }
    neighbour.expect_unharmed();
    expect_nothing_left(0);
}

// A group may outlive its namespace: whoever publishes to it is not disturbed.
TEST(NamespaceEnd, LeavesPublishersAtWorkWithNobodyToHearThem) {
    Neighbour neighbour("publishers");
    for (Rounds rounds(10, 600ms, 2); rounds.more();) {
        Producer producer;
        std::uint32_t group = 0;
        std::optional<RawMember> member;
        std::optional<RawSocket> plain;
        guest::in_new_network([&] {
            const std::string name = guest::unique_name("kept");
            group = producer.add_kept_group(name);
            member.emplace(name, kRing);
            plain.emplace();
            ASSERT_EQ(plain->add_membership(group), 0);
        });
        auto publishers = publish_from_everywhere(producer, group);
        EXPECT_TRUE(guest::eventually([&] { return member->ring.readable(); }));
        member.reset();
        plain.reset();
        // What hears for the plain listener is a member for as long as the namespace is.
        EXPECT_TRUE(guest::eventually([&] { return !producer.has_listeners(group); }))
            << "the namespace lives on although its last socket is closed";
        producer.remove_group(group);
        for (auto& publisher : publishers) {
            publisher.get();
        }
    }
    neighbour.expect_unharmed();
    expect_nothing_left(0);
}

// Nobody in it is alive, but a descriptor is on its way.
TEST_P(EndOfNamespace, WaitsForASocketThatIsOnItsWay) {
    const std::string name = guest::unique_name("way");
    Producer producer;
    std::uint32_t group = 0;
    std::optional<Channel> way(std::in_place);
    std::optional<Assault> attacker;
    const auto send_one = [&] {
        attacker.emplace(start_elsewhere([&] {
            RawMember member(name, kRing);
            put(way->attacker(), 0, member.socket.fd());
        }));
        await();
    };
    if (GetParam() == Attacker::user) {
        guest::in_new_network([&] {
            send_one();
            group = producer.add_group(name);
        });
    } else {
        send_one();
        in_network_of(attacker->pid(), [&] { group = producer.add_group(name); });
    }
    go();
    attacker->finish();
    // Published into a ring that only the message on its way holds.
    EXPECT_EQ(producer.publish({.group = group, .count = 20}).delivered, 20U);
    EXPECT_TRUE(producer.has_listeners(group));
    way.reset();
    EXPECT_TRUE(guest::eventually([&] { return gone(producer, group); }))
        << "the message is thrown away, and its socket's namespace lives on";
}

// Many at once: the core ends them in one batch.
TEST_P(EndOfNamespace, OfManyAtOnceDisturbsNobody) {
    attack([&] {
        if (GetParam() == Attacker::user) {
            // He cannot make any; sockets in this one come and go instead.
            for (Rounds rounds(100, 200ms); rounds.more();) {
                RawMember member(neighbour_.name(), kRing);
            }
            return;
        }
        for (Rounds rounds(3, 400ms, 1); rounds.more();) {
            together(8, [&](int) {
                if (unshare(CLONE_NEWNET) != 0) {
                    throw std::system_error(errno, std::system_category(), "unshare");
                }
                RawSocket socket;
                ASSERT_TRUE(guest::succeeded(socket.setup(kRing)));
                ASSERT_TRUE(guest::refused(socket.join(neighbour_.name()), ENOENT))
                    << "a group of another namespace";
                const guest::RawRing ring(socket, kRing);
                guest::poll_now(socket.fd(), POLLIN);
            });
        }
    });
}

}  // namespace
}  // namespace hostile
