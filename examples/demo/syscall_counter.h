// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace demo {

// Counts the system calls of some threads in the kernel, exactly: a histogram trigger on the
// tracepoint raw_syscalls:sys_enter, filtered on the threads, in a trace instance of its own.
// Unlike a trace buffer it cannot overflow; what it had no room for it reports, and read() throws.
// The instance is removed with the object. Needs root; mounts nothing if tracefs is mounted
// already, and leaves it mounted if not.
class SyscallCounter {
  public:
    // System calls by number, for each thread.
    using Result = std::map<pid_t, std::map<long, std::uint64_t>>;

    // Counting starts here. Throws std::system_error, std::runtime_error.
    explicit SyscallCounter(const std::vector<pid_t>& tids);
    ~SyscallCounter();
    SyscallCounter(const SyscallCounter&) = delete;
    SyscallCounter& operator=(const SyscallCounter&) = delete;

    // What was counted up to now. Throws std::runtime_error.
    Result read() const;

  private:
    void remove() noexcept;

    std::string instance_;
    std::string trigger_;
};

}  // namespace demo
