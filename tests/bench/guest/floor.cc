// SPDX-License-Identifier: MIT
// The floor: what any ring in memory must spend, with a trusted reader, no lock and no system call.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "tests/bench/guest/measurement.h"
#include "tests/bench/guest/transport.h"

namespace nlmmap_bench {
namespace {

[[noreturn]] void throw_errno(const char* operation) {
    throw std::system_error(errno, std::generic_category(), operation);
}

// Memory mapped twice in a row, as the ring's data pages are.
class MirroredMemory {
  public:
    explicit MirroredMemory(std::size_t bytes) : bytes_(bytes) {
        void* const room = mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED) throw_errno("mmap");
        data_ = static_cast<std::byte*>(room);
        const int fd = memfd_create("floor", MFD_CLOEXEC);
        const bool mapped = fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                            map(fd, data_) && map(fd, data_ + bytes);
        const int error = errno;
        if (fd >= 0) close(fd);
        if (!mapped) {
            munmap(data_, 2 * bytes_);
            throw std::system_error(error, std::generic_category(), "mapping memory twice");
        }
        std::memset(data_, 0, 2 * bytes);  // no page fault in the timed part
    }
    ~MirroredMemory() { munmap(data_, 2 * bytes_); }
    MirroredMemory(const MirroredMemory&) = delete;
    MirroredMemory& operator=(const MirroredMemory&) = delete;

    std::byte* at(std::uint64_t position) const noexcept {
        return data_ + (position & (bytes_ - 1));
    }
    std::size_t bytes() const noexcept { return bytes_; }

  private:
    bool map(int fd, std::byte* where) const {
        return mmap(where, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
               MAP_FAILED;
    }

    std::byte* data_;
    std::size_t bytes_;
};

class Floor final : public Transport {
  public:
    Cost round(const Load& load) override {
        fill_datagram(load, 0, datagram_.data());
        Cost cost;
        cost.produce = measure([&] { produce(load); });
        std::uint64_t touched = 0;
        cost.consume = measure([&] { touched = consume(); });
        check_touched(load, touched);
        for (std::uint32_t i = 0; i < load.batch; ++i)
            check_datagram(load, i, {out_.data() + i * kStride, load.datagram_bytes});
        return cost;
    }

  private:
    static constexpr std::size_t kStride = NLMMAP_BENCH_DATAGRAM_MAX;

    // The same two stores into a finished datagram as in the kernel module, room, length, copy.
    [[gnu::noinline]] void produce(const Load& load) {
        std::uint64_t position = produced_.load(std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < load.batch; ++i) {
            const auto type = static_cast<std::uint16_t>(NLMMAP_BENCH_TYPE + i);
            const std::uint64_t word = load.seed + (std::uint64_t{i} << NLMMAP_BENCH_INDEX_SHIFT);
            std::memcpy(datagram_.data() + offsetof(nlmsghdr, nlmsg_type), &type, sizeof(type));
            std::memcpy(datagram_.data() + sizeof(nlmsghdr), &word, sizeof(word));

            // Of a size that the compiler does not know.
            const std::uint64_t length = load.datagram_bytes;
            const std::uint64_t end = position + sizeof(length) + length;
            if (end - consumed_.load(std::memory_order_acquire) > memory_.bytes()) return;
            std::byte* const record = memory_.at(position);
            std::memcpy(record, &length, sizeof(length));
            std::memcpy(record + sizeof(length), datagram_.data(), length);
            position = end;
            produced_.store(position, std::memory_order_release);
        }
    }

    [[gnu::noinline]] std::uint64_t consume() {
        std::uint64_t position = consumed_.load(std::memory_order_relaxed);
        const std::uint64_t end = produced_.load(std::memory_order_acquire);
        std::byte* out = out_.data();
        std::uint64_t touched = 0;
        while (position != end) {
            const std::byte* const record = memory_.at(position);
            std::uint64_t length;
            std::memcpy(&length, record, sizeof(length));
            std::memcpy(out, record + sizeof(length), length);
            touched += touch(*reinterpret_cast<const nlmsghdr*>(out));
            out += kStride;
            position += sizeof(length) + length;
        }
        consumed_.store(position, std::memory_order_release);
        return touched;
    }

    MirroredMemory memory_{2 << 20};
    std::atomic<std::uint64_t> produced_{0};
    std::atomic<std::uint64_t> consumed_{0};
    // Room for the first word of a body even where the datagram has none.
    alignas(nlmsghdr) std::array<std::byte, NLMMAP_BENCH_DATAGRAM_MAX> datagram_{};
    std::vector<std::byte> out_ = std::vector<std::byte>(NLMMAP_BENCH_BATCH_MAX * kStride);
};

}  // namespace

std::unique_ptr<Transport> make_floor() { return std::make_unique<Floor>(); }

}  // namespace nlmmap_bench
