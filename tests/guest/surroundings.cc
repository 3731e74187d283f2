// SPDX-License-Identifier: MIT
#include "tests/guest/surroundings.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace guest {
namespace {

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

// Runs in a thread, and rethrows here what was thrown there.
void in_thread(const std::function<void()>& code) {
    std::exception_ptr thrown;
    std::thread thread([&] {
        try {
            code();
        } catch (...) {
            thrown = std::current_exception();
        }
    });
    thread.join();
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

}  // namespace

void as_user(unsigned uid, const std::function<void()>& code) {
    in_thread([&] {
        // The system calls themselves: credentials belong to the thread alone,
        // while the C library would change them for all threads.
        if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, uid, uid, uid) != 0 ||
            syscall(SYS_setresuid, uid, uid, uid) != 0) {
            fail("becoming user " + std::to_string(uid));
        }
        code();
    });
}

void in_new_network(const std::function<void()>& code) {
    in_thread([&] {
        if (unshare(CLONE_NEWNET) != 0) {
            fail("unshare(CLONE_NEWNET)");
        }
        code();
    });
}

std::string in_child(const std::function<std::string()>& code) {
    std::array<int, 2> channel{};
    if (pipe2(channel.data(), O_CLOEXEC) != 0) {
        fail("pipe2");
    }
    const pid_t child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        std::string said;
        try {
            said = code();
        } catch (const std::exception& error) {
            said = error.what();
        }
        const bool told =
            write(channel[1], said.data(), said.size()) == static_cast<ssize_t>(said.size());
        _exit(told ? 0 : 1);
    }
    close(channel[1]);
    std::string said;
    std::array<char, 512> part{};
    for (;;) {
        const ssize_t got = read(channel[0], part.data(), part.size());
        if (got <= 0) {
            break;
        }
        said.append(part.data(), static_cast<std::size_t>(got));
    }
    close(channel[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
        said += std::string("child ended by ") + strsignal(WTERMSIG(status));
    }
    return said;
}

OnCpu::OnCpu(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        fail("sched_setaffinity to CPU " + std::to_string(cpu));
    }
}

OnCpu::~OnCpu() {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); ++cpu) {
        CPU_SET(static_cast<unsigned>(cpu), &set);
    }
    sched_setaffinity(0, sizeof(set), &set);
}

MemlockLimit::MemlockLimit(std::uint64_t bytes) {
    rlimit limit{};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    soft_ = limit.rlim_cur;
    hard_ = limit.rlim_max;
    limit.rlim_cur = bytes;
    if (limit.rlim_max < bytes) {
        limit.rlim_max = bytes;
    }
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        fail("setrlimit(RLIMIT_MEMLOCK)");
    }
}

MemlockLimit::~MemlockLimit() {
    const rlimit limit{soft_, hard_};
    setrlimit(RLIMIT_MEMLOCK, &limit);
}

unsigned patience() {
    const char* said = std::getenv("NLMMAP_PATIENCE");
    return said == nullptr ? 1U : std::max(1U, static_cast<unsigned>(std::atoi(said)));
}

bool eventually(const std::function<bool()>& true_now) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30) * patience();
    while (!true_now()) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

std::uint64_t free_pages() {
    // Those that a CPU keeps for itself are not counted: reading this has it give
    // some of them back.
    std::string nothing;
    std::getline(std::ifstream("/proc/sys/vm/stat_refresh"), nothing);
    std::ifstream file("/proc/vmstat");
    std::string name;
    std::uint64_t value = 0;
    while (file >> name >> value) {
        if (name == "nr_free_pages") {
            return value;
        }
    }
    throw std::runtime_error("no nr_free_pages in /proc/vmstat");
}

std::int64_t socket_drops(std::uint64_t inode) {
    std::ifstream file("/proc/thread-self/net/netlink");
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
        std::istringstream columns(line);
        std::string ignored;
        std::int64_t drops = 0;
        std::uint64_t listed = 0;
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        for (int i = 0; i < 8; ++i) {
            columns >> ignored;
        }
        if (columns >> drops >> listed && listed == inode) {
            return drops;
        }
    }
    return -1;
}

std::map<std::string, std::string> fdinfo(int fd) {
    std::map<std::string, std::string> values;
    std::ifstream file("/proc/thread-self/fdinfo/" + std::to_string(fd));
    std::string line;
    while (std::getline(file, line)) {
        const auto colon = line.find(':');
        if (colon == std::string::npos) {
            continue;
        }
        const auto begin = line.find_first_not_of(" \t", colon + 1);
        values[line.substr(0, colon)] = begin == std::string::npos ? "" : line.substr(begin);
    }
    return values;
}

KernelLog::KernelLog() : fd_(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (fd_ < 0 || lseek(fd_, 0, SEEK_END) < 0) {
        fail("reading /dev/kmsg");
    }
}

KernelLog::~KernelLog() { close(fd_); }

std::string KernelLog::line_with(const std::string& text) {
    std::array<char, 8192> line{};
    for (;;) {
        const ssize_t got = read(fd_, line.data(), line.size() - 1);
        if (got < 0 && errno == EPIPE) {
            continue;  // Overwritten meanwhile: goes on with the oldest that is left.
        }
        if (got <= 0) {
            return "";
        }
        const std::string said(line.data(), static_cast<std::size_t>(got));
        if (said.find(text) != std::string::npos) {
            return said;
        }
    }
}

}  // namespace guest
