// SPDX-License-Identifier: MIT
//
// Tries to have more memory in rings than a memory cgroup allows: with one ring,
// with many, with a fork bomb, until the OOM killer comes. What was charged must
// come back, and nobody outside of the cgroup notice.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/channel.h"

namespace hostile {
namespace {

using guest::as_user;
using guest::RawSocket;

constexpr std::uint32_t kPage = 4096;
// A ring's consumer and producer page.
constexpr std::uint64_t kControl = 2 * kPage;

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
        write("pids.max", std::to_string(kProcesses));
    }
    Cgroup(const Cgroup&) = delete;
    Cgroup& operator=(const Cgroup&) = delete;
    ~Cgroup() {
        kill_all();
        EXPECT_TRUE(guest::eventually([] { return rmdir(kPath) == 0; }))
            << "processes are left in the cgroup";
    }

    static constexpr unsigned kProcesses = 40;

    bool full_of_processes() const { return number("pids.current") == kProcesses; }
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
    ExpectOom() {
        say("nlmmap-test: the OOM killer is expected from here");
        // It need not list all processes each time.
        std::ofstream("/proc/sys/vm/oom_dump_tasks") << "0" << std::flush;
    }
    ExpectOom(const ExpectOom&) = delete;
    ExpectOom& operator=(const ExpectOom&) = delete;
    ~ExpectOom() {
        std::ofstream("/proc/sys/vm/oom_dump_tasks") << "1" << std::flush;
        say("nlmmap-test: the OOM killer is expected no longer");
    }

  private:
    static void say(const char* line) { std::ofstream("/dev/kmsg") << line << std::endl; }
};

class MemoryCgroup : public Attack {
  protected:
    static constexpr std::uint64_t kMax = 8U << 20;
    // So that nothing but the cgroup limits it.
    const guest::MemlockLimit limit_{1U << 30};
    const ExpectOom oom_;
    Cgroup cgroup_{kMax};
    const Channel channel_;
    // Rounds of what is alike each time.
    const int rounds_ = patience() > 1 ? 1 : 3;

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
    constexpr std::uint64_t rings = 4;
    constexpr std::uint32_t ring = 1U << 20;
    Assault assault = inside([&] {
        for (int round = 0; round < rounds_; ++round) {
            take(channel_.attacker());
            const auto sockets = as_many_as_possible(ring, rings);
            put(channel_.attacker(), sockets.size());
            take(channel_.attacker());
        }
    });
    const std::uint64_t before = cgroup_.current();
    for (int round = 0; round < rounds_; ++round) {
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
    Assault assault = inside([this] {
        RawSocket socket;
        for (int round = 0; round < rounds_; ++round) {
            EXPECT_TRUE(guest::refused(socket.setup(16U << 20), ENOMEM))
                << "in round " << round << ": more than the cgroup may have";
        }
        // What was allocated until then is there again.
        EXPECT_TRUE(guest::succeeded(socket.setup(2U << 20)));
        EXPECT_NO_THROW(guest::RawRing(socket, 2U << 20));
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
        EXPECT_TRUE(guest::eventually([&] {
            return poll(&one, 1, 100) == 1 || cgroup_.event("oom_kill") != 0;
        })) << "process "
            << i << " neither gets its rings nor is refused them";
        if (HasFailure() || cgroup_.event("oom_kill") != 0) {
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
    EXPECT_EQ(assault.outcome(SIGKILL), "");
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
    for (int round = 0; round < rounds_; ++round) {
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

TEST_P(MemoryCgroup, BoundsAForkBombThatSetsUpRings) {
    guest::Producer producer;
    const std::string name = guest::unique_name("bomb");
    // Each message is offered to every ring of the bomb's.
    const guest::Order all{.group = producer.add_group(name),
                           .count = patience() > 1 ? 400U : 2000U};
    Witness witness(name, all);
    Assault assault = inside([&] {
        std::vector<RawSocket> sockets;
        for (;;) {
            if (fork() < 0 && errno != EAGAIN && errno != ENOMEM) {
                break;
            }
            try {
                sockets.emplace_back();
                if (sockets.back().setup(kPage).error == 0) {
                    sockets.back().join(name);
                }
            } catch (const std::system_error& error) {
                // No descriptors are left; or no memory, which the core has several words for.
                const int said = error.code().value();
                ASSERT_TRUE(said == EMFILE || said == ENOMEM || said == ENOBUFS || said == ENFILE)
                    << strerrorname_np(said);
                sockets.clear();
            }
        }
        ADD_FAILURE() << "fork: " << strerrorname_np(errno);
    });
    EXPECT_TRUE(guest::eventually([&] {
        return cgroup_.full_of_processes() || cgroup_.event("oom_kill") != 0;
    })) << "the bomb does not go off";
    guest::Order part = all;
    part.count = 200;
    for (part.first_number = 0; part.first_number < all.count; part.first_number += part.count) {
        producer.publish(part);
    }
    witness.expect_all(all.count);
    as_user(guest::kSomebodyElse, [&] {
        EXPECT_NO_THROW(guest::RawMember(name, 4 * kPage)) << "somebody else gets nothing any more";
    });
    EXPECT_LE(cgroup_.current(), kMax);
    cgroup_.kill_all();
    EXPECT_EQ(assault.outcome(SIGKILL), "");
    RawSocket asker;
    EXPECT_TRUE(guest::eventually([&] {
        return asker.group(name).replies.at(0).get<std::uint32_t>(NLMMAP_A_MEMBERS) == 1U;
    })) << "killed readers are still members";
    EXPECT_TRUE(guest::eventually([&] { return cgroup_.current() <= slack(); }))
        << "rings of killed processes are still charged: " << cgroup_.current();
}

}  // namespace
}  // namespace hostile
