// SPDX-License-Identifier: MIT
//
// A netlink socket that hears of lo's addresses, read by nlmmap.h's functions.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace drop_in {

// Attached; closed as nlmmap.h says.
class Listener {
  public:
    explicit Listener(std::size_t ring_bytes = 1 << 20, int rcvbuf_bytes = 0);
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener();

    [[nodiscard]] int fd() const { return fd_; }

    // Without a ring yet.
    static int opened(int rcvbuf_bytes);

  private:
    int fd_;
};

// The next address's number; -1 and errno if receiving failed.
std::int64_t next_address(int fd, int flags = MSG_DONTWAIT);

// Expects exactly these, and nothing after them.
void expect_addresses(int fd, std::uint32_t first, std::uint32_t count);

// So many on a stock kernel, a tenth of them where everything takes long.
std::uint32_t fewer(std::uint32_t count);

}  // namespace drop_in
