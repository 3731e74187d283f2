// SPDX-License-Identifier: MIT
// Rings under descriptors of the program's own, for the C interface. Internal to the library.
//
// A descriptor's ring is found by its number, without a lock. Who reads holds it by a count: the
// ring is unmapped by the last who lets go of it, so that closing in one thread while another
// receives is as harmless as it is for the kernel. An Attached is never freed but used again, so
// that a thread that comes too late counts up and down on memory that is still there.
//
// Several threads, and after fork() several processes, take records by comparing and swapping
// consumer.position: what was copied out meanwhile counts only for who won.
#pragma once

#include <nlmmap/linux/nlmmap.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <nlmmap/detail/ring.hpp>
#include <nlmmap/receiver.hpp>
#include <tuple>

namespace nlmmap::detail {

// What recvmsg() has to know of a socket, in one word. The first five are its options.
enum Option : std::uint32_t {
    kPassCredentials = 1U << 0,
    kPacketInfo = 1U << 1,
    kNoEnobufs = 1U << 2,
    kNeedsControl = 1U << 3,  // it has options that say MSG_CTRUNC where there is no control buffer
    kNoNsid = 1U << 4,  // NETLINK_LISTEN_ALL_NSID is not set; without it: only the kernel knows
    kAway = 1U << 5,    // the pages are to be mapped: this is a child after fork()
};

// Where one of these is set, a datagram comes with control messages.
inline constexpr std::uint32_t kControls = kPassCredentials | kPacketInfo | kNeedsControl;

struct Attached {
    // Constant from the registration on, but for the pages of a child after fork().
    Pages pages{};
    std::size_t data_bytes = 0;
    std::uint32_t header_bytes = 0;
    bool has_credentials = false;
    dev_t device = 0;
    ino_t inode = 0;

    std::atomic<std::uint32_t> options{0};
    std::atomic<int> pending_error{0};   // the next to receive fails with it
    std::atomic<std::uint64_t> told{0};  // 1 + position of the last record whose loss was told
    std::atomic<std::uint64_t> seq{0};   // of the last record taken
    std::uint64_t cursor = 0;            // of who reads in place: at or beyond consumer.position

    std::atomic<std::uint32_t> users{0};  // descriptors, and threads inside
    bool is_mapped = false;               // under the registry's lock
    bool is_registered = false;           // likewise: by any descriptor
    bool is_reserved = false;             // likewise: for one that is being attached
};

// Descriptors are below 2^30, whatever the limits say: a table of tables. Both are zero pages of
// the kernel until something is written there.
using Entry = std::atomic<Attached*>;
inline constexpr std::size_t kLeafBits = 12;
using Leaf = std::array<Entry, std::size_t{1} << kLeafBits>;
inline constexpr std::size_t kLeaves = std::size_t{1} << (30 - kLeafBits);
extern std::array<std::atomic<Leaf*>, kLeaves> leaves;

// The place of a number, or nullptr if nothing near it was ever registered.
inline Entry* find_entry(int fd) noexcept {
    const std::size_t number = static_cast<unsigned>(fd);
    if (number >> 30 != 0) [[unlikely]]
        return nullptr;
    Leaf* const leaf = leaves[number >> kLeafBits].load(std::memory_order_acquire);
    return leaf != nullptr ? &(*leaf)[number & (std::tuple_size_v<Leaf> - 1)] : nullptr;
}

// A descriptor's ring while it is used.
class Held {
  public:
    explicit Held(int fd) noexcept {
        Entry* const entry = find_entry(fd);
        if (entry == nullptr) return;
        for (;;) {
            Attached* const attached = entry->load(std::memory_order_acquire);
            if (attached == nullptr) return;
            // Pairs with the exchange in unregister(), all of them in one order: if the number is
            // still there now, who takes it away sees us among the users.
            attached->users.fetch_add(1);
            if (entry->load() == attached) [[likely]] {
                attached_ = attached;
                break;
            }
            if (attached->users.fetch_sub(1) == 1) let_go(attached);
        }
        // Pairs with the change of the options in revive(): the pages are known by then.
        if ((attached_->options.load(std::memory_order_acquire) & kAway) != 0) [[unlikely]]
            attached_ = revive(fd, attached_);
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() {
        if (attached_ != nullptr && attached_->users.fetch_sub(1) == 1) [[unlikely]]
            let_go(attached_);
    }

    [[nodiscard]] explicit operator bool() const noexcept { return attached_ != nullptr; }
    [[nodiscard]] Attached& operator*() const noexcept { return *attached_; }
    [[nodiscard]] Attached* operator->() const noexcept { return attached_; }

  private:
    static void let_go(Attached* attached) noexcept;
    // Maps what a child lacks. If that cannot be, the ring is let go of, and the answer nullptr.
    [[nodiscard]] static Attached* revive(int fd, Attached* attached) noexcept;

    Attached* attached_ = nullptr;
};

// These throw Error; the descriptor is registered afterwards.
void attach(int fd, const RingOptions& options);
void adopt(int fd);
// Another number of the same socket, after dup(); nothing if `from` has no ring.
void alias(int from, int to) noexcept;
// The number is closed, or is going to be.
void forget(int fd) noexcept;
// The same if it is another file by now, or none, which who receives found, or who closed it:
// another thread may have attached the number meanwhile. Changes errno.
void forget_stale(int fd) noexcept;
// False if there is nothing to forget, though another thread may attach right now. No lock.
[[nodiscard]] bool is_perhaps_registered(int fd) noexcept;
// The same for all numbers from the first to the last.
void forget_range(unsigned first, unsigned last) noexcept;
// Is it another file by now? Numbers may be closed without a word.
[[nodiscard]] bool is_stale(int fd, const Attached& attached) noexcept;
[[nodiscard]] bool is_attached(int fd) noexcept;
// Asks the kernel for the options again, or notes one that it does not tell.
void options_changed(int fd, int level, int option, const void* value, socklen_t bytes) noexcept;

// recvmsg() and the like of libc, not interposed.
struct Plain {
    ssize_t (*recvmsg)(int, msghdr*, int);
    ssize_t (*recvfrom)(int, void*, size_t, int, sockaddr*, socklen_t*);
    int (*recvmmsg)(int, mmsghdr*, unsigned, int, timespec*);
    int (*setsockopt)(int, int, int, const void*, socklen_t);
    int (*close)(int);
};
extern Plain plain;

}  // namespace nlmmap::detail
