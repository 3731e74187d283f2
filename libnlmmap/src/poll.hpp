// SPDX-License-Identifier: MIT
// poll() with a deadline. Internal to the library.
#pragma once

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <nlmmap/error.hpp>
#include <optional>

namespace nlmmap::detail {

// When to stop waiting; none: never. What is in the past does not wait.
class Deadline {
  public:
    explicit Deadline(std::optional<std::chrono::nanoseconds> timeout) : timeout_(timeout) {
        if (!timeout_) return;
        const auto now = Clock::now();
        // A timeout that no clock can tell is none.
        if (*timeout_ > Clock::time_point::max() - now)
            timeout_.reset();
        else
            at_ = now + *timeout_;
    }

    [[nodiscard]] std::optional<timespec> left() const {
        if (!timeout_) return std::nullopt;
        using std::chrono::nanoseconds;
        nanoseconds left{0};
        if (*timeout_ > left) left = std::max(left, nanoseconds(at_ - Clock::now()));
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        return timespec{.tv_sec = static_cast<std::time_t>(seconds.count()),
                        .tv_nsec = static_cast<long>((left - seconds).count())};
    }

  private:
    using Clock = std::chrono::steady_clock;

    std::optional<std::chrono::nanoseconds> timeout_;
    Clock::time_point at_;
};

struct Events {
    short bits = 0;  // 0: the time is over
    bool interrupted = false;
};

inline Events poll_once(int fd, short wanted, const Deadline& deadline) {
    pollfd watched{.fd = fd, .events = wanted, .revents = 0};
    const std::optional<timespec> left = deadline.left();
    if (::ppoll(&watched, 1, left ? &*left : nullptr, nullptr) >= 0)
        return {.bits = watched.revents, .interrupted = false};
    if (errno == EINTR) return {.bits = 0, .interrupted = true};
    throw Error(errno, "wait for the ring");
}

}  // namespace nlmmap::detail
