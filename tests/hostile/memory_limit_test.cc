// SPDX-License-Identifier: MIT
//
// Tries to have more memory in rings than one may, and to make others pay: past
// RLIMIT_MEMLOCK by one socket, by many, by many processes at once, with sockets
// that are passed on or left in flight; past a memory cgroup's limit, until the
// OOM killer comes. What was charged must come back exactly, and nobody else
// notice.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"

namespace hostile {
namespace {

using guest::as_user;
using guest::RawSocket;

constexpr std::uint32_t kPage = 4096;
// A ring's consumer and producer page.
constexpr std::uint64_t kControl = 2 * kPage;

// Messages and descriptors between a test and its attacker.
class Channel {
  public:
    Channel() {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_.data()) != 0) {
            throw std::runtime_error("socketpair");
        }
        // Who waits for one that was killed must not wait for ever.
        const timeval limit{.tv_sec = 60, .tv_usec = 0};
        for (const int end : ends_) {
            setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        }
    }
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel() {
        close(ends_[0]);
        close(ends_[1]);
    }
    // Which of the two ends.
    int test() const { return ends_[0]; }
    int attacker() const { return ends_[1]; }

  private:
    std::array<int, 2> ends_{};
};

void put(int end, std::uint64_t number, int descriptor = -1) {
    iovec part{.iov_base = &number, .iov_len = sizeof(number)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    if (sendmsg(end, &message, 0) < 0) {
        throw std::runtime_error(std::string("sendmsg: ") + strerrorname_np(errno));
    }
}

// Throws if the other end says nothing.
std::uint64_t take(int end, int* descriptor = nullptr) {
    std::uint64_t number = 0;
    iovec part{.iov_base = &number, .iov_len = sizeof(number)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(end, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof(number))) {
        throw std::runtime_error("the other end says nothing");
    }
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (descriptor != nullptr && header != nullptr) {
        std::memcpy(descriptor, CMSG_DATA(header), sizeof(int));
    }
    return number;
}

// Sockets with rings of this size until one is refused.
std::vector<RawSocket> as_many_as_possible(std::uint32_t ring_bytes, std::size_t at_most) {
    std::vector<RawSocket> sockets;
    while (sockets.size() < at_most) {
        RawSocket socket;
        const guest::Outcome outcome = socket.setup(ring_bytes);
        if (outcome.error != 0) {
            EXPECT_TRUE(guest::refused(outcome, ENOMEM));
            break;
        }
        sockets.push_back(std::move(socket));
    }
    return sockets;
}

// Everything that guest::kSomebody may lock, in one ring: fits exactly if nothing
// of that user's is charged any more. What killed processes had, and what was in
// flight, comes back a moment after their end.
void expect_nothing_charged(std::uint32_t all_bytes) {
    as_user(guest::kSomebody, [&] {
        RawSocket socket;
        EXPECT_TRUE(guest::eventually([&] { return socket.setup(all_bytes).error == 0; }))
            << "something is still charged to a user who has nothing left";
        RawSocket another;
        EXPECT_TRUE(guest::refused(another.setup(kPage), ENOMEM))
            << "more came back than had been charged";
    });
}

class LockedMemory : public Attack {
  protected:
    // Room for one ring of 1 MiB.
    static constexpr std::uint32_t kAll = 1U << 20;
    const guest::MemlockLimit limit_{kAll + kControl};

    void TearDown() override { expect_nothing_charged(kAll); }
};
INSTANTIATE_FOR_ALL_ATTACKERS(LockedMemory);

TEST_P(LockedMemory, IsTheSameHoweverManySocketsItIsCutInto) {
    attack([] {
        for (const std::uint32_t ring : {kAll, kAll / 2, kAll / 8, 16 * kPage, kPage}) {
            const std::uint64_t fit = (kAll + kControl) / (ring + kControl);
            const auto sockets = as_many_as_possible(ring, fit + 1);
            EXPECT_EQ(sockets.size(), privileged() ? fit + 1 : fit)
                << "rings of " << ring << " bytes";
        }
    });
}

TEST_P(LockedMemory, IsTheSameForManyProcessesAtOnce) {
    constexpr std::uint32_t ring = 4 * kPage;
    constexpr std::uint64_t fit = (kAll + kControl) / (ring + kControl);
    constexpr unsigned kProcesses = 12;
    const Channel channel;
    Assault assault = start([&] {
        const Channel within;
        for (unsigned i = 0; i < kProcesses; ++i) {
            const pid_t child = fork();
            ASSERT_GE(child, 0);
            if (child == 0) {
                const auto sockets = as_many_as_possible(ring, 2 * fit / kProcesses);
                put(within.attacker(), sockets.size());
                // Keeps what it has until the attacker ends.
                pause();
            }
        }
        std::uint64_t sum = 0;
        for (unsigned i = 0; i < kProcesses; ++i) {
            sum += take(within.test());
        }
        // They may have stood in each other's way, but the limit is met exactly.
        const auto rest = as_many_as_possible(ring, 2 * fit);
        sum += rest.size();
        put(channel.attacker(), sum);
        pause();
    });
    const std::uint64_t sum = take(channel.test());
    if (privileged()) {
        EXPECT_GT(sum, fit) << "CAP_IPC_LOCK is exempt";
    } else {
        EXPECT_EQ(sum, fit) << "rings of one user, by " << kProcesses + 1 << " processes";
    }
    // Another user has all of his own.
    as_user(guest::kSomebodyElse, [] {
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(kAll)));
    });
    kill(assault.pid(), SIGKILL);
    EXPECT_EQ(assault.outcome(SIGKILL), "");
}

TEST_P(LockedMemory, OfASocketThatIsPassedOnStaysWithWhoSetItUp) {
    guest::Producer producer;
    const std::string name = guest::unique_name("passed");
    const guest::Order order{.group = producer.add_group(name), .count = 10};
    const Channel channel;
    std::optional<RawSocket> passed;
    attack([&] {
        RawSocket socket;
        ASSERT_TRUE(guest::succeeded(socket.setup(kAll)));
        ASSERT_TRUE(guest::succeeded(socket.join(name)));
        put(channel.attacker(), 0, socket.fd());
    });
    int fd = -1;
    take(channel.test(), &fd);
    ASSERT_GE(fd, 0);
    passed.emplace(fd);
    // Its maker is gone; it still hears, and its maker's user still pays.
    EXPECT_EQ(producer.publish(order).delivered, order.count);
    as_user(guest::kSomebody, [] {
        RawSocket more;
        EXPECT_EQ(more.setup(kPage).error, privileged() ? 0 : ENOMEM);
    });
    {
        guest::RawRing ring(*passed, kAll);
        guest::Check check(order);
        while (const auto record = ring.next()) {
            ASSERT_NO_THROW(check.message(record->message()));
        }
        EXPECT_EQ(check.received(), order.count);
        passed.reset();
        as_user(guest::kSomebody, [] {
            RawSocket more;
            EXPECT_EQ(more.setup(kPage).error, privileged() ? 0 : ENOMEM) << "a map holds the ring";
        });
    }
}

TEST_P(LockedMemory, OfASocketThatIsLeftInFlightComesBack) {
    attack([] {
        // Received by nobody; and in a circle that only the core's collector finds.
        for (const bool circle : {false, true}) {
            const Channel channel;
            RawSocket socket;
            ASSERT_TRUE(guest::succeeded(socket.setup(circle ? kAll / 2 : kAll / 4)));
            put(channel.attacker(), 0, socket.fd());
            if (circle) {
                put(channel.attacker(), 0, channel.test());
                put(channel.test(), 0, channel.attacker());
            }
        }
        // The collector runs when descriptors are sent.
        const Channel another;
        put(another.attacker(), 0, another.attacker());
    });
}

TEST(CapIpcLock, IsExemptFromTheLimitButCounted) {
    constexpr std::uint32_t kAll = 1U << 20;
    const guest::MemlockLimit limit(kAll + kControl);
    const Channel channel;
    Assault holder(Attacker::root, [&] {
        // The user's own, with that one capability and no other.
        ASSERT_EQ(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
        ASSERT_EQ(setresgid(guest::kSomebody, guest::kSomebody, guest::kSomebody), 0);
        ASSERT_EQ(setresuid(guest::kSomebody, guest::kSomebody, guest::kSomebody), 0);
        __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
        std::array<__user_cap_data_struct, 2> only{};
        only[0].effective = only[0].permitted = 1U << CAP_IPC_LOCK;
        ASSERT_EQ(syscall(SYS_capset, &header, only.data()), 0);
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(4 * kAll)));
        put(channel.attacker(), 0);
        take(channel.attacker());
    });
    take(channel.test());
    as_user(guest::kSomebody, [] {
        RawSocket socket;
        EXPECT_TRUE(guest::refused(socket.setup(kPage), ENOMEM));
    });
    put(channel.test(), 0);
    holder.finish();
    expect_nothing_charged(kAll);
}

TEST(TheLimit, ThatIsLoweredLaterTakesNothingAwayAndStopsMore) {
    constexpr std::uint32_t kAll = 1U << 20;
    as_user(guest::kSomebody, [] {
        std::optional<RawSocket> socket;
        {
            const guest::MemlockLimit before(4 * kAll + kControl);
            socket.emplace();
            ASSERT_TRUE(guest::succeeded(socket->setup(4 * kAll)));
        }
        const guest::MemlockLimit lower(kPage);
        guest::RawRing ring(*socket, 4 * kAll);
        RawSocket more;
        EXPECT_TRUE(guest::refused(more.setup(kPage), ENOMEM));
    });
    const guest::MemlockLimit limit(kAll + kControl);
    expect_nothing_charged(kAll);
}

// A memory cgroup with a limit, and what is in it.
class Cgroup {
  public:
    explicit Cgroup(std::uint64_t max_bytes) {
        static const bool mounted = mount_once();
        if (!mounted) {
            throw std::runtime_error("cannot mount cgroup2");
        }
        if (mkdir(kPath, 0755) != 0) {
            throw std::runtime_error(std::string("mkdir ") + kPath + ": " + strerrorname_np(errno));
        }
        write("memory.max", std::to_string(max_bytes));
        write("pids.max", "200");
    }
    Cgroup(const Cgroup&) = delete;
    Cgroup& operator=(const Cgroup&) = delete;
    ~Cgroup() {
        kill_all();
        EXPECT_TRUE(guest::eventually([] { return rmdir(kPath) == 0; }))
            << "processes are left in the cgroup";
    }

    void move_in(pid_t pid) { write("cgroup.procs", std::to_string(pid)); }
    void kill_all() { write("cgroup.kill", "1"); }
    std::uint64_t current() const { return number("memory.current"); }
    std::uint64_t event(const std::string& name) const {
        std::ifstream file(std::string(kPath) + "/memory.events");
        std::string key;
        std::uint64_t value = 0;
        while (file >> key >> value) {
            if (key == name) {
                return value;
            }
        }
        throw std::runtime_error("no " + name + " in memory.events");
    }

  private:
    static constexpr const char* kRoot = "/tmp/cgroup";
    static constexpr const char* kPath = "/tmp/cgroup/attack";

    static bool mount_once() {
        mkdir(kRoot, 0755);
        if (mount("none", kRoot, "cgroup2", 0, nullptr) != 0) {
            return false;
        }
        std::ofstream file(std::string(kRoot) + "/cgroup.subtree_control");
        file << "+memory +pids" << std::flush;
        return bool(file);
    }
    static void write(const char* name, const std::string& value) {
        std::ofstream file(std::string(kPath) + "/" + name);
        file << value << std::flush;
        if (!file) {
            throw std::runtime_error(std::string("cannot write ") + name + " of a cgroup");
        }
    }
    static std::uint64_t number(const char* name) {
        std::ifstream file(std::string(kPath) + "/" + name);
        std::uint64_t value = 0;
        if (!(file >> value)) {
            throw std::runtime_error(std::string("cannot read ") + name + " of a cgroup");
        }
        return value;
    }
};

// The guest's log may show the OOM killer at work while this lives.
class ExpectOom {
  public:
    ExpectOom() { say("nlmmap-test: the OOM killer is expected from here"); }
    ExpectOom(const ExpectOom&) = delete;
    ExpectOom& operator=(const ExpectOom&) = delete;
    ~ExpectOom() { say("nlmmap-test: the OOM killer is expected no longer"); }

  private:
    static void say(const char* line) { std::ofstream("/dev/kmsg") << line << std::endl; }
};

class MemoryCgroup : public Attack {
  protected:
    static constexpr std::uint64_t kMax = 12U << 20;
    // So that nothing but the cgroup limits it.
    const guest::MemlockLimit limit_{1U << 30};
    const ExpectOom oom_;
    Cgroup cgroup_{kMax};
    const Channel channel_;

    // An attacker in the cgroup.
    Assault inside(const std::function<void()>& code) {
        Assault assault = start([&, code] {
            take(channel_.attacker());
            code();
        });
        cgroup_.move_in(assault.pid());
        put(channel_.test(), 0);
        return assault;
    }

    // What CPUs keep charged in advance.
    static std::uint64_t slack() {
        return static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_CONF)) * 64 * kPage + (1U << 20);
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(MemoryCgroup);

TEST_P(MemoryCgroup, IsChargedForRingsAndGetsItBack) {
    constexpr std::uint64_t rings = 8;
    constexpr std::uint32_t ring = 1U << 20;
    Assault assault = inside([&] {
        for (int round = 0; round < 3; ++round) {
            take(channel_.attacker());
            const auto sockets = as_many_as_possible(ring, rings);
            put(channel_.attacker(), sockets.size());
            take(channel_.attacker());
        }
    });
    const std::uint64_t before = cgroup_.current();
    for (int round = 0; round < 3; ++round) {
        put(channel_.test(), 0);
        EXPECT_EQ(take(channel_.test()), rings) << "in round " << round;
        const std::uint64_t with = cgroup_.current();
        EXPECT_GE(with, before + rings * ring);
        EXPECT_LE(with, before + rings * ring + rings * kControl + slack());
        put(channel_.test(), 0);
        EXPECT_TRUE(guest::eventually([&] { return cgroup_.current() <= before + slack(); }))
            << "closed rings are still charged: " << cgroup_.current() << ", before " << before;
    }
    assault.finish();
    EXPECT_EQ(cgroup_.event("oom_kill"), 0U);
}

TEST_P(MemoryCgroup, RefusesARingThatIsTooLargeForItAndStaysUsable) {
    Assault assault = inside([] {
        RawSocket socket;
        for (int round = 0; round < 5; ++round) {
            EXPECT_TRUE(guest::refused(socket.setup(32U << 20), ENOMEM))
                << "in round " << round << ": more than the cgroup may have";
        }
        // What was allocated until then is there again.
        EXPECT_TRUE(guest::succeeded(socket.setup(4U << 20)));
        EXPECT_NO_THROW(guest::RawRing(socket, 4U << 20));
    });
    assault.finish();
    EXPECT_EQ(cgroup_.event("oom_kill"), 0U) << "a ring that does not fit kills nobody";
    EXPECT_GT(cgroup_.event("max"), 0U);
    EXPECT_TRUE(guest::eventually([&] { return cgroup_.current() <= slack(); }));
}

TEST_P(MemoryCgroup, BoundsManySocketsOfManyProcesses) {
    constexpr std::uint32_t ring = 64 * kPage;
    Assault assault = inside([&] {
        for (int i = 0; i < 6; ++i) {
            if (fork() == 0) {
                const auto sockets = as_many_as_possible(ring, kMax / ring);
                put(channel_.attacker(), sockets.size());
                pause();
            }
        }
        pause();
    });
    std::uint64_t sum = 0;
    for (int i = 0; i < 6; ++i) {
        pollfd one{.fd = channel_.test(), .events = POLLIN, .revents = 0};
        // A process that the OOM killer took says nothing.
        while (poll(&one, 1, 100) != 1 && cgroup_.event("oom_kill") == 0) {
        }
        if (cgroup_.event("oom_kill") != 0) {
            break;
        }
        sum += take(channel_.test());
    }
    EXPECT_LE(cgroup_.current(), kMax);
    if (cgroup_.event("oom_kill") == 0) {
        EXPECT_LE(sum * ring, kMax);
        EXPECT_GE(sum * ring, kMax / 2) << "something else fills the cgroup";
    }
    // Outside it there is memory.
    as_user(guest::kSomebodyElse, [] {
        RawSocket socket;
        EXPECT_TRUE(guest::succeeded(socket.setup(4U << 20)));
    });
    cgroup_.kill_all();
    assault.outcome(SIGKILL);
    EXPECT_TRUE(guest::eventually([&] { return cgroup_.current() <= slack(); }))
        << "rings of killed processes are still charged: " << cgroup_.current();
}

TEST_P(MemoryCgroup, OfAReaderThatIsKilledForMemoryHurtsNobodyElse) {
    guest::Producer producer;
    const std::string name = guest::unique_name("oom");
    const guest::Order all{.group = producer.add_group(name), .count = 2000};
    Witness witness(name, all);
    auto published = std::async(std::launch::async, [&] {
        guest::Order part = all;
        part.count = 100;
        for (part.first_number = 0; part.first_number < all.count; part.first_number += 100) {
            producer.publish(part);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    });
    for (int round = 0; round < 2; ++round) {
        const std::uint64_t before = cgroup_.event("oom_kill");
        Assault assault = inside([&] {
            guest::RawMember member(name, 1U << 20);
            std::vector<RawSocket> more;
            // Now with rings, now with memory of its own, to the end.
            for (;;) {
                more.emplace_back();
                if (more.back().setup(64 * kPage).error == 0) {
                    more.back().join(name);
                }
                void* memory = mmap(nullptr, 64 * kPage, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
                if (memory != MAP_FAILED) {
                    std::memset(memory, 1, 64 * kPage);
                }
            }
        });
        EXPECT_EQ(assault.outcome(SIGKILL), "");
        EXPECT_GT(cgroup_.event("oom_kill"), before) << "it was not the OOM killer";
    }
    published.get();
    witness.expect_all(all.count);
    RawSocket asker;
    EXPECT_TRUE(guest::eventually([&] {
        return asker.group(name).replies.at(0).get<std::uint32_t>(NLMMAP_A_MEMBERS) == 1U;
    })) << "a killed reader is still a member";
    EXPECT_TRUE(guest::eventually([&] { return cgroup_.current() <= slack(); }));
}

}  // namespace
}  // namespace hostile
