// SPDX-License-Identifier: MIT
#include "tools/nlmmap/stop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace nlmmap::tool {
namespace {

volatile std::sig_atomic_t stop_flag = 0;
volatile std::sig_atomic_t stop_fd = -1;

void on_signal(int) {
    const int saved = errno;
    stop_flag = 1;
    const std::uint64_t one = 1;
    // It can only fail if the counter is full, and then the descriptor is readable anyway.
    [[maybe_unused]] const ssize_t written = ::write(stop_fd, &one, sizeof(one));
    errno = saved;
}

}  // namespace

StopSignal::StopSignal() {
    const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    stop_fd = fd;
    struct sigaction action = {};
    action.sa_handler = on_signal;
    // No SA_RESTART: a write to a pipe that nobody empties must come back.
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

StopSignal::~StopSignal() {
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTERM, SIG_DFL);
    ::close(stop_fd);
    stop_fd = -1;
}

int StopSignal::fd() const noexcept { return stop_fd; }

const volatile std::sig_atomic_t* StopSignal::flag() noexcept { return &stop_flag; }

}  // namespace nlmmap::tool
