// SPDX-License-Identifier: MIT
//
// io_uring without its library, as far as it writes a program's memory.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace hostile {

class Uring {
  public:
    // Throws std::system_error.
    Uring();
    Uring(const Uring&) = delete;
    Uring& operator=(const Uring&) = delete;
    ~Uring();

    // Each request that can answer into memory, into this memory, and what it
    // answered: a negative errno, or not. All write 64 bytes at most.
    std::vector<std::pair<std::string, int>> read_into(std::byte* at);
    // Reads into the buffer that was registered last.
    int read_fixed();

    // 0, or a negative errno.
    int register_buffer(std::byte* at, std::size_t bytes);
    int register_buffer_ring(std::byte* at);
    // An instance whose queues, and whose requests, lie in this memory.
    static int make_on(std::byte* queues, std::byte* requests);

  private:
    int run(const io_uring_sqe& request);

    io_uring_params params_{};
    int fd_ = -1;
    int file_ = -1;
    std::byte* rings_ = nullptr;
    std::size_t ring_bytes_ = 0;
    io_uring_sqe* requests_ = nullptr;
    std::byte* registered_ = nullptr;
};

}  // namespace hostile
