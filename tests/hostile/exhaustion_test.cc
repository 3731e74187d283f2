// SPDX-License-Identifier: MIT
//
// Takes all there is of what all share: places in a group, numbers of groups,
// sockets that a dump has to tell, the module's mutex, the work item that serves
// plain listeners. Whoever is no administrator must leave enough for others.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"

namespace hostile {
namespace {

using guest::as_user;
using guest::RawMember;
using guest::RawSocket;
using guest::Request;

constexpr std::uint32_t kPage = 4096;

// A pipe whose bytes are events that one process tells another.
class Events {
  public:
    Events() {
        if (pipe(ends_.data()) != 0) {
            throw std::system_error(errno, std::system_category(), "pipe");
        }
    }
    Events(const Events&) = delete;
    Events& operator=(const Events&) = delete;
    ~Events() {
        close(ends_[0]);
        close(ends_[1]);
    }
    void tell() const { EXPECT_EQ(write(ends_[1], "", 1), 1); }
    // False if it was not told so often in half a minute of patience().
    bool told(unsigned times) const {
        for (; times != 0; --times) {
            char byte = 0;
            pollfd one{.fd = ends_[0], .events = POLLIN, .revents = 0};
            if (poll(&one, 1, 30000 * static_cast<int>(patience())) != 1 ||
                read(ends_[0], &byte, 1) != 1) {
                return false;
            }
        }
        return true;
    }

  private:
    std::array<int, 2> ends_{};
};

// The code in so many processes, which last until their parent's session ends.
void in_processes(unsigned count, const std::function<void()>& code) {
    for (unsigned i = 0; i < count; ++i) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            try {
                code();
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
            for (;;) {
                pause();
            }
        }
    }
}

class Exhaustion : public Attack {
  protected:
    const std::string name_ = guest::unique_name("shared");
    guest::Producer producer_;
    const guest::Order all_{.group = producer_.add_group(name_), .count = 2000};
    const Events events_;

    std::uint32_t members() {
        RawSocket asker;
        return asker.group(name_).replies.at(0).get<std::uint32_t>(NLMMAP_A_MEMBERS).value_or(99);
    }

    static void end(Assault assault) {
        kill(assault.pid(), SIGKILL);
        EXPECT_EQ(assault.outcome(SIGKILL), "");
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Exhaustion);

TEST_P(Exhaustion, OfPlacesInAGroupLeavesSomeToOthers) {
    constexpr unsigned kPlaces = 32;
    const Parameter places("max_members", kPlaces);
    Assault assault = start([&] {
        const auto take_places = [&] {
            std::vector<RawSocket> members;
            for (;;) {
                RawSocket socket;
                ASSERT_TRUE(guest::succeeded(socket.setup(kPage)));
                const guest::Outcome joined = socket.join(name_);
                if (joined.error != 0) {
                    EXPECT_TRUE(guest::refused(joined, ENOSPC));
                    break;
                }
                members.push_back(std::move(socket));
            }
            events_.tell();
            for (;;) {
                pause();
            }
        };
        in_processes(2, take_places);
        if (GetParam() == Attacker::user_namespace) {
            // It is still the same user in one more namespace.
            in_processes(1, [&] {
                EXPECT_EQ(unshare(CLONE_NEWUSER), 0);
                take_places();
            });
        }
        take_places();
    });
    ASSERT_TRUE(events_.told(GetParam() == Attacker::user_namespace ? 4 : 3));
    EXPECT_EQ(members(), privileged() ? kPlaces : kPlaces / 8);
    as_user(guest::kSomebodyElse, [&] {
        RawSocket socket;
        ASSERT_TRUE(guest::succeeded(socket.setup(kPage)));
        EXPECT_EQ(socket.join(name_).error, privileged() ? ENOSPC : 0);
    });
    RawSocket administrator;
    ASSERT_TRUE(guest::succeeded(administrator.setup(kPage)));
    EXPECT_EQ(administrator.join(name_).error, privileged() ? ENOSPC : 0);
    end(std::move(assault));
    EXPECT_TRUE(guest::eventually([&] { return members() == (privileged() ? 0U : 1U); }))
        << "places of the dead are not free";
}

TEST_P(Exhaustion, OfSocketsIsToldWholeToTheAdministrator) {
    constexpr unsigned kSockets = 300;
    const guest::MemlockLimit limit(kSockets * 3 * std::uint64_t{kPage});
    Assault assault = start([&] {
        std::vector<RawSocket> sockets(kSockets);
        for (RawSocket& socket : sockets) {
            ASSERT_TRUE(guest::succeeded(socket.setup(kPage)));
        }
        events_.tell();
        for (;;) {
            pause();
        }
    });
    ASSERT_TRUE(events_.told(1));
    RawMember own(name_, kPage);
    RawSocket asker;
    const guest::Outcome dump =
        asker.ask(Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP));
    EXPECT_EQ(dump.error, 0) << dump.sentence;
    EXPECT_EQ(dump.replies.size(), kSockets + 1);
    const auto mine = std::ranges::count_if(dump.replies, [&](const guest::Reply& reply) {
        return reply.get<std::uint64_t>(NLMMAP_A_INODE) == own.socket.inode();
    });
    EXPECT_EQ(mine, 1);
    as_user(guest::kSomebodyElse, [&] {
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(kPage)));
    });
    end(std::move(assault));
}

// All that takes the module's mutex or waits for grace periods, from several
// processes without a pause; answers are not read.
TEST_P(Exhaustion, OfTheModulesTimeLetsOthersGoOn) {
    const guest::MemlockLimit limit(16 * kPage);
    Assault assault = start([&] {
        in_processes(2, [&] {
            RawSocket asker;
            const Request groups(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_DUMP);
            const Request sockets(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP);
            events_.tell();
            for (;;) {
                send(asker.fd(), groups.bytes().data(), groups.bytes().size(), MSG_DONTWAIT);
                send(asker.fd(), sockets.bytes().data(), sockets.bytes().size(), MSG_DONTWAIT);
            }
        });
        in_processes(1, [&] {
            // Refused at the limit, after a wait for what might come back.
            RawSocket socket;
            events_.tell();
            for (;;) {
                socket.setup(64 * kPage);
            }
        });
        RawSocket member;
        ASSERT_TRUE(guest::succeeded(member.setup(kPage)));
        events_.tell();
        for (;;) {
            member.join(name_);
            member.leave(name_);
        }
    });
    ASSERT_TRUE(events_.told(4));
    Witness witness(name_, all_);
    guest::Order part = all_;
    part.count = 200;
    for (part.first_number = 0; part.first_number < all_.count; part.first_number += part.count) {
        as_user(guest::kSomebodyElse, [&] {
            RawMember member(name_, 4 * kPage);
            EXPECT_TRUE(guest::succeeded(member.socket.info()));
            EXPECT_TRUE(guest::succeeded(member.socket.leave(name_)));
        });
        producer_.publish(part);
    }
    witness.expect_all(all_.count);
    end(std::move(assault));
}

// They share the work item that serves all plain listeners of all groups.
TEST_P(Exhaustion, OfPlainListenersBuffersCostsOnlyThem) {
    RawSocket honest;
    const int room = 16 << 20;
    ASSERT_EQ(setsockopt(honest.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
    ASSERT_EQ(honest.add_membership(all_.group), 0);
    Assault assault = start([&] {
        std::vector<RawSocket> deaf(60);
        for (RawSocket& socket : deaf) {
            const int none = 1;
            EXPECT_EQ(setsockopt(socket.fd(), SOL_SOCKET, SO_RCVBUF, &none, sizeof(none)), 0);
            EXPECT_EQ(socket.add_membership(all_.group), 0);
        }
        events_.tell();
        for (;;) {
            pause();
        }
    });
    ASSERT_TRUE(events_.told(1));
    Witness witness(name_, all_);
    guest::Check check(all_);
    std::array<std::byte, 4096> bytes{};
    guest::Order part = all_;
    part.count = 200;
    for (part.first_number = 0; part.first_number < all_.count; part.first_number += part.count) {
        producer_.publish(part);
    }
    witness.expect_all(all_.count);
    EXPECT_TRUE(guest::eventually([&] {
        for (;;) {
            const ssize_t got = recv(honest.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
            if (got < 0) {
                EXPECT_EQ(errno, EAGAIN) << "an honest plain listener lost messages";
                return check.received() == all_.count;
            }
            check.message(reinterpret_cast<const nlmsghdr*>(bytes.data()));
        }
    })) << "received by a plain listener: "
        << check.received();
    EXPECT_EQ(check.missing(), 0U);
    end(std::move(assault));
}

// Group numbers are 1,024 for all network namespaces together. All but a few are
// taken here, so that few rounds show whether numbers get lost: more than twice as
// many as those of former public groups that rest.
class Numbers : public Attack {
  protected:
    static constexpr unsigned kFree = 48;

    void SetUp() override {
        std::vector<std::uint32_t> crowd;
        try {
            for (;;) {
                crowd.push_back(crowd_.add_group(guest::unique_name("crowd"), 0, 64));
            }
        } catch (const std::system_error& error) {
            ASSERT_EQ(error.code().value(), ENOSPC);
        }
        ASSERT_GT(crowd.size(), kFree);
        for (unsigned i = 0; i < kFree; ++i) {
            crowd_.remove_group(crowd[i]);
        }
    }

    // That so many groups can be registered still.
    static void expect_free(unsigned public_groups, unsigned private_groups) {
        guest::Producer producer;
        for (unsigned i = 0; i < public_groups; ++i) {
            ASSERT_EQ(producer.try_group(guest::unique_name("public"), NLMMAP_GROUP_PUBLIC, 64), 0)
                << "public group " << i;
        }
        for (unsigned i = 0; i < private_groups; ++i) {
            ASSERT_EQ(producer.try_group(guest::unique_name("private"), 0, 64), 0)
                << "private group " << i;
        }
    }

    const Parameter plain_ring_{"plain_ring_bytes", kPage};
    guest::Producer crowd_;
};
INSTANTIATE_FOR_ALL_ATTACKERS(Numbers);

// A producer that has a private group in every network namespace, and somebody
// who makes namespaces, listens there as the administrator that he is, and goes.
TEST_P(Numbers, AreNotUsedUpByNamespacesThatComeAndGo) {
    if (GetParam() == Attacker::user) {
        // Makes no namespaces (attacker_test), and is no administrator anywhere.
        attack([&] {
            RawSocket socket;
            guest::Producer& producer = crowd_;
            const std::uint32_t id = producer.add_group(guest::unique_name("private"), 0, 64);
            EXPECT_EQ(socket.add_membership(id), EPERM);
            producer.remove_group(id);
        });
        expect_free(0, kFree);
        return;
    }
    constexpr unsigned kRound = kFree / 2;
    for (unsigned round = 0; round < 3; ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        guest::Producer producer;
        attack([&] {
            ASSERT_EQ(unshare(CLONE_NEWNET), 0);
            RawSocket listener;
            for (unsigned i = 0; i < kRound; ++i) {
                const std::uint32_t id = producer.add_group(guest::unique_name("there"), 0, 64);
                EXPECT_EQ(listener.add_membership(id), 0);
            }
        });
        // The namespace goes some time after its last process, and its groups with it.
        EXPECT_TRUE(guest::eventually([&] {
            guest::Producer probe;
            unsigned registered = 0;
            for (unsigned i = 0; i < kFree; ++i) {
                registered += probe.try_group(guest::unique_name("probe"), 0, 64) == 0 ? 1U : 0U;
            }
            return registered == kFree;
        })) << "the numbers of a namespace's groups are gone with it";
        if (HasFailure()) {
            return;
        }
    }
    expect_free(0, kFree);
}

// Somebody who listens to every public group that ever was, and stays. He neither
// keeps others from having groups, nor hears what is not for him afterwards.
TEST_P(Numbers, AreNotUsedUpByListenersWhoStay) {
    const Events made;
    const Events published;
    Assault assault = start([&] {
        RawSocket listener;
        guest::Producer& producer = crowd_;
        for (unsigned i = 0; i < 2 * kFree; ++i) {
            const std::uint32_t id =
                producer.add_group(guest::unique_name("again"), NLMMAP_GROUP_PUBLIC, 64);
            EXPECT_EQ(listener.add_membership(id), 0);
            producer.remove_group(id);
        }
        made.tell();
        ASSERT_TRUE(published.told(1));
        std::array<std::byte, 4096> bytes{};
        while (recv(listener.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
            nlmsghdr header{};
            std::memcpy(&header, bytes.data(), sizeof(header));
            EXPECT_EQ(header.nlmsg_type, NLMMAP_MSG_GROUP_DELETED)
                << "a message of a private group reached him";
        }
    });
    if (!made.told(1)) {
        assault.finish();
        return;
    }
    expect_free(2, kFree / 2);
    // Public groups that he never joined have his numbers, then private ones.
    {
        guest::Producer producer;
        for (unsigned i = 0; i < kFree / 2; ++i) {
            producer.add_group(guest::unique_name("passing"), NLMMAP_GROUP_PUBLIC, 64);
        }
    }
    guest::Producer producer;
    for (unsigned i = 0; i < kFree / 2; ++i) {
        const std::uint32_t id = producer.add_group(guest::unique_name("secret"), 0, 64);
        // With somebody who may listen, so that plain listeners are served at all.
        RawSocket listener;
        ASSERT_EQ(listener.add_membership(id), 0);
        EXPECT_EQ(producer.publish({.group = id, .min_bytes = 16}).delivered, 1U);
        std::array<std::byte, 4096> bytes{};
        EXPECT_GT(recv(listener.fd(), bytes.data(), bytes.size(), 0), 0);
    }
    published.tell();
    assault.finish();
}

}  // namespace
}  // namespace hostile
