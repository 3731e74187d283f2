// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "examples/demo/event.h"

namespace demo {

// The kernel's own proc connector on a plain netlink socket: one recv() for each message.
class Connector {
  public:
    // @receive_buffer_bytes: the socket's buffer as the kernel counts it (with its own overhead),
    // set by SO_RCVBUFFORCE; 0: the system's default. Throws std::system_error.
    explicit Connector(std::size_t receive_buffer_bytes);
    ~Connector();
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;

    // How long receive() waits. Throws std::system_error.
    void set_timeout(std::chrono::milliseconds timeout);

    enum class Result { message, timed_out, overflowed, interrupted };

    // Waits for one message and adds it to @tally. Overflowed: ENOBUFS, something was lost and
    // nobody knows how much. Throws std::system_error.
    Result receive(Tally& tally);

    std::size_t receive_buffer_bytes() const noexcept { return receive_buffer_bytes_; }

  private:
    int fd_ = -1;
    std::size_t receive_buffer_bytes_ = 0;
};

}  // namespace demo
