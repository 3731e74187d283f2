// SPDX-License-Identifier: MIT
//
// Every way in which a daemon's event loop may wait for a ring.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace guest {

enum class Way {
    poll,
    select,
    epoll_level,
    epoll_edge,       // EPOLLET, armed by poll() with no timeout before each sleep
    aio,              // IOCB_CMD_POLL
    uring,            // IORING_OP_POLL_ADD for each sleep
    uring_multishot,  // IORING_POLL_ADD_MULTI, armed as epoll_edge
};

std::vector<Way> all_ways();
std::string name_of(Way way);

// Waits on one descriptor. One thread at a time.
class Sleeper {
  public:
    Sleeper() = default;
    Sleeper(const Sleeper&) = delete;
    Sleeper& operator=(const Sleeper&) = delete;
    virtual ~Sleeper() = default;

    // Returns when the kernel says that the ring may be readable; false if it
    // says nothing in time.
    virtual bool sleep(std::chrono::milliseconds timeout) = 0;

    // Throws std::system_error if the kernel refuses this way.
    static std::unique_ptr<Sleeper> make(Way way, int fd);
};

// What poll() with no timeout finds: revents.
short poll_now(int fd, short events);

}  // namespace guest
