// SPDX-License-Identifier: MIT
//
// Every allocation and user copy of a socket's life failing once in turn: making
// it, set-up, mmap, page faults, poll, epoll, fdinfo, close. What fails says
// ENOMEM (EFAULT for a copy, ENOBUFS from the core of netlink), leaves nothing
// behind, and works the next time. The user's RLIMIT_MEMLOCK has room for exactly
// one ring, so a page that stays charged makes all that follows fail.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/faults.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using guest::RawMember;
using guest::RawSocket;
using guest::Request;

constexpr std::size_t kPage = 4096;

unsigned mappings_of_sockets() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    unsigned count = 0;
    while (std::getline(maps, line)) {
        count += line.find("socket:[") != std::string::npos ? 1U : 0U;
    }
    return count;
}

class OneSocket : public testing::Test {
  protected:
    static constexpr std::uint32_t kRing = 4 * kPage;

    Request setup_request() const {
        return Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, kRing);
    }

    FaultInjection injection_;
    NthFault fault_;
    const std::string name_ = guest::unique_name("faults");
    guest::Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
    // Somebody else, who must not notice.
    RawMember bystander_{name_};
    guest::MemlockLimit limit_{kRing + 2 * kPage};
    std::uint64_t published_ = 0;

    // One message; how many got it.
    std::uint64_t publish() {
        ++published_;
        return producer_.publish({.group = group_, .first_number = published_ - 1}).delivered;
    }

    std::uint32_t members() {
        RawSocket admin;
        const guest::Outcome outcome = admin.group(name_);
        EXPECT_TRUE(guest::succeeded(outcome));
        return outcome.replies.at(0).get<std::uint32_t>(NLMMAP_A_MEMBERS).value_or(99);
    }

    void TearDown() override {
        guest::Check check({.group = group_, .count = published_});
        while (const auto record = bystander_.ring.next()) {
            ASSERT_NO_THROW(check.message(record->message()));
        }
        EXPECT_EQ(check.received(), published_) << "somebody else lost messages";
        EXPECT_EQ(bystander_.ring.lost(), 0U);
        EXPECT_EQ(members(), 1U);
        EXPECT_EQ(sockets_with_rings(), 1U);
    }
};

TEST_F(OneSocket, IsMadeAndSetUpOrNot) {
    const auto setup = std::make_unique<Exchange>(setup_request());
    const int family = guest::family();
    int fd = -1;
    int error = 0;
    const auto attempt = [&] {
        error = 0;
        sockaddr_nl address{};
        address.nl_family = AF_NETLINK;
        const int on = 1;
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
        if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
            setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)) != 0) {
            error = errno;
        } else if (!setup->send(fd)) {
            error = setup->send_error;
        }
    };
    std::optional<Somebody> somebody(std::in_place);
    fail_each_in_turn(fault_, "socket and set-up", 20, attempt, [&](bool) {
        Came came = Came::failed;
        if (error == 0) {
            setup->receive(fd, false);
            came = setup->came();
            error = setup->said();
        }
        if (came == Came::failed) {
            // ENFILE is what socket() itself answers without memory.
            EXPECT_TRUE(is_fault_error(error) || (fd < 0 && error == ENFILE))
                << strerrorname_np(error);
        }
        somebody.reset();
        const std::size_t rings = sockets_with_rings() - 1;
        if (came != Came::unknown) {
            EXPECT_EQ(rings, came == Came::worked ? 1U : 0U) << "it is not as it was told";
        }
        somebody.emplace();
        // The same again: on the same socket if there is one, else on another.
        if (rings == 0) {
            if (fd >= 0 && setup->send_error == 0 && error != 0) {
                RawSocket same(dup(fd));
                EXPECT_TRUE(guest::succeeded(same.setup(kRing))) << "on the same socket";
            } else {
                RawSocket other;
                EXPECT_TRUE(guest::succeeded(other.setup(kRing)));
            }
        } else {
            RawSocket same(dup(fd));
            EXPECT_TRUE(guest::refused(same.setup(kRing), EBUSY));
            EXPECT_NO_THROW(guest::RawRing(same, kRing));
        }
        if (fd >= 0) {
            close(fd);
        }
        return came;
    });
    somebody.reset();
}

// With the largest ring that is made without asking for more than single pages
// at a time, there are some for the array of them, too. All pages come back: no other
// check counts those.
TEST_F(OneSocket, IsSetUpWithAnArrayOfPagesThatIsItselfLarge) {
    constexpr std::uint32_t large = 1U << 20;
    const guest::MemlockLimit limit(large + 2 * kPage);
    const auto setup =
        std::make_unique<Exchange>(Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, large));
    std::optional<RawSocket> socket;
    std::optional<Somebody> somebody(std::in_place);
    socket.emplace();
    // Each page of the ring is an allocation: all but the first and the last are
    // alike, and trying each would take minutes. So every 13th point.
    unsigned tried = 0;
    bool injected = true;
    const std::uint64_t before = guest::free_pages();
    for (unsigned n = 1; injected && !HasFailure(); n += n < 40 ? 1 : 13) {
        SCOPED_TRACE("fault point " + std::to_string(n));
        injected = fault_.during(n, [&] { setup->send(socket->fd()); });
        setup->receive(socket->fd(), false);
        if (setup->came() == Came::failed) {
            EXPECT_TRUE(injected && is_fault_error(setup->said()))
                << strerrorname_np(setup->said());
        } else {
            socket.reset();
            socket.emplace();
        }
        ++tried;
    }
    EXPECT_GE(tried, 55U);
    EXPECT_TRUE(guest::succeeded(socket->setup(large)) || setup->came() == Came::worked);
    socket.reset();
    somebody.reset();
    // A failed ring's pages at each point would be about 3000. What is freed late comes in a
    // moment, so there is no need for eventually(), which is long where something is wrong.
    constexpr std::uint64_t kOthers = 2000;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    std::uint64_t after = guest::free_pages();
    while (after + kOthers <= before && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        after = guest::free_pages();
    }
    EXPECT_GT(after + kOthers, before) << "these pages were free before";
}

TEST_F(OneSocket, IsMappedOrNot) {
    std::optional<Somebody> somebody(std::in_place);
    RawSocket socket;
    ASSERT_TRUE(guest::succeeded(socket.setup(kRing)));
    void* consumer = MAP_FAILED;
    void* rest = MAP_FAILED;
    int error = 0;
    const auto attempt = [&] {
        error = 0;
        consumer = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, socket.fd(), 0);
        rest = consumer == MAP_FAILED ? MAP_FAILED
                                      : mmap(nullptr, kPage + 2 * kRing, PROT_READ, MAP_SHARED,
                                             socket.fd(), static_cast<off_t>(kPage));
        error = rest == MAP_FAILED ? errno : 0;
    };
    fail_each_in_turn(fault_, "mmap", 5, attempt, [&](bool) {
        const unsigned mapped = (consumer != MAP_FAILED) + (rest != MAP_FAILED);
        EXPECT_EQ(mappings_of_sockets(), 2 + mapped);
        if (rest != MAP_FAILED) {
            EXPECT_EQ(static_cast<nlmmap_producer*>(rest)->data_bytes, kRing);
            munmap(rest, kPage + 2 * kRing);
        } else {
            EXPECT_EQ(error, ENOMEM) << strerrorname_np(error);
        }
        if (consumer != MAP_FAILED) {
            munmap(consumer, kPage);
        }
        EXPECT_EQ(mappings_of_sockets(), 2U) << "the bystander's alone";
        EXPECT_NO_THROW(guest::RawRing(socket, kRing));
        return error == 0 ? Came::worked : Came::failed;
    });
    socket.close();
    somebody.reset();
}

TEST_F(OneSocket, GivesBackPagesThatWereThrownAway) {
    RawMember member(name_, kRing);
    EXPECT_EQ(publish(), 2U);
    auto* const producer_page = const_cast<nlmmap_producer*>(&member.ring.producer());
    const std::size_t mapped = kPage + 2 * kRing;
    std::uint64_t seen = 0;
    const auto attempt = [&] {
        seen = __atomic_load_n(&producer_page->position, __ATOMIC_ACQUIRE);
        for (std::size_t at = kPage; at < mapped; at += kPage) {
            (void)*(reinterpret_cast<volatile char*>(producer_page) + at);
        }
    };
    const auto throw_away = [&] { EXPECT_EQ(madvise(producer_page, mapped, MADV_DONTNEED), 0); };
    throw_away();
    const FaultPoints points = fail_each_in_turn(fault_, "page faults", 0, attempt, [&](bool) {
        EXPECT_EQ(seen, member.ring.produced());
        throw_away();
        return Came::worked;
    });
    EXPECT_EQ(points.all(), 0U) << "a page that is there should need no memory to come back";
    while (const auto record = member.ring.next()) {
        EXPECT_EQ(record->header.seq, 1U);
    }
}

TEST_F(OneSocket, IsPolledOrNotAndWokenAfterwards) {
    RawMember member(name_, kRing);
    int answer = 0;
    int error = 0;
    // So many that poll() needs memory for them.
    std::array<pollfd, 64> polled{};
    const auto wakes = [&] {
        // Whatever failed: one who sleeps now is woken.
        const auto published = std::async(std::launch::async, [&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            publish();
        });
        pollfd one{.fd = member.socket.fd(), .events = POLLIN, .revents = 0};
        EXPECT_EQ(poll(&one, 1, 30000), 1);
        EXPECT_TRUE(one.revents & POLLRDBAND || one.revents & POLLIN);
        while (member.ring.next()) {
        }
        member.ring.release();
    };
    const auto attempt = [&] {
        for (pollfd& one : polled) {
            one = {.fd = member.socket.fd(), .events = POLLIN, .revents = 0};
        }
        answer = poll(polled.data(), polled.size(), 0);
        error = answer < 0 ? errno : 0;
    };
    fail_each_in_turn(fault_, "poll", 2, attempt, [&](bool) {
        EXPECT_TRUE(error == 0 ? answer == 0 : is_fault_error(error)) << strerrorname_np(error);
        wakes();
        return error == 0 ? Came::worked : Came::failed;
    });
}

TEST_F(OneSocket, IsAddedToAnEpollSetOrNotAndWokenAfterwards) {
    RawMember member(name_, kRing);
    int set = -1;
    int error = 0;
    const auto attempt = [&] {
        epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = 7}};
        set = epoll_create1(EPOLL_CLOEXEC);
        error =
            set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, member.socket.fd(), &event) != 0 ? errno : 0;
    };
    fail_each_in_turn(fault_, "epoll", 5, attempt, [&](bool) {
        EXPECT_TRUE(error == 0 || is_fault_error(error)) << strerrorname_np(error);
        if (set < 0) {
            set = epoll_create1(EPOLL_CLOEXEC);
        }
        epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = 7}};
        if (error != 0) {
            EXPECT_EQ(epoll_ctl(set, EPOLL_CTL_ADD, member.socket.fd(), &event), 0);
        }
        EXPECT_EQ(epoll_wait(set, &event, 1, 0), 0);
        EXPECT_EQ(publish(), 2U);
        EXPECT_EQ(epoll_wait(set, &event, 1, 30000), 1);
        EXPECT_EQ(event.data.u64, 7U);
        close(set);
        while (member.ring.next()) {
        }
        member.ring.release();
        return error == 0 ? Came::worked : Came::failed;
    });
}

TEST_F(OneSocket, IsShownInProcOrNot) {
    RawMember member(name_, kRing);
    std::array<char, 4096> text{};
    const std::string path = "/proc/self/fdinfo/" + std::to_string(member.socket.fd());
    ssize_t got = 0;
    int error = 0;
    const auto attempt = [&] {
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        got = fd < 0 ? -1 : read(fd, text.data(), text.size());
        error = got < 0 ? errno : 0;
        close(fd);
    };
    fail_each_in_turn(fault_, "fdinfo", 5, attempt, [&](bool) {
        EXPECT_TRUE(error == 0 || is_fault_error(error)) << strerrorname_np(error);
        if (error == 0) {
            const std::string said(text.data(), static_cast<std::size_t>(got));
            EXPECT_NE(said.find("rx-bytes:\t" + std::to_string(kRing)), std::string::npos) << said;
        }
        return error == 0 ? Came::worked : Came::failed;
    });
}

// Closing cannot fail, whatever is short. What it gives back is counted by the
// limit: the next socket has room for its ring only if all of it came back.
TEST_F(OneSocket, IsClosedWhateverFails) {
    int fd = -1;
    const auto make = [&] {
        {
            const Somebody somebody;
            RawSocket socket;
            ASSERT_TRUE(guest::succeeded(socket.setup(kRing))) << "the last one is not all gone";
            ASSERT_TRUE(guest::succeeded(socket.join(name_)));
            fd = dup(socket.fd());
        }
        EXPECT_EQ(members(), 2U);
    };
    make();
    int answer = 0;
    const auto attempt = [&] { answer = close(fd); };
    fail_each_in_turn(fault_, "close", 0, attempt, [&](bool) {
        EXPECT_EQ(answer, 0);
        EXPECT_EQ(members(), 1U);
        EXPECT_EQ(publish(), 1U);
        EXPECT_EQ(sockets_with_rings(), 1U);
        make();
        return Came::worked;
    });
    close(fd);
}

}  // namespace
}  // namespace hostile
