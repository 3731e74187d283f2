// SPDX-License-Identifier: MIT
//
// Every allocation and user copy of what is asked of groups failing once in turn:
// join, leave, plain membership, questions and dumps, registering and
// unregistering a group; and, while messages flow, those of the work item that
// serves plain listeners. Publishing itself allocates nothing. What a reader asks is
// asked by an ordinary user; groups, and the dump of all sockets, are root's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/faults.h"

namespace hostile {
namespace {

using guest::RawMember;
using guest::RawSocket;
using guest::Request;

constexpr std::uint32_t kPage = 4096;

class Group : public testing::Test {
  protected:
    FaultInjection injection_;
    NthFault fault_;
    const Parameter plain_ring_{"plain_ring_bytes", kPage};
    const std::string name_ = guest::unique_name("faults");
    guest::Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_, NLMMAP_GROUP_PUBLIC, 512);
    // Somebody else, who must not notice.
    RawMember bystander_{name_, 1U << 18};
    std::uint64_t published_ = 0;

    // One message; how many rings got it.
    std::uint64_t publish() {
        ++published_;
        return producer_.publish({.group = group_, .first_number = published_ - 1}).delivered;
    }

    guest::Reply told() {
        RawSocket admin;
        const guest::Outcome outcome = admin.group(name_);
        EXPECT_TRUE(guest::succeeded(outcome));
        return outcome.replies.at(0);
    }
    std::uint32_t members() { return told().get<std::uint32_t>(NLMMAP_A_MEMBERS).value_or(99); }

    void TearDown() override {
        guest::Check check({.group = group_, .count = published_});
        while (const auto record = bystander_.ring.next()) {
            ASSERT_NO_THROW(check.message(record->message()));
        }
        EXPECT_EQ(check.received(), published_) << "somebody else lost messages";
        EXPECT_EQ(bystander_.ring.lost(), 0U);
        EXPECT_EQ(members(), 1U);
    }

    // A request that changes whether the socket is a member: its outcome is what
    // it says, and the reverse and the same again work afterwards.
    void change(std::uint16_t type, unsigned points_at_least) {
        const Somebody somebody;
        RawSocket socket;
        // So small that a notice's room, if it were kept by mistake, would soon be missed.
        ASSERT_TRUE(guest::succeeded(socket.setup(kPage)));
        const bool joins = type == NLMMAP_MSG_JOIN;
        if (!joins) {
            ASSERT_TRUE(guest::succeeded(socket.join(name_)));
        }
        const auto request =
            std::make_unique<Exchange>(Request(type).string(NLMMAP_A_GROUP_NAME, name_));
        const std::string what = joins ? "join" : "leave";
        fail_each_in_turn(
            fault_, what, points_at_least, [&] { request->send(socket.fd()); },
            [&](bool) {
                if (request->send_error == 0) {
                    request->receive(socket.fd(), false);
                }
                const Came came = request->came();
                if (came == Came::failed) {
                    EXPECT_TRUE(is_fault_error(request->said()))
                        << strerrorname_np(request->said());
                }
                const bool member = members() == 2;
                if (came != Came::unknown) {
                    EXPECT_EQ(member, (came == Came::worked) == joins) << "not as it was told";
                }
                EXPECT_EQ(publish(), member ? 2U : 1U);
                // Done once more, undone, and done for the next time.
                if (member == joins) {
                    EXPECT_TRUE(guest::refused(joins ? socket.join(name_) : socket.leave(name_),
                                               joins ? EALREADY : ENOENT));
                    EXPECT_TRUE(guest::succeeded(joins ? socket.leave(name_) : socket.join(name_)));
                }
                EXPECT_TRUE(guest::succeeded(joins ? socket.join(name_) : socket.leave(name_)));
                EXPECT_EQ(members(), joins ? 2U : 1U);
                EXPECT_TRUE(guest::succeeded(joins ? socket.leave(name_) : socket.join(name_)));
                return came;
            });
    }
};

TEST_F(Group, IsJoinedOrNot) { change(NLMMAP_MSG_JOIN, 6); }

TEST_F(Group, IsLeftOrNot) { change(NLMMAP_MSG_LEAVE, 5); }

TEST_F(Group, IsHeardWithoutARingOrNot) {
    std::optional<RawSocket> listener;
    int error = 0;
    const int group = static_cast<int>(group_);
    const auto attempt = [&] {
        error = setsockopt(listener->fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
                           sizeof(group)) != 0
                    ? errno
                    : 0;
    };
    // The ring before plain listeners is kept for some time: each attempt gets a
    // group that never had one.
    std::optional<guest::Producer> other;
    std::string name;
    std::uint32_t id = 0;
    std::optional<Somebody> somebody;
    const auto fresh = [&] {
        somebody.reset();
        listener.reset();
        other.reset();
        other.emplace();
        name = guest::unique_name("plain");
        id = other->add_group(name);
        somebody.emplace();
        listener.emplace();
    };
    const auto on_fresh = [&] {
        const int fresh_group = static_cast<int>(id);
        error = setsockopt(listener->fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &fresh_group,
                           sizeof(fresh_group)) != 0
                    ? errno
                    : 0;
    };
    const auto hears = [&] {
        const auto delivered = other->publish({.group = id}).delivered;
        std::array<std::byte, 4096> bytes{};
        EXPECT_EQ(delivered, 1U);
        EXPECT_GT(recv(listener->fd(), bytes.data(), bytes.size(), 0), 0);
    };
    fresh();
    fail_each_in_turn(fault_, "plain membership", 9, on_fresh, [&](bool) {
        RawSocket admin;
        if (error == 0) {
            hears();
        } else {
            EXPECT_TRUE(is_fault_error(error)) << strerrorname_np(error);
            EXPECT_FALSE(admin.group(name).replies.at(0).has(NLMMAP_A_PLAIN))
                << "a ring is there for nobody";
            EXPECT_EQ(listener->add_membership(id), 0);
            hears();
        }
        const Came came = error == 0 ? Came::worked : Came::failed;
        fresh();
        return came;
    });
    // Where the ring is there already.
    listener.reset();
    RawSocket first;
    ASSERT_EQ(first.add_membership(group_), 0);
    listener.emplace();
    fail_each_in_turn(fault_, "plain membership of a second listener", 1, attempt, [&](bool) {
        EXPECT_TRUE(error == 0 || is_fault_error(error)) << strerrorname_np(error);
        EXPECT_EQ(publish(), 2U);
        listener.reset();
        listener.emplace();
        return error == 0 ? Came::worked : Came::failed;
    });
}

TEST_F(Group, IsToldOrNot) {
    const Somebody somebody;
    RawSocket socket;
    const auto question = std::make_unique<Exchange>(
        Request(NLMMAP_MSG_GROUP_GET).string(NLMMAP_A_GROUP_NAME, name_));
    fail_each_in_turn(
        fault_, "group get", 6, [&] { question->send(socket.fd()); },
        [&](bool) {
            if (question->send_error == 0) {
                question->receive(socket.fd(), false);
            }
            if (question->came() == Came::failed) {
                EXPECT_TRUE(is_fault_error(question->said()));
            } else if (question->came() == Came::worked) {
                EXPECT_EQ(question->replies, 1U);
            }
            EXPECT_TRUE(guest::succeeded(socket.group(name_)));
            return question->came();
        });
    const auto own = std::make_unique<Exchange>(Request(NLMMAP_MSG_SOCKET_GET));
    RawSocket asker;
    ASSERT_TRUE(guest::succeeded(asker.setup(kPage)));
    fail_each_in_turn(
        fault_, "socket get", 6, [&] { own->send(asker.fd()); },
        [&](bool) {
            if (own->send_error == 0) {
                own->receive(asker.fd(), false);
            }
            EXPECT_TRUE(own->came() != Came::failed || is_fault_error(own->said()));
            EXPECT_TRUE(guest::succeeded(asker.info()));
            return own->came();
        });
}

class Dump : public Group {
  protected:
    // Through a dump of several packets, each of which is made while the one
    // before is read.
    void fail_dump(std::uint16_t type, const std::string& what, unsigned expected) {
        RawSocket socket;
        const auto dump = std::make_unique<Exchange>(Request(type, NLM_F_REQUEST | NLM_F_DUMP));
        bool complete = false;
        const auto attempt = [&] {
            if (dump->send(socket.fd())) {
                dump->receive(socket.fd(), false);
            }
        };
        fail_each_in_turn(fault_, what, 8, attempt, [&](bool) {
            complete = dump->send_error == 0 && dump->ended && dump->error == 0 && !dump->lost;
            if (complete) {
                EXPECT_GE(dump->replies, expected) << "cut short in silence";
            }
            EXPECT_TRUE(dump->said() == 0 || is_fault_error(dump->said()))
                << strerrorname_np(dump->said());
            EXPECT_TRUE(dump->receive_error == 0 || is_fault_error(dump->receive_error))
                << strerrorname_np(dump->receive_error);
            // What is left of it is read, and then another is whole.
            dump->receive(socket.fd(), false);
            const bool interrupted = !dump->ended && dump->send_error == 0;
            const guest::Outcome again = socket.ask(Request(type, NLM_F_REQUEST | NLM_F_DUMP));
            EXPECT_EQ(again.error, 0) << "after a dump that failed: " << again.sentence;
            EXPECT_GE(again.replies.size(), expected);
            return complete ? Came::worked : interrupted ? Came::unknown : Came::failed;
        });
    }
};

TEST_F(Dump, OfSocketsIsWholeOrSaysThatItIsNot) {
    std::vector<RawSocket> sockets(120);
    for (RawSocket& socket : sockets) {
        ASSERT_TRUE(guest::succeeded(socket.setup(kPage)));
    }
    fail_dump(NLMMAP_MSG_SOCKET_GET, "dump of sockets", 121);
}

TEST_F(Dump, OfGroupsIsWholeOrSaysThatItIsNot) {
    for (int i = 0; i < 300; ++i) {
        producer_.add_group(guest::unique_name("many"));
    }
    const Somebody somebody;
    fail_dump(NLMMAP_MSG_GROUP_GET, "dump of groups", 301);
}

class Producers : public Group {
  protected:
    int device_ = open(NLMMAP_TEST_DEVICE, O_RDWR | O_CLOEXEC);
    ~Producers() override { close(device_); }
};

TEST_F(Producers, RegisterAGroupOrNot) {
    nlmmap_test_group wanted{};
    int error = 0;
    const std::string name = guest::unique_name("registered");
    const auto prepare = [&] {
        wanted = {};
        name.copy(wanted.name, sizeof(wanted.name) - 1);
        wanted.flags = NLMMAP_GROUP_PUBLIC;
        wanted.max_bytes = 1024;
    };
    prepare();
    RawSocket asker;
    fail_each_in_turn(
        fault_, "group register", 5,
        [&] { error = ioctl(device_, NLMMAP_TEST_REGISTER, &wanted) != 0 ? errno : 0; },
        [&](bool) {
            EXPECT_EQ(asker.group(name).error, error == 0 ? 0 : ENOENT);
            if (error != 0) {
                EXPECT_TRUE(is_fault_error(error)) << strerrorname_np(error);
                prepare();
                EXPECT_EQ(ioctl(device_, NLMMAP_TEST_REGISTER, &wanted), 0)
                    << strerrorname_np(errno);
            }
            EXPECT_EQ(ioctl(device_, NLMMAP_TEST_UNREGISTER, static_cast<unsigned long>(wanted.id)),
                      0);
            prepare();
            return error == 0 ? Came::worked : Came::failed;
        });
}

// Nothing about it can fail but the last words to plain listeners, who are told
// that then; and those may be the work item's to say, which has no fault here.
TEST_F(Producers, UnregisterAGroupWhateverFails) {
    std::string name;
    std::uint32_t id = 0;
    std::optional<guest::Producer> other;
    std::optional<RawMember> member;
    std::optional<RawSocket> listener;
    const auto make = [&] {
        member.reset();
        listener.reset();
        other.emplace();
        name = guest::unique_name("gone");
        id = other->add_group(name);
        member.emplace(name, kPage);
        listener.emplace();
        ASSERT_EQ(listener->add_membership(id), 0);
    };
    make();
    const auto attempt = [&] { other->remove_group(id); };
    fail_each_in_turn(fault_, "group unregister", 0, attempt, [&](bool) {
        const auto notice = member->ring.next();
        EXPECT_TRUE(notice && notice->header.flags & NLMMAP_RECORD_NOTICE)
            << "the ring kept room for it";
        std::array<std::byte, 4096> bytes{};
        const ssize_t got = recv(listener->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        nlmsghdr header{};
        std::memcpy(&header, bytes.data(), sizeof(header));
        const bool told = got > 0 && header.nlmsg_type == NLMMAP_MSG_GROUP_DELETED;
        EXPECT_TRUE(told || (got < 0 && errno == ENOBUFS))
            << "a plain listener was told nothing at all: " << got;
        RawSocket admin;
        EXPECT_EQ(admin.group(name).error, ENOENT);
        make();
        return told ? Came::worked : Came::unknown;
    });
}

TEST_F(Producers, PublishWithoutAnyAllocation) {
    RawSocket listener;
    ASSERT_EQ(listener.add_membership(group_), 0);
    RawMember member(name_, kPage);
    injection_.only_in("nlmmap");
    const auto points = fail_each_in_turn(
        fault_, "publish", 0,
        [&] {
            publish();
            producer_.publish({.group = group_, .in_place = true, .first_number = published_++});
        },
        [](bool) { return Came::worked; });
    EXPECT_EQ(points.all(), 0U) << "publishing asked for memory";
}

// A listener without a ring, and what it knows of.
struct Listener {
    explicit Listener(const guest::Order& all) : check(all) {
        const int room = 8 << 20;
        EXPECT_EQ(setsockopt(socket.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
        EXPECT_EQ(socket.add_membership(all.group), 0);
    }
    // Reads what is there; says whether it knows of so many messages by now.
    bool read(std::uint64_t messages) {
        for (;;) {
            const ssize_t got = recv(socket.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (got < 0 && errno == ENOBUFS) {
                told = true;
            } else if (got < 0) {
                return check.received() + check.missing() == messages;
            } else {
                check.message(reinterpret_cast<const nlmsghdr*>(bytes.data()));
            }
        }
    }
    RawSocket socket;
    guest::Check check;
    bool told = false;
    std::vector<std::byte> bytes = std::vector<std::byte>(8192);
};

// The work item is no task of ours: every few of its allocations fail, in
// whatever context, so many times.
class WorkItem : public Producers {
  protected:
    static constexpr unsigned kFaults = 20;
    static constexpr std::uint64_t kMessages = 400;

    // Messages lost by so many listeners together; none of it in silence.
    std::uint64_t lost_by(unsigned count, unsigned interval) {
        const Parameter large{"plain_ring_bytes", 1U << 20};
        guest::Producer other;
        const guest::Order all{.group = other.add_group(guest::unique_name("short")),
                               .count = 100000};
        std::vector<std::unique_ptr<Listener>> listeners;
        listeners.reserve(count);
        for (unsigned i = 0; i < count; ++i) {
            listeners.push_back(std::make_unique<Listener>(all));
        }
        guest::Order part = all;
        part.first_number = 0;
        const auto publish_more = [&](std::uint64_t messages) {
            part.count = messages;
            EXPECT_EQ(other.publish(part).delivered, messages);
            part.first_number += messages;
        };
        injection_.only_in("nlmmap");
        injection_.fail_slabs(interval, kFaults);
        publish_more(kMessages);
        EXPECT_TRUE(guest::eventually([&] { return injection_.slab_faults_left() == 0; }))
            << "of " << kFaults << " faults are left: " << injection_.slab_faults_left();
        injection_.fail_no_slabs();
        std::uint64_t lost = 0;
        for (const auto& listener : listeners) {
            // One that the core found congested gets nothing until it has read all.
            EXPECT_TRUE(guest::eventually([&] {
                publish_more(1);
                return listener->read(part.first_number);
            })) << "the work item hangs";
        }
        for (const auto& listener : listeners) {
            EXPECT_TRUE(guest::eventually([&] { return listener->read(part.first_number); }));
            EXPECT_EQ(listener->told, listener->check.missing() != 0)
                << "missing: " << listener->check.missing();
            lost += listener->check.missing();
        }
        // What comes after is whole again.
        publish_more(100);
        for (const auto& listener : listeners) {
            const std::uint64_t missing = listener->check.missing();
            EXPECT_TRUE(guest::eventually([&] { return listener->read(part.first_number); }));
            EXPECT_EQ(listener->check.missing(), missing);
        }
        std::printf("fault points of the work item: %u; messages that %u listeners lost: %llu\n",
                    kFaults, count, static_cast<unsigned long long>(lost));
        return lost;
    }
};

TEST_F(WorkItem, LosesOneMessageForOneFailedAllocationAndSaysSo) {
    std::uint64_t lost = 0;
    for (const unsigned interval : {5U, 7U}) {
        const std::uint64_t now = lost_by(1, interval);
        EXPECT_LE(now, kFaults);
        lost += now;
    }
    EXPECT_GT(lost, 0U) << "no fault met the making of a datagram";
}

// Then each datagram is cloned, too. Without memory for that the core takes the
// one listener for congested, and the other gets everything.
TEST_F(WorkItem, TellsEachOfSeveralListenersWhatItLost) {
    std::uint64_t lost = 0;
    for (const unsigned interval : {5U, 7U}) {
        lost += lost_by(2, interval);
    }
    EXPECT_GT(lost, 0U) << "no fault met the making of a datagram";
}

}  // namespace
}  // namespace hostile
