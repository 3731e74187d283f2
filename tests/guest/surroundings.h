// SPDX-License-Identifier: MIT
//
// Where and as whom a test's code runs, and what the kernel tells about it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace guest {

// An ordinary user without capabilities.
constexpr unsigned kSomebody = 1000;
constexpr unsigned kSomebodyElse = 1001;

// Runs code in a thread of its own, without any capability, as this user.
void as_user(unsigned uid, const std::function<void()>& code);

// Runs code in a thread of its own, in a network namespace of its own that ends
// with the thread and the sockets made there.
void in_new_network(const std::function<void()>& code);

// Runs code in a child process. "" or what went wrong: what the code returned,
// threw, or the signal that ended it.
std::string in_child(const std::function<std::string()>& code);

// Keeps the calling thread on one CPU while it lives.
class OnCpu {
  public:
    explicit OnCpu(unsigned cpu);
    OnCpu(const OnCpu&) = delete;
    OnCpu& operator=(const OnCpu&) = delete;
    ~OnCpu();
};

// Sets the process's RLIMIT_MEMLOCK while it lives.
class MemlockLimit {
  public:
    explicit MemlockLimit(std::uint64_t bytes);
    MemlockLimit(const MemlockLimit&) = delete;
    MemlockLimit& operator=(const MemlockLimit&) = delete;
    ~MemlockLimit();

  private:
    std::uint64_t soft_;
    std::uint64_t hard_;
};

// Times as long as elsewhere that things may take on this kernel, 1 at least: what
// waits for an end that should come is patient, and nothing else asks for the time.
// What is only repeated may be repeated less often where this is more than 1.
unsigned patience();

// Waits until it is true. False after half a minute (times patience()): long enough
// for a slow machine, so a test that gets it has found something.
bool eventually(const std::function<bool()>& true_now);

// Pages that are free in the whole machine.
std::uint64_t free_pages();

// The Drops column of /proc/net/netlink for a socket of the calling thread's
// network namespace; -1 if the socket is not listed.
std::int64_t socket_drops(std::uint64_t inode);

// /proc/self/fdinfo/FD, "key: value" a line.
std::map<std::string, std::string> fdinfo(int fd);

// The kernel's log from now on that contains this text, if any appears in time.
class KernelLog {
  public:
    KernelLog();
    KernelLog(const KernelLog&) = delete;
    KernelLog& operator=(const KernelLog&) = delete;
    ~KernelLog();
    // The first new line with this text, or "".
    std::string line_with(const std::string& text);

  private:
    int fd_;
};

}  // namespace guest
