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
    for (std::uint32_t i = 0; i < kGroups; ++i) {
        groups.push_back(producer.add_group(guest::unique_name("many"), 1, 64));
    }
    attack([&] {
        std::size_t most = 0;
        for (Rounds rounds(20, 1500ms, 3); rounds.more() && most < kGroups;) {
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
                const Request join = Request(NLMMAP_MSG_JOIN, NLM_F_REQUEST)
                                         .u32(NLMMAP_A_GROUP_ID, group);
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
    });
}

// A dump that is read in parts no larger than that: what a part tells of ends
// before the next part is asked for.
constexpr std::size_t kPart = 4096;

// Reads a dump part by part. True if it says of itself that it was disturbed.
bool read_dump(RawSocket& socket, const Request& request,
               const std::function<void(const std::vector<Reply>&)>& part) {
    if (send(socket.fd(), request.bytes().data(), request.bytes().size(), 0) < 0) {
        throw std::system_error(errno, std::system_category(), "send");
    }
    bool interrupted = false;
    for (;;) {
        Bytes buffer(kPart);
        const ssize_t got = recv(socket.fd(), buffer.data(), buffer.size(), MSG_TRUNC);
        if (got < 0 || static_cast<std::size_t>(got) > buffer.size()) {
            throw std::system_error(got < 0 ? errno : EMSGSIZE, std::system_category(), "recv");
        }
        std::vector<Reply> replies;
        for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
            Reply reply;
            std::memcpy(&reply.header, buffer.data() + at, sizeof(reply.header));
            const auto begin = buffer.begin() + static_cast<std::ptrdiff_t>(at);
            reply.payload.assign(begin + sizeof(nlmsghdr), begin + reply.header.nlmsg_len);
            interrupted = interrupted || (reply.header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (reply.header.nlmsg_type == NLMSG_DONE) {
                return interrupted;
            }
            replies.push_back(reply);
            at += NLMSG_ALIGN(replies.back().header.nlmsg_len);
        }
        part(replies);
    }
}

TEST(DumpOfSockets, ThatMissesOneThatStayedSaysSo) {
    std::map<std::uint32_t, RawSocket> sockets;  // by port
    for (int i = 0; i < 400; ++i) {
        RawSocket socket;
        ASSERT_TRUE(guest::succeeded(socket.setup(4096)));
        const std::uint32_t port = socket.portid();
        sockets.emplace(port, std::move(socket));
    }
    RawSocket asker;
    const bool interrupted = read_dump(
        asker, Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP), [&](const auto& part) {
            for (const Reply& reply : part) {
                sockets.erase(reply.get<std::uint32_t>(NLMMAP_A_PORTID).value());
            }
        });
    EXPECT_TRUE(sockets.empty() || interrupted)
        << sockets.size() << " sockets that were there all the time were not told of, and the dump "
        << "does not say that it was disturbed (NLM_F_DUMP_INTR)";
}

TEST(DumpOfGroups, ThatMissesOneThatStayedSaysSo) {
    Producer producer;
    std::set<std::uint32_t> groups;
    for (int i = 0; i < 200; ++i) {
        groups.insert(producer.add_group(guest::unique_name("dumped")));
    }
    RawSocket asker;
    const bool interrupted = read_dump(
        asker, Request(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_DUMP), [&](const auto& part) {
            for (const Reply& reply : part) {
                const auto id = reply.get<std::uint32_t>(NLMMAP_A_GROUP_ID).value();
                if (groups.erase(id) != 0) {
                    producer.remove_group(id);
                }
            }
        });
    EXPECT_TRUE(groups.empty() || interrupted)
        << groups.size() << " groups that were there all the time were not told of, and the dump "
        << "does not say that it was disturbed (NLM_F_DUMP_INTR)";
}

}  // namespace
}  // namespace hostile
