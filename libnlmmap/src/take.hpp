// SPDX-License-Identifier: MIT
// Taking a record out of an attached ring, as recvmsg() takes a datagram off a queue. Internal to
// the library.
#pragma once

#include <linux/netlink.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attached.hpp"

namespace nlmmap::detail {

// What a record's header says, for use after the record was given back.
struct Origin {
    std::uint32_t options;  // the socket's when the record was taken
    std::uint32_t portid;
    std::uint32_t group;
    std::int32_t nsid;
    nlmmap_credentials credentials;  // if the options say so
};

inline sockaddr_nl address_of(const Origin& origin) noexcept {
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_pid = origin.portid;
    // What fits in 32 bits, as the kernel says it.
    if (origin.group - 1 < 32) address.nl_groups = 1U << (origin.group - 1);
    return address;
}

// The record tells a loss or an error, and no datagram.
inline bool stands_for_none(const nlmmap_record& record) noexcept {
    return (record.flags & NLMMAP_RECORD_NO_DATAGRAM) != 0;
}

// In place of an errno: the descriptor is another file by now, so its ring is none of its business.
inline constexpr int kStale = -1;

// Waits for records as the socket's options and the flags of recvmsg() say. 0: look at the ring
// again; or the errno to fail with, or kStale.
[[nodiscard]] int wait(Attached& attached, int fd, int flags);

// A record that is no common case: what is to be done with it.
struct Closer {
    enum class Then { deliver, look_again, fail } then;
    int errnum;
};
[[nodiscard]] Closer look_closer(Attached& attached, std::uint64_t position,
                                 const nlmmap_record& record) noexcept;

inline bool advance(Attached& attached, std::uint64_t from, std::uint64_t to) noexcept {
    __u64 expected = from;
    // Pairs with the load-acquire of consumer.position in nlmmap_ring_accept(): what lies before it
    // has been copied, and may be overwritten. Also the proof that nobody else took the record, and
    // that the kernel did not overwrite it while it was copied.
    return std::atomic_ref<__u64>(attached.pages.consumer->position)
        .compare_exchange_strong(expected, to, std::memory_order_acq_rel,
                                 std::memory_order_acquire);
}

// Is it the position still? Then what was read of its record was the record. By an exchange with
// itself, which nothing that was read before can be moved behind.
inline bool is_position(Attached& attached, std::uint64_t position) noexcept {
    return advance(attached, position, position);
}

// Read once: what was tested is what is used, though another holder of the descriptor may have
// given the record back, and the kernel be writing there.
inline std::uint32_t length_of(const nlmmap_record& record) noexcept {
    return std::atomic_ref<__u32>(const_cast<__u32&>(record.len)).load(std::memory_order_relaxed);
}

inline std::uint64_t bytes_of(const Attached& attached, std::uint32_t len) noexcept {
    return (std::uint64_t{attached.header_bytes} + len + 7) & ~std::uint64_t{7};
}

// Who sent it. A ring that another program attached may not tell: then only the kernel is known by
// its port, and anybody else is nobody in particular, never root.
inline nlmmap_credentials credentials_of(const Attached& attached, std::uint32_t portid,
                                         const std::byte* datagram) noexcept {
    constexpr std::uint32_t kNobody = 65534;  // as the kernel calls users that it cannot tell
    nlmmap_credentials credentials{};
    if (attached.has_credentials)
        std::memcpy(&credentials, datagram - sizeof(credentials), sizeof(credentials));
    else if (portid != 0)
        credentials.uid = credentials.gid = kNobody;
    return credentials;
}

// Takes the next record, or with MSG_PEEK looks at it. `copy` is called with the datagram and its
// length, perhaps more than once: the last time counts; false from it is ENOMEM. Returns 0, or the
// errno to fail with, or kStale.
template <typename Copy>
inline int take(Attached& attached, int fd, int flags, Origin& origin, Copy&& copy) {
    if (attached.pending_error.load(std::memory_order_relaxed) != 0) [[unlikely]] {
        if (const int errnum = attached.pending_error.exchange(0)) return errnum;
    }
    for (;;) {
        // Pairs with the store-release of producer.position in nlmmap_ring_finish(): what was
        // published before it may be read.
        const std::uint64_t position = load_acquire(attached.pages.consumer->position);
        if (position == load_acquire(attached.pages.producer->position)) [[unlikely]] {
            if (const int errnum = wait(attached, fd, flags)) return errnum;
            continue;
        }
        const std::byte* const at = attached.pages.data + (position & (attached.data_bytes - 1));
        const auto& record = *reinterpret_cast<const nlmmap_record*>(at);
        const std::uint32_t len = length_of(record);
        if (len > attached.data_bytes / 2) [[unlikely]] {
            // Another reader took it meanwhile, and the kernel is writing here already; or somebody
            // who maps the page wrote there what is no position.
            if (is_position(attached, position)) return EIO;
            continue;
        }
        if ((record.flags & ~NLMMAP_RECORD_SINGLE) != 0) [[unlikely]] {
            const Closer closer = look_closer(attached, position, record);
            if (closer.then == Closer::Then::fail) return closer.errnum;
            if (closer.then == Closer::Then::look_again) continue;
        }
        const std::uint64_t seq = record.seq;
        const std::byte* const datagram = at + attached.header_bytes;
        origin.portid = record.portid;
        origin.group = record.group;
        origin.nsid = record.nsid;
        origin.options = attached.options.load(std::memory_order_relaxed);
        if ((origin.options & kPassCredentials) != 0) [[unlikely]]
            origin.credentials = credentials_of(attached, record.portid, datagram);
        if (!copy(datagram, std::size_t{len})) return ENOMEM;
        if ((flags & MSG_PEEK) != 0) {
            if (is_position(attached, position)) return 0;
        } else if (advance(attached, position, position + bytes_of(attached, len))) [[likely]] {
            attached.seq.store(seq, std::memory_order_relaxed);
            return 0;
        }
    }
}

}  // namespace nlmmap::detail
