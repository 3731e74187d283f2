// SPDX-License-Identifier: MIT
// The consumer's side of a mapped ring. Not part of the API: what is in nlmmap::detail may change
// with every release.
#pragma once

#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlmmap/export.hpp>
#include <optional>
#include <string_view>
#include <vector>

namespace nlmmap {

class Socket;

namespace detail {

// Words shared with the kernel are read and written through these two alone.
//
// std::atomic_ref<const T> comes with C++26 only. The const_cast is sound on memory that is mapped
// read-only, because on every 64-bit machine an atomic load of 8 aligned bytes is a load and
// nothing else (asserted below); nothing is ever stored through it.
inline std::uint64_t load_acquire(const __u64& word) noexcept {
    static_assert(std::atomic_ref<__u64>::is_always_lock_free);
    return std::atomic_ref<__u64>(const_cast<__u64&>(word)).load(std::memory_order_acquire);
}
inline void store_release(__u64& word, std::uint64_t value) noexcept {
    std::atomic_ref<__u64>(word).store(value, std::memory_order_release);
}

// What a ring lies on: a socket's mapping, or the loopback kernel's memory. Only set-up, waiting
// and membership come here, never the data path. The destructor unmaps.
class NLMMAP_EXPORT Backend {
  public:
    enum class Polled { readable, timed_out, interrupted };

    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend();

    [[nodiscard]] virtual int fd() const noexcept = 0;
    [[nodiscard]] virtual Polled poll(std::optional<std::chrono::nanoseconds> timeout) = 0;
    [[nodiscard]] virtual std::uint16_t join(std::string_view group) = 0;
    [[nodiscard]] virtual std::uint16_t leave(std::string_view group) = 0;
    [[nodiscard]] virtual Socket& socket() = 0;
};

// Where the pages of a ring are.
struct Pages {
    nlmmap_consumer* consumer;
    const nlmmap_producer* producer;
    const std::byte* data;  // mapped twice in a row
};

// A record's place, and up to where the next one may begin without a look at the ring. Both are
// passed by value between the inline loop and what is compiled in the library, so that the loop's
// state stays in registers.
struct Place {
    const std::byte* at;  // nullptr: no record is left
    const std::byte* limit;
};

// What look_at() found.
struct Looked {
    std::uint64_t lost_before;
    bool single;
};

class NLMMAP_EXPORT Ring {
  public:
    Ring(std::unique_ptr<Backend> backend, const Pages& pages);
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring();

    // Goes on where somebody else left off; `newest` as for seq_before(). Walks over what waits, so
    // that nothing but whole records is read afterwards. False: what begins there is no record.
    // Before the first batch.
    [[nodiscard]] bool resume(std::uint64_t newest) noexcept;

    // A batch begins: everything that is published now.
    [[nodiscard]] Place open() noexcept;
    // The batch is done with the record `at`, and the next one lies at or beyond the limit.
    [[nodiscard]] Place cross(const std::byte* at) noexcept;
    // The batch ends at the record `at` (nullptr: at its end), which was `reached` or is kept.
    void close(const std::byte* at, bool reached) noexcept;
    // A record that is not the common case.
    [[nodiscard]] Looked look_at(const nlmmap_record& record) noexcept;

    [[nodiscard]] bool is_open() const noexcept { return is_open_; }
    [[nodiscard]] std::uint32_t header_bytes() const noexcept { return header_bytes_; }
    [[nodiscard]] bool has_time() const noexcept { return (features_ & NLMMAP_FEATURE_TIME) != 0; }
    [[nodiscard]] bool has_credentials() const noexcept {
        return (features_ & NLMMAP_FEATURE_CREDENTIALS) != 0;
    }
    [[nodiscard]] std::size_t ring_bytes() const noexcept { return ring_bytes_; }
    [[nodiscard]] std::uint64_t lost() const noexcept {
        return load_acquire(pages_.producer->lost);
    }
    [[nodiscard]] std::size_t pending_bytes() const noexcept {
        return static_cast<std::size_t>(load_acquire(pages_.producer->position) - position_);
    }
    // Enough waits for somebody who set that watermark.
    [[nodiscard]] bool is_readable() const noexcept;
    void set_watermark(std::uint32_t bytes) noexcept;

    void joined(std::uint16_t group);
    void left(std::uint16_t group) noexcept;
    // The last group was deleted, and its notice was read.
    [[nodiscard]] bool is_deserted() const noexcept { return deserted_ && groups_.empty(); }

    [[nodiscard]] Backend& backend() const noexcept { return *backend_; }

  private:
    [[nodiscard]] Place place() noexcept;
    void advance_to(const std::byte* next) noexcept;
    [[nodiscard]] const std::byte* after(const std::byte* at) const noexcept;
    [[nodiscard]] std::uint64_t seq_before(const std::byte* at) noexcept;

    Pages pages_;
    std::size_t ring_bytes_;
    std::uint64_t features_;
    std::uint32_t header_bytes_;
    std::uint32_t watermark_ = 0;
    bool is_open_ = false;
    bool deserted_ = false;
    std::uint64_t position_ = 0;            // everything before it is given back
    std::uint64_t end_ = 0;                 // of the live batch
    std::uint64_t lost_seen_ = 0;           // what the kernel was told that the reader knows
    std::uint64_t seq_ = 0;                 // of the last record that was reached
    const std::byte* walked_to_ = nullptr;  // seq_before() begins here: position_, or later
    std::uint64_t walked_seq_ = 0;          // of the record before walked_to_
    std::uint64_t notice_seq_ = 0;          // of the last notice that was reached
    std::vector<std::uint16_t> groups_;     // one entry for each membership
    std::unique_ptr<Backend> backend_;      // last: its destructor unmaps the pages
};

}  // namespace detail
}  // namespace nlmmap
