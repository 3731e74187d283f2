// SPDX-License-Identifier: MIT
//
// How many system calls a Receiver on an attached socket makes, counted by ptrace() over whole
// bursts: waiting, arming and all.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <nlmmap/nlmmap.hpp>
#include <optional>

#include "tests/drop_in/listener.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::Addresses;
using guest::in_new_network;
using nlmmap::Receiver;
using nlmmap::Wait;

// Reads so many datagrams; what went wrong is in the exit status.
[[noreturn]] void read_in_child(int protocol, std::uint32_t group, std::uint32_t watermark_bytes,
                                std::uint32_t count) {
    int status = 1;
    try {
        guest::RawSocket socket = guest::family_socket(protocol);
        if (socket.add_membership(group) != 0) _exit(2);
        Receiver receiver = Receiver::attach(
            socket.fd(), {.ring_bytes = 8 << 20, .watermark_bytes = watermark_bytes});
        ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        // It is counted from here on.
        raise(SIGSTOP);
        std::uint32_t received = 0;
        std::uint64_t lost = 0;
        while (received < count && receiver.wait() == Wait::readable) {
            for (const nlmmap::Record& record : receiver.read()) {
                lost += record.lost_before();
                ++received;
            }
        }
        status = received >= count && lost == 0 ? 0 : 3;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    _exit(status);
}

// The system calls that the child makes, from when it stops itself until it exits; `meanwhile` runs
// in a process of its own.
std::optional<std::uint64_t> count_calls(const std::function<void()>& child,
                                         const std::function<void()>& meanwhile) {
    const pid_t counted = fork();
    if (counted == 0) child();
    int status = 0;
    if (waitpid(counted, &status, 0) != counted || !WIFSTOPPED(status)) return std::nullopt;
    ptrace(PTRACE_SETOPTIONS, counted, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    const pid_t other = fork();
    if (other == 0) {
        try {
            meanwhile();
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s\n", error.what());
            _exit(1);
        }
        _exit(0);
    }
    std::uint64_t stops = 0;
    for (;;) {
        ptrace(PTRACE_SYSCALL, counted, 0, 0);
        if (waitpid(counted, &status, 0) != counted || !WIFSTOPPED(status)) break;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) ++stops;
    }
    int other_status = 0;
    waitpid(other, &other_status, 0);
    EXPECT_EQ(other_status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    EXPECT_EQ(WEXITSTATUS(status), 0);
    // Each stops it twice, but for the exit, which never returns.
    return (stops + 1) / 2;
}

void expect_few(std::optional<std::uint64_t> calls, std::uint32_t count) {
    ASSERT_TRUE(calls.has_value());
    testing::Test::RecordProperty("system_calls", std::to_string(*calls));
    std::printf("# %llu system calls for %u messages\n", static_cast<unsigned long long>(*calls),
                count);
    // It waited and it exited, so something was counted.
    EXPECT_GE(*calls, 2U);
    EXPECT_LT(*calls * 100, count);
}

TEST(SystemCalls, AreFewerThanOneForAHundredMessagesOfBurstsWithAWatermark) {
    in_new_network([] {
        constexpr std::uint32_t kCount = 1000;
        expect_few(
            count_calls(
                [&] { read_in_child(NETLINK_ROUTE, RTNLGRP_IPV4_IFADDR, kCount * 26, kCount); },
                [&] {
                    // Of 104 bytes each, and more than are read, so that none is left below
                    // the watermark.
                    Addresses addresses;
                    for (std::uint32_t burst = 0; burst < 13; ++burst) {
                        addresses.add(burst * (kCount / 10), kCount / 10);
                        usleep(10000);
                    }
                }),
            kCount);
    });
}

// The sender and the reader share a CPU, and the sender keeps it until the burst is over: the
// reader finds all of it when it wakes, without asking for that.
TEST(SystemCalls, AreFewerThanOneForAHundredMessagesOfABurstInOneStretch) {
    in_new_network([] {
        constexpr std::uint32_t kCount = 2000;
        const guest::OnCpu here(0);
        expect_few(count_calls([] { read_in_child(NLMMAP_SENDER_FAMILY, 3, 0, kCount); },
                               [] {
                                   guest::Senders().send({.group = 3,
                                                          .context = NLMMAP_SENDER_SOFTIRQS_OFF,
                                                          .count = kCount});
                               }),
                   kCount);
    });
}

}  // namespace
}  // namespace drop_in
