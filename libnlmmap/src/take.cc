// SPDX-License-Identifier: MIT
#include "take.hpp"

#include <cerrno>
#include <cstring>

namespace nlmmap::detail {

namespace {

// That a loss was told, by its record's position: true for the first who says so.
bool tell(Attached& attached, std::uint64_t position) noexcept {
    const std::uint64_t mark = position + 1;
    std::uint64_t told = attached.told.load();
    return told != mark && attached.told.compare_exchange_strong(told, mark);
}

}  // namespace

Closer look_closer(Attached& attached, std::uint64_t position,
                   const nlmmap_record& record) noexcept {
    const std::uint16_t flags = record.flags;
    const bool is_loss = (flags & (NLMMAP_RECORD_LOST | NLMMAP_RECORD_LOST_UNKNOWN)) != 0;
    const bool is_error = (flags & NLMMAP_RECORD_ERROR) != 0;
    const bool is_empty = stands_for_none(record);
    const std::uint32_t len = length_of(record);
    const std::uint64_t seq = record.seq;
    // Another reader may have taken it, and the kernel have written here, before that was read.
    if (!is_position(attached, position)) return {.then = Closer::Then::look_again, .errnum = 0};
    // Under NETLINK_NO_ENOBUFS netlink says nothing.
    const bool says_enobufs = is_loss && (flags & NLMMAP_RECORD_LOST_NEARBY) == 0 &&
                              (attached.options.load(std::memory_order_relaxed) & kNoEnobufs) == 0;

    if (!is_empty)
        return says_enobufs && tell(attached, position)
                   ? Closer{.then = Closer::Then::fail, .errnum = ENOBUFS}
                   : Closer{.then = Closer::Then::deliver, .errnum = 0};
    // One record may tell both a loss and an error.
    if (says_enobufs && is_error && tell(attached, position))
        return {.then = Closer::Then::fail, .errnum = ENOBUFS};
    std::int32_t error = 0;
    if (is_error && len == sizeof(error))
        std::memcpy(&error, reinterpret_cast<const std::byte*>(&record) + attached.header_bytes,
                    sizeof(error));
    // An error is told once, also to MSG_PEEK.
    if (!advance(attached, position, position + bytes_of(attached, len)))
        return {.then = Closer::Then::look_again, .errnum = 0};
    attached.seq.store(seq, std::memory_order_relaxed);
    if (!is_error && !says_enobufs) return {.then = Closer::Then::look_again, .errnum = 0};
    return {.then = Closer::Then::fail, .errnum = is_error ? error : ENOBUFS};
}

int wait(Attached& attached, int fd, int flags) {
    // A loss keeps the socket readable until the reader says that it knows, even if no record tells
    // it yet.
    const std::uint64_t lost = load_acquire(attached.pages.producer->lost);
    if (lost != load_acquire(attached.pages.consumer->lost_seen))
        store_release(attached.pages.consumer->lost_seen, lost);
    if (is_stale(fd, attached)) return kStale;
    // The kernel's own recvmsg() waits for the ring by a look that has room for nothing: as long as
    // the socket's options say, interrupted as it ever is. It also arms the ring, and goes on where
    // the kernel waits for room.
    if (plain.recvfrom(fd, nullptr, 0, MSG_PEEK | (flags & MSG_DONTWAIT), nullptr, nullptr) >= 0)
        return 0;
    const int errnum = errno;
    // What was on its way when the kernel looked at the ring, and had arrived when it looked for
    // what is on its way, is here by now.
    if (errnum == EAGAIN && load_acquire(attached.pages.consumer->position) !=
                                load_acquire(attached.pages.producer->position))
        return 0;
    return errnum;
}

}  // namespace nlmmap::detail
