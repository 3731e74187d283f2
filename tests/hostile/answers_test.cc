// SPDX-License-Identifier: MIT
//
// What is asked about changes while it is being answered: a socket joins dozens of
// groups between its set-up and the answer to that; sockets and groups go while a
// dump that told of them is half read.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::Bytes;
using guest::OnCpu;
using guest::Producer;
using guest::RawSocket;
using guest::Reply;
using guest::Request;

class Answer : public Attack {
  protected:
    void TearDown() override { expect_nothing_left(0); }
};

INSTANTIATE_FOR_ALL_ATTACKERS(Answer);

// The answer tells which groups the socket has joined. Another thread's joins get
// between the set-up and its answer while that waits for the groups' lock, and has
// to wait on because its CPU is taken.
TEST_P(Answer, ToASetUpComesHoweverManyGroupsWereJoinedMeanwhile) {
    constexpr std::uint32_t kGroups = 100;
    constexpr std::uint32_t kRing = 1 << 16;
    Producer producer;
    std::vector<std::uint32_t> groups;
    groups.reserve(kGroups);
    for (std::uint32_t i = 0; i < kGroups; ++i) {
        groups.push_back(producer.add_group(guest::unique_name("many"), 1, 64));
    }
    attack([&] {
        // Mostly, the first round gets all of them.
        const auto time = patience() == 1 ? 60000ms : 1500ms;
        std::size_t most = 0;
        for (Rounds rounds(100, time, 3); rounds.more() && most < kGroups;) {
            // Whose end, with a plain listener, holds the groups' lock for a grace period.
            const std::uint32_t slow = producer.add_group(guest::unique_name("slow"), 1, 64);
            RawSocket plain;
            ASSERT_EQ(plain.add_membership(slow), 0);
            RawSocket socket;
            // Asks for the lock before the set-up does, and joins when it has it.
            Bytes joins = Request(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST)
                              .u32(NLMMAP_A_GROUP_ID, groups.front())
                              .bytes();
            for (const std::uint32_t group : groups) {
                const Request join =
                    Request(NLMMAP_MSG_JOIN, NLM_F_REQUEST).u32(NLMMAP_A_GROUP_ID, group);
                joins.insert(joins.end(), join.bytes().begin(), join.bytes().end());
            }
            constexpr std::uint32_t kSetUp = 77;
            Request set_up(NLMMAP_MSG_SETUP);
            set_up.u32(NLMMAP_A_RX_BYTES, kRing);
            set_up.header().nlmsg_seq = kSetUp;
            together(4, [&](int thread) {
                const OnCpu cpu(thread < 2 ? 1 : 0);
                std::this_thread::sleep_for(thread * 1500us);
                if (thread == 0) {
                    producer.remove_group(slow);
                } else if (thread == 1) {
                    send(socket.fd(), joins.data(), joins.size(), 0);
                } else if (thread == 2) {
                    const sched_param none{};
                    sched_setscheduler(0, SCHED_IDLE, &none);
                    send(socket.fd(), set_up.bytes().data(), set_up.bytes().size(), 0);
                } else {
                    const auto end = std::chrono::steady_clock::now() + 60ms;
                    while (std::chrono::steady_clock::now() < end) {
                    }
                }
            });
            // Among the answers to joins that came too early.
            guest::Outcome answer;
            std::optional<std::uint32_t> seq;
            Bytes buffer(65536);
            for (;;) {
                const ssize_t got = recv(socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
                if (got < 0) {
                    break;
                }
                nlmsghdr header;
                std::memcpy(&header, buffer.data(), sizeof(header));
                if (header.nlmsg_type == NLMSG_ERROR && header.nlmsg_seq == kSetUp) {
                    int error = 0;
                    std::memcpy(&error, buffer.data() + sizeof(header), sizeof(error));
                    seq = header.nlmsg_seq;
                    EXPECT_EQ(error, 0) << "the set-up was answered with " << std::strerror(-error)
                                        << ", though the socket has its ring";
                }
                if (header.nlmsg_type == NLMMAP_MSG_SOCKET) {
                    Reply reply;
                    reply.payload.assign(buffer.begin() + sizeof(header), buffer.begin() + got);
                    most = std::max(most, reply.all(NLMMAP_A_GROUP_ID).size());
                }
            }
            EXPECT_TRUE(seq.has_value()) << "the set-up was not answered";
            EXPECT_TRUE(guest::succeeded(socket.info()));
        }
        std::cout << "at most " << most << " groups were joined before the answer" << std::endl;
        if (patience() == 1) {
            EXPECT_GT(most, 64U) << "hardly anything came between the set-up and its answer";
        }
    });
}

// A dump is read in parts of this size.
constexpr std::size_t kPart = 4096;

// A dump that is half read.
class Dump {
  public:
    explicit Dump(std::uint16_t type) {
        const Request request(type, NLM_F_REQUEST | NLM_F_DUMP);
        if (send(socket_.fd(), request.bytes().data(), request.bytes().size(), 0) < 0) {
            throw std::system_error(errno, std::system_category(), "send");
        }
    }
    // One more part of it; true if there is more. What attribute says of each
    // object is added to what was told.
    bool read_part(std::uint16_t attribute) {
        Bytes buffer(kPart);
        const ssize_t got = recv(socket_.fd(), buffer.data(), buffer.size(), MSG_TRUNC);
        if (got < 0 || static_cast<std::size_t>(got) > buffer.size()) {
            throw std::system_error(got < 0 ? errno : EMSGSIZE, std::system_category(), "recv");
        }
        for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
            Reply reply;
            std::memcpy(&reply.header, buffer.data() + at, sizeof(reply.header));
            const auto begin = buffer.begin() + static_cast<std::ptrdiff_t>(at);
            reply.payload.assign(begin + sizeof(nlmsghdr), begin + reply.header.nlmsg_len);
            at += NLMSG_ALIGN(reply.header.nlmsg_len);
            interrupted_ = interrupted_ || (reply.header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (reply.header.nlmsg_type == NLMSG_DONE) {
                return false;
            }
            told_.insert(reply.get<std::uint32_t>(attribute).value());
        }
        return true;
    }
    bool told_of(std::uint32_t object) const { return told_.count(object) != 0; }
    // It says of itself that it was disturbed.
    bool interrupted() const { return interrupted_; }

  private:
    RawSocket socket_;
    std::set<std::uint32_t> told_;
    bool interrupted_ = false;
};

// Dumps are read for some parts; then half of the objects go at once, and the dumps
// are read to their ends. The other half was there all the time: a dump that does
// not tell of all of those has to say so.
void expect_dumps_to_know(std::uint16_t type, std::uint16_t attribute, int dumps_wanted,
                          const std::vector<std::uint32_t>& staying,
                          const std::function<void()>& let_half_go) {
    constexpr int kParts = 10;
    std::vector<std::unique_ptr<Dump>> dumps;
    for (int i = 0; i < dumps_wanted; ++i) {
        dumps.push_back(std::make_unique<Dump>(type));
        for (int part = 0; part < i % kParts; ++part) {
            ASSERT_TRUE(dumps.back()->read_part(attribute)) << "too few objects for so many parts";
        }
    }
    let_half_go();
    for (const auto& dump : dumps) {
        while (dump->read_part(attribute)) {
        }
        const auto missed = std::count_if(staying.begin(), staying.end(),
                                          [&](std::uint32_t one) { return !dump->told_of(one); });
        EXPECT_TRUE(missed == 0 || dump->interrupted())
            << missed << " that were there all the time are missing in a dump that does not say "
            << "that it was disturbed (NLM_F_DUMP_INTR)";
    }
}

// An administrator's list must not depend on what users do with their sockets:
// not even a user who opens and closes them all the time makes it miss others.
TEST(Dumps, OfSocketsMissNoneThatStayed) {
    std::vector<RawSocket> sockets;
    std::vector<std::uint32_t> staying;
    for (int i = 0; i < 600; ++i) {
        sockets.emplace_back();
        ASSERT_TRUE(guest::succeeded(sockets.back().setup(4096)));
        if (i % 2 != 0) {
            staying.push_back(sockets.back().portid());
        }
    }
    expect_dumps_to_know(NLMMAP_MSG_SOCKET_GET, NLMMAP_A_PORTID, 30, staying, [&] {
        for (std::size_t i = 0; i < sockets.size(); i += 2) {
            sockets[i].close();
        }
    });
}

TEST(Dumps, OfGroupsMissNoneThatStayedOrSaySo) {
    Producer producer;
    std::vector<std::uint32_t> going;
    std::vector<std::uint32_t> staying;
    // Names of the greatest length, so that they are many parts.
    const std::string prefix = guest::unique_name("a-name-as-long-as-is-allowed");
    for (int i = 0; i < 500; ++i) {
        const std::string name = prefix.substr(0, 27) + std::to_string(1000 + i);
        (i % 2 != 0 ? staying : going).push_back(producer.add_group(name));
    }
    expect_dumps_to_know(NLMMAP_MSG_GROUP_GET, NLMMAP_A_GROUP_ID, 10, staying, [&] {
        for (const std::uint32_t group : going) {
            producer.remove_group(group);
        }
    });
}

}  // namespace
}  // namespace hostile
