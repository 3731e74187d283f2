// SPDX-License-Identifier: MIT
#include "mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace nlmmap::detail {

namespace {

// In the order of the file: the consumer's page, the producer's page, the data twice.
std::size_t whole_bytes(std::size_t data_bytes) { return 2 * page_bytes() + 2 * data_bytes; }

}  // namespace

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

int Mapping::reserve(std::size_t data_bytes) noexcept {
    unmap();
    const std::size_t bytes = whole_bytes(data_bytes);
    void* const at =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return errno;
    // After mlockall(MCL_FUTURE) it counts as locked, and the ring that takes its place would be
    // counted besides it.
    ::munlock(at, bytes);
    // As the ring itself, which is no child's: nobody would unmap them there.
    ::madvise(at, bytes, MADV_DONTFORK);
    at_ = static_cast<std::byte*>(at);
    data_bytes_ = data_bytes;
    return 0;
}

int Mapping::map(int fd, std::size_t data_bytes) noexcept {
    if (at_ == nullptr || data_bytes_ != data_bytes) {
        if (const int errnum = reserve(data_bytes)) return errnum;
    }
    const std::size_t page = page_bytes();
    std::byte* const consumer = std::exchange(at_, nullptr);
    std::byte* const producer = consumer + page;
    const std::size_t producer_bytes = whole_bytes(data_bytes) - page;
    // One that fails may have taken the reservation away all the same: the place may be another
    // thread's by now, so it is not unmapped. At worst some addresses are never used again.
    if (::mmap(consumer, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        const int errnum = errno;
        ::munmap(producer, producer_bytes);
        return errnum;
    }
    if (::mmap(producer, producer_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
               static_cast<off_t>(page)) == MAP_FAILED) {
        const int errnum = errno;
        ::munmap(consumer, page);
        return errnum;
    }
    at_ = consumer;
    return 0;
}

Pages Mapping::pages() const noexcept {
    const std::size_t page = page_bytes();
    return {reinterpret_cast<nlmmap_consumer*>(at_),
            reinterpret_cast<const nlmmap_producer*>(at_ + page), at_ + 2 * page};
}

void Mapping::unmap() noexcept {
    if (at_ != nullptr) ::munmap(at_, whole_bytes(data_bytes_));
    at_ = nullptr;
}

void unmap_ring(const Pages& pages, std::size_t data_bytes) noexcept {
    ::munmap(pages.consumer, whole_bytes(data_bytes));
}

}  // namespace nlmmap::detail
