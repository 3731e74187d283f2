// SPDX-License-Identifier: MIT
// A reader asleep is woken and never missed; an awake one makes no system call.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <thread>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using namespace std::chrono_literals;
using testing::Loopback;
using unit::message;

constexpr std::size_t kPage = 4096;
// Long enough for any machine: a test that needs it has failed.
constexpr auto kForever = 30s;

std::uint64_t read_all(Receiver& receiver) {
    std::uint64_t count = 0;
    for (const Record& record : receiver.read()) count += record.seq() != 0 ? 1 : 0;
    return count;
}

TEST(Waiting, TimesOutOnAnEmptyRing) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(receiver.wait(20ms), Wait::timed_out);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
    EXPECT_EQ(receiver.wait(0ns), Wait::timed_out);
    EXPECT_EQ(receiver.wait(-5s), Wait::timed_out) << "the past does not wait";
}

TEST(Waiting, FindsWhatIsThereAlready) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(0, 32)));
    EXPECT_EQ(receiver.wait(), Wait::readable);
    EXPECT_EQ(receiver.wait(std::chrono::nanoseconds::max()), Wait::readable);
    EXPECT_EQ(read_all(receiver), 1U);
}

TEST(Waiting, MissesNoWakeUpWhilePublisherAndReaderTakeTurns) {
    constexpr std::uint64_t rounds = unit::kSanitized ? 3'000 : 20'000;
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    std::atomic<std::uint64_t> received = 0;
    std::jthread publisher([&](const std::stop_token& stop) {
        for (std::uint64_t number = 0; number < rounds && !stop.stop_requested(); ++number) {
            EXPECT_TRUE(kernel.publish(message(number, 32)));
            // Every second message waits until the one before it was read: the reader sleeps, or is
            // about to.
            while (number % 2 == 0 && received.load() <= number && !stop.stop_requested())
                std::this_thread::yield();
        }
    });
    while (received < rounds) {
        ASSERT_EQ(receiver.wait(kForever), Wait::readable) << "missed after " << received;
        received += read_all(receiver);
    }
    EXPECT_EQ(receiver.lost(), 0U);
}

TEST(Waiting, MissesNoWakeUpOnAnEdgeTriggeredEpollThatArms) {
    constexpr std::uint64_t rounds = unit::kSanitized ? 3'000 : 20'000;
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    ASSERT_GE(epoll, 0);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, receiver.fd(), &event), 0);
    std::atomic<std::uint64_t> received = 0;
    {
        std::jthread publisher([&](const std::stop_token& stop) {
            for (std::uint64_t number = 0; number < rounds && !stop.stop_requested(); ++number) {
                EXPECT_TRUE(kernel.publish(message(number, 32)));
                while (received.load() <= number && !stop.stop_requested())
                    std::this_thread::yield();
            }
        });
        while (received < rounds) {
            received += read_all(receiver);
            if (receiver.arm()) continue;
            if (received == rounds) break;
            ASSERT_EQ(::epoll_wait(epoll, &event, 1, 60'000), 1) << "missed after " << received;
        }
    }
    ::close(epoll);
}

TEST(Waiting, WakesAtTheWatermarkAndNotBefore) {
    Loopback kernel({.ring_bytes = kPage, .watermark_bytes = 10 * 88});
    Receiver receiver = kernel.receiver();
    EXPECT_FALSE(receiver.arm());
    for (std::uint64_t number = 0; number < 9; ++number) {
        ASSERT_TRUE(kernel.publish(message(number, 64)));
        EXPECT_FALSE(receiver.arm()) << number + 1 << " records are below the watermark";
    }
    EXPECT_EQ(kernel.info().wakeups, 0U);
    ASSERT_TRUE(kernel.publish(message(9, 64)));
    EXPECT_EQ(kernel.info().wakeups, 1U);
    EXPECT_EQ(receiver.wait(kForever), Wait::readable);
    EXPECT_EQ(read_all(receiver), 10U);
}

TEST(Waiting, FindsWhatIsBelowTheWatermarkWhenTheTimeIsOver) {
    Loopback kernel({.ring_bytes = kPage, .watermark_bytes = 1000});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(0, 64)));
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(receiver.wait(20ms), Wait::readable);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms) << "the watermark was not minded";
    EXPECT_EQ(read_all(receiver), 1U);
}

TEST(Waiting, TakesAWatermarkOverHalfTheRingForHalfTheRing) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    receiver.set_watermark(UINT32_MAX);
    while (receiver.pending_bytes() + 88 < kPage / 2) ASSERT_TRUE(kernel.publish(message(0, 64)));
    EXPECT_FALSE(receiver.arm());
    ASSERT_TRUE(kernel.publish(message(0, 64)));
    EXPECT_TRUE(receiver.arm());
    EXPECT_EQ(receiver.wait(), Wait::readable);
}

TEST(Waiting, WakesForALossUnderTheWatermark) {
    Loopback kernel({.ring_bytes = kPage, .watermark_bytes = kPage / 2});
    Receiver receiver = kernel.receiver();
    std::jthread publisher([&] {
        std::this_thread::sleep_for(20ms);
        kernel.count_loss(1);
    });
    EXPECT_EQ(receiver.wait(kForever), Wait::readable);
    EXPECT_EQ(receiver.lost(), 1U);
}

TEST(Waiting, CostsAnAwakeReadersPublisherNoWakeUp) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    for (std::uint64_t number = 0; number < 1000; ++number) {
        ASSERT_TRUE(kernel.publish(message(number, 64)));
        ASSERT_EQ(receiver.wait(), Wait::readable);
        ASSERT_EQ(read_all(receiver), 1U);
    }
    EXPECT_LE(kernel.info().wakeups, 1U) << "nobody slept";
}

void ignore(int /*signal*/) {}

TEST(Waiting, EndsAtASignal) {
    struct sigaction action{};
    action.sa_handler = ignore;
    ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    const pthread_t waiter = ::pthread_self();
    std::jthread other([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            std::this_thread::sleep_for(5ms);
            ::pthread_kill(waiter, SIGUSR1);
        }
    });
    EXPECT_EQ(receiver.wait(kForever), Wait::interrupted);
}

// From here on any system call but exit() kills the process.
void forbid_system_calls() {
    std::array<sock_filter, 4> allow_exit = {{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_exit},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
    }};
    const sock_fprog filter = {.len = allow_exit.size(), .filter = allow_exit.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        ::_exit(2);
}

// In its own process.
void read_without_system_calls(Loopback& kernel, Receiver& receiver) {
    for (std::uint64_t number = 0; number < 30; ++number)
        static_cast<void>(kernel.publish(message(number, 64)));
    forbid_system_calls();
    bool right = receiver.wait() == Wait::readable;
    std::uint64_t messages = 0;
    for (const Record& record : receiver.read())
        for (const Message& one : record) right = right && one.portid() == messages++;
    // Not exit_group(), which may do more before.
    ::syscall(SYS_exit, right && messages == 30 && receiver.pending_bytes() == 0 ? 0 : 1);
}

TEST(WaitingDeathTest, AndReadingMakeNoSystemCallWhileThereIsData) {
    if (unit::kSanitized) GTEST_SKIP() << "sanitizers make system calls of their own";
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    EXPECT_EXIT(read_without_system_calls(kernel, receiver), ::testing::ExitedWithCode(0), "");
}

TEST(GroupGone, IsToldByANoticeAndThenByWait) {
    Loopback kernel({.ring_bytes = kPage});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(0, 64)));
    kernel.delete_group();
    ASSERT_EQ(receiver.wait(kForever), Wait::readable);
    int records = 0;
    for (const Record& record : receiver.read()) {
        if (++records == 1) {
            EXPECT_FALSE(record.is_notice());
            continue;
        }
        EXPECT_TRUE(record.is_notice());
        EXPECT_EQ(record.group(), 1U);
        for (const Message& notice : record) {
            EXPECT_EQ(notice.type(), NLMMAP_MSG_GROUP_DELETED);
            for (const Attribute& attribute : notice.attributes()) {
                EXPECT_EQ(attribute.type(), NLMMAP_A_GROUP_ID);
                EXPECT_EQ(attribute.as<std::uint32_t>(), 1U);
            }
        }
    }
    EXPECT_EQ(records, 2);
    EXPECT_EQ(receiver.wait(kForever), Wait::group_gone);
    EXPECT_EQ(receiver.wait(kForever), Wait::group_gone) << "it stays so";
}

TEST(GroupGone, HasRoomForItsNoticeInAFullRing) {
    for (const bool timestamps : {false, true}) {
        Loopback kernel({.ring_bytes = kPage, .timestamps = timestamps});
        Receiver receiver = kernel.receiver();
        std::uint64_t taken = 0;
        while (kernel.publish(message(taken, 16))) ++taken;
        kernel.delete_group();
        EXPECT_THROW(static_cast<void>(kernel.publish(message(0, 16))), Error);
        bool notice = false;
        for (const Record& record : receiver.read()) {
            notice = record.is_notice();
            EXPECT_EQ(notice, record.seq() == taken + 2);
            EXPECT_EQ(record.lost_before(), notice ? 1U : 0U);
        }
        EXPECT_TRUE(notice);
        EXPECT_EQ(receiver.wait(kForever), Wait::group_gone);
    }
}

TEST(GroupGone, WakesASleeperUnderItsWatermark) {
    Loopback kernel({.ring_bytes = kPage, .watermark_bytes = kPage / 2});
    Receiver receiver = kernel.receiver();
    std::jthread publisher([&] {
        std::this_thread::sleep_for(20ms);
        kernel.delete_group();
    });
    EXPECT_EQ(receiver.wait(kForever), Wait::readable);
    EXPECT_EQ(read_all(receiver), 1U);
    EXPECT_EQ(receiver.wait(kForever), Wait::group_gone);
}

TEST(GroupGone, IsNotToldBeforeEverythingWasRead) {
    Loopback kernel({.ring_bytes = kPage, .watermark_bytes = kPage / 2});
    Receiver receiver = kernel.receiver();
    for (std::uint64_t number = 0; number < 3; ++number)
        ASSERT_TRUE(kernel.publish(message(number, 64)));
    kernel.delete_group();
    int reads = 0;
    while (receiver.wait(kForever) != Wait::group_gone) {
        ASSERT_LT(reads, 10);
        Batch batch = receiver.read();
        for (const Record& record : batch) {
            // The notice is put back once: it is told again, and deletes no second group.
            if (record.is_notice() && reads == 3) batch.keep_current();
            break;
        }
        ++reads;
    }
    EXPECT_EQ(reads, 5);
}

}  // namespace
}  // namespace nlmmap
