// SPDX-License-Identifier: MIT
#include "examples/demo/syscall_counter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace demo {
namespace {

constexpr const char* kTracefs = "/sys/kernel/tracing";

std::system_error failure(const std::string& operation) {
    return std::system_error(errno, std::generic_category(), operation);
}

// In one write(): tracefs takes each write as one command.
void write_command(const std::string& path, std::string_view command) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd == -1) throw failure("open " + path);
    const ssize_t written = write(fd, command.data(), command.size());
    const int error = errno;
    close(fd);
    errno = error;
    if (written != static_cast<ssize_t>(command.size()))
        throw failure(fmt::format("write '{}' to {}", command, path));
}

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

SyscallCounter::SyscallCounter(const std::vector<pid_t>& tids)
    : instance_(fmt::format("{}/instances/nlmmap_demo", kTracefs)) {
    if (!exists(std::string(kTracefs) + "/events") &&
        mount("tracefs", kTracefs, "tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == -1)
        throw failure(fmt::format("mount tracefs on {}", kTracefs));
    // One that an earlier run left behind, because it was killed.
    rmdir(instance_.c_str());
    if (mkdir(instance_.c_str(), 0700) == -1) throw failure("mkdir " + instance_);

    std::string filter;
    for (const pid_t tid : tids)
        filter += fmt::format("{}common_pid=={}", filter.empty() ? "" : "||", tid);
    trigger_ = fmt::format("hist:keys=common_pid,id:size=512 if {}", filter);
    try {
        write_command(instance_ + "/events/raw_syscalls/sys_enter/trigger", trigger_);
    } catch (...) {
        trigger_.clear();
        remove();
        throw;
    }
}

SyscallCounter::~SyscallCounter() { remove(); }

void SyscallCounter::remove() noexcept {
    try {
        if (!trigger_.empty())
            write_command(instance_ + "/events/raw_syscalls/sys_enter/trigger", "!" + trigger_);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    if (rmdir(instance_.c_str()) == -1) std::perror(("rmdir " + instance_).c_str());
}

SyscallCounter::Result SyscallCounter::read() const {
    const std::string path = instance_ + "/events/raw_syscalls/sys_enter/hist";
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    Result result;
    unsigned long long dropped = 0;
    bool complete = false;
    for (std::string line; std::getline(file, line);) {
        // { common_pid:        123, id:          7 } hitcount:          1
        int tid = 0;
        long number = 0;
        unsigned long long hits = 0;
        if (std::sscanf(line.c_str(), "{ common_pid: %d, id: %ld } hitcount: %llu", &tid, &number,
                        &hits) == 3)
            result[tid][number] += hits;
        else if (std::sscanf(line.c_str(), " Dropped: %llu", &dropped) == 1)
            complete = true;
    }
    if (!complete) throw std::runtime_error(path + " has no totals: an unknown format");
    if (dropped != 0)
        throw std::runtime_error(fmt::format("{} dropped {} system calls", path, dropped));
    return result;
}

}  // namespace demo
