// SPDX-License-Identifier: MIT
//
// The attackers are what they say, and nothing that goes wrong in an attack
// stays unheard. Attacks nothing itself.
#include "tests/hostile/attacker.h"

#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tests/guest/producer.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

// A line of /proc/self/status, a number in hexadecimal.
std::uint64_t status_mask(const std::string& key) {
    std::ifstream file("/proc/self/status");
    std::string line;
    while (std::getline(file, line)) {
        if (line.starts_with(key + ":")) {
            return std::stoull(line.substr(key.size() + 1), nullptr, 16);
        }
    }
    throw std::runtime_error("no " + key + " in /proc/self/status");
}

std::uint64_t inode_of(const std::string& path) {
    struct stat status{};
    if (stat(path.c_str(), &status) != 0) {
        throw std::runtime_error("stat " + path);
    }
    return status.st_ino;
}

class Attackers : public Attack {};
INSTANTIATE_FOR_ALL_ATTACKERS(Attackers);

TEST_P(Attackers, AreWhoTheySay) {
    const std::uint64_t user_namespace = inode_of("/proc/self/ns/user");
    const std::uint64_t network = inode_of("/proc/self/ns/net");
    const std::uint64_t all = status_mask("CapEff");
    ASSERT_NE(all, 0U) << "the test itself must be root";
    attack([&] {
        const Attacker attacker = GetParam();
        EXPECT_EQ(getuid(), attacker == Attacker::user ? guest::kSomebody : 0U);
        EXPECT_EQ(geteuid(), getuid());
        EXPECT_EQ(getgid(), attacker == Attacker::user ? guest::kSomebody : 0U);
        for (const char* set : {"CapEff", "CapPrm"}) {
            EXPECT_EQ(status_mask(set), attacker == Attacker::user ? 0U : all) << set;
        }
        EXPECT_EQ(status_mask("NoNewPrivs"), attacker == Attacker::root ? 0U : 1U);
        EXPECT_EQ(inode_of("/proc/self/ns/user") == user_namespace,
                  attacker != Attacker::user_namespace);
        EXPECT_EQ(inode_of("/proc/self/ns/net"), network);
        // What the kernel says to what it may do: a device that is root's.
        const int device = open("/dev/kmem-or-nothing", O_RDONLY);
        EXPECT_EQ(device, -1);
        const int kmsg = open("/proc/sys/kernel/panic", O_WRONLY | O_CLOEXEC);
        EXPECT_EQ(kmsg >= 0, attacker == Attacker::root);
        // Its own memory is its own, or no attack through /proc could be tried.
        EXPECT_GE(open("/proc/self/mem", O_RDWR | O_CLOEXEC), 0) << strerrorname_np(errno);
    });
    EXPECT_EQ(getuid(), 0U) << "the test is still root";
    EXPECT_EQ(status_mask("CapEff"), all);
}

TEST_P(Attackers, HaveTheirRightsAtTheModuleToo) {
    guest::Producer producer;
    const std::string closed = guest::unique_name("private");
    const std::string open = guest::unique_name("public");
    producer.add_group(closed, 0);
    producer.add_group(open, NLMMAP_GROUP_PUBLIC);
    attack([&] {
        guest::RawSocket socket;
        ASSERT_TRUE(guest::succeeded(socket.setup(1 << 16)));
        EXPECT_EQ(socket.join(closed).error, privileged() ? 0 : EPERM);
        EXPECT_TRUE(guest::succeeded(socket.join(open)));
    });
}

TEST_P(Attackers, OfAUserNamespaceAloneMayMakeANetworkOfTheirOwn) {
    attack([] { EXPECT_EQ(unshare(CLONE_NEWNET), GetParam() == Attacker::user ? -1 : 0); });
}

TEST_P(Attackers, FailuresAreTheTests) {
    Assault wrong = start([] {
        EXPECT_EQ(1, 2) << "on purpose";
        ADD_FAILURE() << "and another";
    });
    EXPECT_NONFATAL_FAILURE(wrong.finish(), "on purpose");
    Assault twice = start([] {
        EXPECT_EQ(1, 2);
        ADD_FAILURE() << "and another";
    });
    EXPECT_NONFATAL_FAILURE(twice.finish(), "and another");
    Assault right = start([] {});
    EXPECT_EQ(right.outcome(), "");
}

TEST_P(Attackers, FailuresInThreadsAndChildrenAreTheTests) {
    Assault in_thread = start([] { std::thread([] { ADD_FAILURE() << "in a thread"; }).join(); });
    EXPECT_NONFATAL_FAILURE(in_thread.finish(), "in a thread");
    Assault in_child = start([] {
        EXPECT_EQ(guest::in_child([]() -> std::string {
                      ADD_FAILURE() << "in a child of the attacker";
                      return "";
                  }),
                  "");
    });
    EXPECT_NONFATAL_FAILURE(in_child.finish(), "in a child of the attacker");
}

TEST_P(Attackers, ManyFailuresAreToldInPartAndBlockNobody) {
    Assault wrong = start([] {
        for (int i = 0; i < 100; ++i) {
            ADD_FAILURE() << "number " << i << std::string(10000, '.');
        }
    });
    EXPECT_NONFATAL_FAILURE(wrong.finish(), "(and more)");
}

TEST_P(Attackers, ExceptionsSkipsAndEarlyExitsAreFailures) {
    Assault throwing = start([] { throw std::runtime_error("thrown on purpose"); });
    EXPECT_NONFATAL_FAILURE(throwing.finish(), "exception: thrown on purpose");
    Assault strange = start([] { throw 7; });
    EXPECT_NONFATAL_FAILURE(strange.finish(), "unknown type");
    Assault skipping = start([] { GTEST_SKIP() << "no reason"; });
    EXPECT_NONFATAL_FAILURE(skipping.finish(), "skipped");
    Assault leaving = start([] { _exit(0); });
    EXPECT_NONFATAL_FAILURE(leaving.finish(), "exited with status 0 before its code returned");
}

TEST_P(Attackers, CrashesAreFailuresUnlessExpected) {
    const auto crash = [] {
        volatile int* nowhere = nullptr;
        *nowhere = 1;
    };
    const QuietCrashes quiet;
    Assault crashing = start(crash);
    EXPECT_NONFATAL_FAILURE(crashing.finish(), "signal 11 (Segmentation fault)");
    attack_ending_by(SIGSEGV, crash);
    Assault killed = start([] { raise(SIGKILL); });
    EXPECT_NONFATAL_FAILURE(killed.finish(SIGBUS), "signal 9 (Killed)");
    Assault surviving = start([] {});
    EXPECT_NONFATAL_FAILURE(surviving.finish(SIGBUS), "was not ended by signal 7");
    Assault both = start([] {
        ADD_FAILURE() << "before the crash";
        raise(SIGBUS);
    });
    EXPECT_NONFATAL_FAILURE(both.finish(SIGBUS), "before the crash");
}

TEST_P(Attackers, ThatDoNotEndAreFailures) {
    Assault endless = start([] {
        for (;;) {
            pause();
        }
    });
    EXPECT_NONFATAL_FAILURE(endless.finish(0, std::chrono::seconds(1)), "did not end within 1 s");
    const pid_t pid = endless.pid();
    {
        const Assault last = std::move(endless);
    }
    EXPECT_EQ(kill(pid, 0), -1) << "it is still there";
    Assault failed = start([] {
        ADD_FAILURE() << "before it hung";
        pause();
    });
    EXPECT_NONFATAL_FAILURE(failed.finish(0, std::chrono::seconds(2 * patience())),
                            "before it hung");
}

TEST_P(Attackers, ThatAreSeveralThreadsEndWhenOneOfThemFails) {
    Assault throwing = start([] {
        together(3, [](int thread) {
            if (thread == 0) {
                throw std::runtime_error("thrown in a thread");
            }
            while (!somebody_failed()) {
                usleep(1000);
            }
        });
    });
    EXPECT_NONFATAL_FAILURE(throwing.finish(), "exception: thrown in a thread");
    Assault failing = start([] {
        together(3, [](int thread) {
            ASSERT_NE(thread, 1) << "failed in a thread";
            for (Rounds rounds(1'000'000'000, std::chrono::hours(1)); rounds.more();) {
                usleep(1000);
            }
        });
    });
    EXPECT_NONFATAL_FAILURE(failing.finish(), "failed in a thread");
}

TEST(AWitness, HearsEverythingThatIsPublished) {
    guest::Producer producer;
    const std::string name = guest::unique_name("witness");
    const guest::Order all{
        .group = producer.add_group(name), .count = 2000, .min_bytes = 16, .max_bytes = 500};
    Witness witness(name, all);
    for (std::uint64_t number = 0; number < all.count; number += 100) {
        guest::Order part = all;
        part.first_number = number;
        part.count = 100;
        producer.publish(part);
    }
    witness.expect_all(all.count);
}

TEST(AWitness, NoticesWhatIsLostAndWhatIsWrong) {
    guest::Producer producer;
    const std::string name = guest::unique_name("witness");
    const guest::Order all{.group = producer.add_group(name), .count = 100};
    {
        Witness witness(name, all);
        guest::Order skipping = all;
        skipping.first_number = 50;
        skipping.count = 50;
        producer.publish(skipping);
        EXPECT_NONFATAL_FAILURE(
            {
                guest::eventually([&] { return witness.received() == 50; });
                witness.expect_all(50);
            },
            "lost messages");
    }
    {
        Witness witness(name, all);
        guest::Order longer = all;
        longer.min_bytes = 64;
        producer.publish(longer);
        EXPECT_NONFATAL_FAILURE(witness.expect_all(100), "was given something wrong");
    }
}

}  // namespace
}  // namespace hostile
