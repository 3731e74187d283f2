// SPDX-License-Identifier: MIT
//
// The module is unloaded and loaded again under load, 500 times (on a debug kernel
// as often as its time allows, 100 times at least): readers with maps are killed
// while they sleep, programs open sockets and set up rings all the while, and in
// every fifth round producers publish until the moment in which their module
// unregisters, to rings and to plain listeners. Nothing but documented errors;
// nothing keeps a module for longer than its users live. Who sleeps and who tries to
// use what comes and goes is an ordinary user; modules and groups are root's.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
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
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::Producer;
using guest::RawMember;
using guest::RawSocket;

constexpr std::uint64_t kRounds = 500;
// A debug kernel stops after this time, once it has done as many as that.
constexpr std::uint64_t kLeastRounds = 100;
constexpr auto kTime = 40s;

constexpr int kFamily = 30;
constexpr std::uint32_t kPage = 4096;
constexpr char kName[] = "reload";
constexpr char kModule[] = "nlmmap";
constexpr char kProducerModule[] = "nlmmap_test";

int file_of(const std::string& module) {
    const int file = open(("/modules/" + module + ".ko").c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        throw std::system_error(errno, std::system_category(), module);
    }
    return file;
}

// 0 or an errno.
int load(int file, const char* parameters = "") {
    return syscall(SYS_finit_module, file, parameters, 0) != 0 ? errno : 0;
}

int unload(const char* module) {
    return syscall(SYS_delete_module, module, O_NONBLOCK) != 0 ? errno : 0;
}

// Refused as long as somebody who tries to use it has a socket open, never for long.
void expect_unloaded(const char* module) {
    int error = 0;
    const bool gone = guest::eventually([&] {
        error = unload(module);
        return error != EWOULDBLOCK;
    });
    ASSERT_TRUE(gone) << module << " is in use, and nobody uses it: a reference is lost";
    ASSERT_EQ(error, 0) << module << ": " << std::strerror(error);
}

// Opens sockets of the family for as long as the test lasts, whether it is there
// or not, and does what one does with them. Throws for what no contract names.
void use_what_comes_and_goes() {
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, kFamily);
    if (fd < 0) {
        if (errno != EPROTONOSUPPORT) {
            throw std::system_error(errno, std::system_category(), "socket");
        }
        return;
    }
    // From here on the module stays until the socket is closed.
    RawSocket socket(fd);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        throw std::system_error(errno, std::system_category(), "bind");
    }
    const auto set_up = socket.setup(kPage);
    if (set_up.error != 0) {
        throw std::runtime_error("set-up: " + std::to_string(set_up.error) + " " + set_up.sentence);
    }
    const auto joined = socket.join(kName);
    if (joined.error != 0 && joined.error != ENOENT) {
        throw std::runtime_error("join: " + joined.sentence);
    }
    const guest::RawRing ring(socket, kPage);
    guest::poll_now(fd, POLLIN);
}

// A process of an ordinary user's that sleeps on a socket with a mapped ring until it
// is killed.
class Sleeping {
  public:
    // With a group, the socket is a member of it.
    Sleeping(guest::Way way, const char* group) {
        std::array<int, 2> told{};
        if (pipe2(told.data(), O_CLOEXEC) != 0 || (pid_ = fork()) < 0) {
            throw std::system_error(errno, std::system_category(), "a process that sleeps");
        }
        if (pid_ == 0) {
            sleep(way, group, told[1]);
        }
        close(told[1]);
        char byte = 0;
        const bool asleep = read(told[0], &byte, 1) == 1;
        close(told[0]);
        EXPECT_TRUE(asleep) << "no reader fell asleep by " << guest::name_of(way);
    }
    Sleeping(const Sleeping&) = delete;
    Sleeping& operator=(const Sleeping&) = delete;
    ~Sleeping() {
        kill();
        int status = 0;
        waitpid(pid_, &status, 0);
        EXPECT_TRUE(WIFSIGNALED(status)) << "a reader ended by itself";
    }
    // Returns before it is dead.
    void kill() { ::kill(pid_, SIGKILL); }

  private:
    [[noreturn]] static void sleep(guest::Way way, const char* group, int told) {
        try {
            become(Attacker::user);
            RawSocket socket;
            if (socket.setup(kPage).error == 0 &&
                (group == nullptr || socket.join(group).error == 0)) {
                const guest::RawRing ring(socket, kPage);
                const auto sleeper = guest::Sleeper::make(way, socket.fd());
                const char byte = 's';
                while (write(told, &byte, 1) == 1) {
                    sleeper->sleep(60s);
                }
            }
        } catch (const std::exception&) {
            // The parent hears nothing, which it takes for a failure.
        }
        _exit(1);
    }

    pid_t pid_ = -1;
};

class Reloading : public testing::Test {
  protected:
    void SetUp() override {
        // Grace periods are what takes time; shorter ones also let memory go sooner
        // under the feet of whoever should not use it any more.
        std::ofstream("/sys/kernel/rcu_expedited") << "1" << std::flush;
        unload(kProducerModule);
        expect_unloaded(kModule);
    }
    void TearDown() override {
        std::ofstream("/sys/kernel/rcu_expedited") << "0" << std::flush;
        load(module_);
        load(producer_module_);
        expect_nothing_left(0);
    }
    // Sockets alone.
    void round(guest::Way way) {
        ASSERT_EQ(load(module_), 0);
        {
            Sleeping sleeping(way, nullptr);
            EXPECT_EQ(unload(kModule), EWOULDBLOCK) << "while a socket is open";
            sleeping.kill();
            // Goes as soon as the last of what the process had is gone.
            ASSERT_NO_FATAL_FAILURE(expect_unloaded(kModule));
        }
    }
    // Producers, rings and plain listeners.
    void round_with_producers(guest::Way way, bool in_place) {
        // A smaller ring for plain listeners: allocating it is not what is tested.
        ASSERT_EQ(load(module_, "plain_ring_bytes=65536"), 0);
        ASSERT_EQ(load(producer_module_), 0);
        {
            Producer producer;
            const std::uint32_t group = producer.add_group(kName);
            Sleeping sleeping(way, kName);
            RawMember member(kName, 4 * kPage);
            RawSocket plain;
            ASSERT_EQ(plain.add_membership(group), 0);
            auto flow = producer.start({.group = group,
                                        .count = 1'000'000'000,
                                        .in_place = in_place,
                                        .context = NLMMAP_TEST_KTHREAD,
                                        .producers = 2,
                                        .burst = 8,
                                        .pause_us = 30});
            EXPECT_TRUE(guest::eventually([&] { return member.ring.readable(); }));
            EXPECT_EQ(unload(kProducerModule), EWOULDBLOCK) << "while its device is open";
            EXPECT_EQ(unload(kModule), EWOULDBLOCK) << "while everything uses it";
            sleeping.kill();
            producer.remove_group(group);
            EXPECT_EQ(flow.get().ended, ECANCELED);
        }
        ASSERT_NO_FATAL_FAILURE(expect_unloaded(kProducerModule));
        ASSERT_NO_FATAL_FAILURE(expect_unloaded(kModule));
    }

    const int module_ = file_of(kModule);
    const int producer_module_ = file_of(kProducerModule);
};

// Tries to use the module as an ordinary user, some of the time: one that always has a
// user is never unloaded.
class User {
  public:
    User() : thread_([this] { use(); }) {}
    User(const User&) = delete;
    User& operator=(const User&) = delete;
    ~User() { stop(); }
    void stop() {
        stop_ = true;
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    // When it has stopped.
    std::uint64_t times() const { return times_; }
    const std::string& wrong() const { return wrong_; }

  private:
    void use() {
        try {
            guest::as_user(guest::kSomebody, [this] {
                Dice dice(1);
                while (!stop_) {
                    use_what_comes_and_goes();
                    ++times_;
                    std::this_thread::sleep_for(std::chrono::microseconds(dice.below(20000)));
                }
            });
        } catch (const std::exception& error) {
            wrong_ = error.what();
        }
    }
    std::atomic<bool> stop_{false};
    std::uint64_t times_ = 0;
    std::string wrong_;
    std::thread thread_;
};

TEST_F(Reloading, ManyTimesUnderLoadIsClean) {
    const std::vector<guest::Way> ways = guest::all_ways();
    User user;
    Rounds rounds(kRounds, kTime, guest::patience() > 1 ? kLeastRounds : kRounds);
    while (rounds.more() && !HasFatalFailure()) {
        const guest::Way way = ways[rounds.begun() % ways.size()];
        if (rounds.begun() % 5 == 0) {
            round_with_producers(way, rounds.begun() % 2 == 0);
        } else {
            round(way);
        }
    }
    user.stop();
    EXPECT_EQ(user.wrong(), "");
    std::cout << rounds.begun() << " rounds of " << kRounds << ", as many as the time was for; "
              << user.times() << " tries to use the module meanwhile" << std::endl;
}

}  // namespace
}  // namespace hostile
