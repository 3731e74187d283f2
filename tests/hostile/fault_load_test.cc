// SPDX-License-Identifier: MIT
//
// Every allocation of ours failing once in turn while the module is loaded, and
// while a network namespace is made: the load or the namespace fails and leaves
// nothing, or works; the next try works. And some of the core's own, so that
// what we did for a namespace that comes to nothing is undone. Both are root's to do;
// who listens where it worked is an ordinary user.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/faults.h"

namespace hostile {
namespace {

using guest::RawMember;
using guest::RawSocket;

constexpr std::uint32_t kPage = 4096;

int unload(const char* module) {
    return syscall(SYS_delete_module, module, O_NONBLOCK) != 0 ? errno : 0;
}

// Some references are dropped a moment after the last close().
bool unloads(const char* module) {
    return guest::eventually([&] { return unload(module) != EWOULDBLOCK; });
}

bool loaded() { return access("/sys/module/nlmmap", F_OK) == 0; }

// A socket of the family by its default number; the module may not be there to say it.
int family_socket() {
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NLMMAP);
    return fd < 0 ? -errno : fd;
}

void expect_working() {
    guest::Producer producer;
    const std::string name = guest::unique_name("working");
    const std::uint32_t group = producer.add_group(name);
    const Somebody somebody;
    RawMember member(name, kPage);
    EXPECT_EQ(producer.publish({.group = group}).delivered, 1U);
    EXPECT_TRUE(member.ring.next().has_value());
}

class Loading : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(unloads("nlmmap_test"));
        ASSERT_TRUE(unloads("nlmmap"));
        ASSERT_FALSE(loaded());
        module_ = open("/modules/nlmmap.ko", O_RDONLY | O_CLOEXEC);
        producer_ = open("/modules/nlmmap_test.ko", O_RDONLY | O_CLOEXEC);
        ASSERT_GE(module_, 0);
        ASSERT_GE(producer_, 0);
    }
    void TearDown() override {
        if (!loaded()) {
            EXPECT_EQ(load(module_), 0);
        }
        EXPECT_EQ(load(producer_), 0);
        close(module_);
        close(producer_);
        expect_working();
    }
    static int load(int file) { return syscall(SYS_finit_module, file, "", 0) != 0 ? errno : 0; }

    FaultInjection injection_;
    NthFault fault_;
    int module_ = -1;
    int producer_ = -1;
};

TEST_F(Loading, WorksOrLeavesNothing) {
    injection_.only_in_modules();
    int error = 0;
    fail_each_in_turn(
        fault_, "module load", 20, [&] { error = load(module_); },
        [&](bool) {
            EXPECT_EQ(loaded(), error == 0);
            const int fd = family_socket();
            if (error != 0) {
                // Without the number itself it is "taken, or there is no memory"; ENFILE is a
                // socket without memory.
                EXPECT_TRUE(is_fault_error(error) || error == EADDRINUSE || error == ENFILE)
                    << strerrorname_np(error);
                EXPECT_EQ(fd, -EPROTONOSUPPORT) << "the family is still there";
                EXPECT_EQ(load(module_), 0) << "the next try";
                EXPECT_TRUE(loaded());
            } else {
                EXPECT_GE(fd, 0) << "loaded, but no family";
                close(fd);
            }
            EXPECT_TRUE(unloads("nlmmap"));
            return error == 0 ? Came::worked : Came::failed;
        });
}

class Namespaces : public testing::Test {
  protected:
    Namespaces() : here_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {}
    ~Namespaces() override { close(here_); }

    // Makes one, or not; what is in it works. Then back here.
    Came make() {
        if (error_ == 0) {
            guest::Producer producer;
            const std::string name = guest::unique_name("there");
            const std::uint32_t group = producer.add_group(name);
            const Somebody somebody;
            RawMember member(name, kPage);
            EXPECT_EQ(producer.publish({.group = group}).delivered, 1U);
        }
        EXPECT_EQ(setns(here_, CLONE_NEWNET), 0);
        EXPECT_EQ(publish(), 1U);
        return error_ == 0 ? Came::worked : Came::failed;
    }
    std::uint64_t publish() {
        ++published_;
        return producer_.publish({.group = group_, .first_number = published_ - 1}).delivered;
    }
    void TearDown() override {
        guest::Check check({.group = group_, .count = published_});
        while (const auto record = bystander_.ring.next()) {
            ASSERT_NO_THROW(check.message(record->message()));
        }
        EXPECT_EQ(check.received(), published_) << "somebody else lost messages";
        EXPECT_EQ(bystander_.ring.lost(), 0U);
    }

    FaultInjection injection_;
    NthFault fault_;
    const int here_;
    int error_ = 0;
    const std::string name_ = guest::unique_name("faults");
    guest::Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
    RawMember bystander_{name_, 1U << 18};
    std::uint64_t published_ = 0;
};

TEST_F(Namespaces, AreMadeWithTheFamilyOrNotAtAll) {
    injection_.only_in("nlmmap");
    fail_each_in_turn(
        fault_, "namespace creation", 3, [&] { error_ = unshare(CLONE_NEWNET) != 0 ? errno : 0; },
        [&](bool) {
            EXPECT_TRUE(error_ == 0 || is_fault_error(error_)) << strerrorname_np(error_);
            return make();
        });
}

TEST_F(Namespaces, ThatFailElsewhereTakeTheFamilyWithThem) {
    bool injected = true;
    unsigned tried = 0;
    unsigned failed = 0;
    // The core makes much more than we do: not each of it.
    for (unsigned n = 1; injected && tried < 40 && !HasFailure(); n += 1 + n / 4) {
        SCOPED_TRACE("fault point " + std::to_string(n));
        // What the core answers is its own matter: EEXIST, for one.
        injected = fault_.during(n, [&] { error_ = unshare(CLONE_NEWNET) != 0 ? errno : 0; });
        EXPECT_TRUE(injected || error_ == 0) << strerrorname_np(error_);
        failed += make() == Came::failed ? 1U : 0U;
        tried += injected ? 1U : 0U;
    }
    std::printf("fault points of namespaces in the core: %u tried, %u failed\n", tried, failed);
    EXPECT_FALSE(injected) << "there is more than these";
    EXPECT_GE(tried, 15U);
    EXPECT_GE(failed, 5U);
}

}  // namespace
}  // namespace hostile
