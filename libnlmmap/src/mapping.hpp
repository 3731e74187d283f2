// SPDX-License-Identifier: MIT
// Where a ring is mapped. Internal to the library.
#pragma once

#include <cstddef>
#include <nlmmap/detail/ring.hpp>
#include <utility>

namespace nlmmap::detail {

[[nodiscard]] std::size_t page_bytes();

// The addresses can be taken first, and the ring be put there later: whoever has another socket
// changed for good by a request wants no limit of this process to stand against it afterwards.
// The destructor unmaps. Functions that may fail return an errno, or 0.
class Mapping {
  public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept
        : at_(std::exchange(other.at_, nullptr)), data_bytes_(other.data_bytes_) {}
    Mapping& operator=(Mapping&&) = delete;
    ~Mapping() { unmap(); }

    // Takes the addresses for a ring of that size. ENOMEM: RLIMIT_AS, or there is no memory;
    // EAGAIN: RLIMIT_MEMLOCK, after mlockall().
    [[nodiscard]] int reserve(std::size_t data_bytes) noexcept;

    // Maps the ring there, or, if no addresses of that size were taken, somewhere. What can fail
    // if they were: the kernel has no memory for page tables, the process has as many mappings as
    // it may (ENOMEM), or a security module forbids it (EACCES, EPERM). Nothing is taken then.
    [[nodiscard]] int map(int fd, std::size_t data_bytes) noexcept;

    [[nodiscard]] Pages pages() const noexcept;
    [[nodiscard]] std::size_t data_bytes() const noexcept { return data_bytes_; }

    // Whose the mapping is from now on has to call unmap_ring().
    void release() noexcept { at_ = nullptr; }

  private:
    void unmap() noexcept;

    std::byte* at_ = nullptr;
    std::size_t data_bytes_ = 0;
};

void unmap_ring(const Pages& pages, std::size_t data_bytes) noexcept;

}  // namespace nlmmap::detail
