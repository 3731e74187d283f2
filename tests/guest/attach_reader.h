// SPDX-License-Identifier: MIT
//
// Every way in which a daemon may read an attached socket.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/guest/rtnl.h"

namespace guest {

enum class Reading {
    mapped,      // in place, asleep in poll()
    epoll_edge,  // in place, asleep in epoll_wait() with EPOLLET, armed before
    recvmsg,     // copied, by the library's recvmsg(), asleep in poll()
};

std::vector<Reading> all_readings();
std::string name_of(Reading reading);

// What a reader gets: a datagram, or that something was lost.
struct Arrival {
    std::span<const std::byte> datagram;  // until the next call; none: something was lost
    std::uint64_t lost = 0;               // how many right before it; by recvmsg: up to now
    bool lost_unknown = false;
};

// Reads one attached socket; one thread at a time.
class Reader {
  public:
    Reader() = default;
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    virtual ~Reader() = default;

    // The next arrival, waited for as long as it takes; nothing if none came in time.
    virtual std::optional<Arrival> next(std::chrono::milliseconds timeout) = 0;

    // The socket has to live longer.
    static std::unique_ptr<Reader> make(Reading reading, RawAttached& attached);
};

// Does what a reader has to do that found the ring empty: gives everything back,
// and starts messages that wait for room.
void find_empty(RawAttached& attached);

}  // namespace guest
