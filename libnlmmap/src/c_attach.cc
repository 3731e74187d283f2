// SPDX-License-Identifier: MIT
// Attaching and reading in place for C.
#include <nlmmap/nlmmap.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <nlmmap/error.hpp>

#include "attached.hpp"
#include "c_error.hpp"
#include "take.hpp"

namespace nlmmap::detail {

namespace {

// No std::string: it has to be there when a thread ends.
thread_local char last_error[512];

void keep(const char* text) noexcept { std::strncpy(last_error, text, sizeof(last_error) - 1); }

}  // namespace

int tried(const std::function<void()>& action) {
    keep("");
    try {
        action();
        return 0;
    } catch (const Error& error) {
        keep(error.what());
        return error.code().value();
    } catch (const std::bad_alloc&) {
        keep("no memory");
        return ENOMEM;
    }
}

}  // namespace nlmmap::detail

namespace {

using nlmmap::detail::Attached;
using nlmmap::detail::Held;
using nlmmap::detail::load_acquire;
using nlmmap::detail::plain;

int answer(int errnum) noexcept {
    if (errnum == 0) return 0;
    errno = errnum;
    return -1;
}

// How many were lost before the record, and of what kind.
void fill_losses(const Attached& attached, const nlmmap_record& record,
                 nlmmap_datagram& datagram) noexcept {
    const std::uint16_t flags = record.flags;
    if ((flags & NLMMAP_RECORD_LOST) != 0)
        datagram.lost_before = record.seq - attached.seq.load(std::memory_order_relaxed) - 1;
    if ((flags & NLMMAP_RECORD_LOST_UNKNOWN) != 0) datagram.flags |= NLMMAP_DATAGRAM_LOST_UNKNOWN;
    if ((flags & NLMMAP_RECORD_LOST_NEARBY) != 0) datagram.flags |= NLMMAP_DATAGRAM_LOST_NEARBY;
    if ((flags & NLMMAP_RECORD_ERROR) != 0) {
        std::int32_t error = 0;
        if (datagram.bytes == sizeof(error)) std::memcpy(&error, datagram.data, sizeof(error));
        datagram.error = error;
    }
    if (nlmmap::detail::stands_for_none(record)) {
        datagram.flags |= NLMMAP_DATAGRAM_NONE;
        datagram.bytes = 0;
    }
}

}  // namespace

int nlmmap_attach(int netlink_fd, size_t ring_bytes) {
    return answer(nlmmap::detail::tried([&] {
        nlmmap::detail::attach(netlink_fd, {.ring_bytes = ring_bytes, .credentials = true});
    }));
}

int nlmmap_adopt(int netlink_fd) {
    return answer(nlmmap::detail::tried([&] { nlmmap::detail::adopt(netlink_fd); }));
}

int nlmmap_is_attached(int fd) { return nlmmap::detail::is_attached(fd) ? 1 : 0; }

const char* nlmmap_error(void) { return nlmmap::detail::last_error; }

int nlmmap_setsockopt(int fd, int level, int option, const void* value, socklen_t bytes) {
    const int result = plain.setsockopt(fd, level, option, value, bytes);
    if (result == 0) nlmmap::detail::options_changed(fd, level, option, value, bytes);
    return result;
}

int nlmmap_close(int fd) {
    nlmmap::detail::forget(fd);
    const int result = plain.close(fd);
    const int errnum = errno;
    // Another thread may have attached it between the two.
    nlmmap::detail::forget_stale(fd);
    errno = errnum;
    return result;
}

int nlmmap_next(int fd, nlmmap_datagram* datagram) {
    const Held held(fd);
    if (!held) return answer(ENODEV);
    Attached& attached = *held;
    // Who took records since by recvmsg() left the cursor behind.
    const std::uint64_t given_back = load_acquire(attached.pages.consumer->position);
    if (attached.cursor < given_back) attached.cursor = given_back;
    // Pairs with the store-release of producer.position in nlmmap_ring_finish().
    const std::uint64_t published = load_acquire(attached.pages.producer->position);
    if (attached.cursor == published) {
        // So that the loss alone does not keep the socket readable.
        const std::uint64_t lost = load_acquire(attached.pages.producer->lost);
        if (lost != load_acquire(attached.pages.consumer->lost_seen))
            nlmmap::detail::store_release(attached.pages.consumer->lost_seen, lost);
        return 0;
    }
    const std::byte* const at = attached.pages.data + (attached.cursor & (attached.data_bytes - 1));
    const auto& record = *reinterpret_cast<const nlmmap_record*>(at);
    const std::uint32_t len = nlmmap::detail::length_of(record);
    const std::uint64_t waiting = published - attached.cursor;
    // The position may be what a neighbour wrote there, also one that the kernel has not reached.
    if (waiting > attached.data_bytes || len > attached.data_bytes / 2 ||
        nlmmap::detail::bytes_of(attached, len) > waiting)
        return answer(EIO);
    const std::byte* const data = at + attached.header_bytes;
    *datagram = {};
    datagram->data = data;
    datagram->bytes = len;
    datagram->seq = record.seq;
    datagram->portid = record.portid;
    datagram->group = record.group;
    datagram->nsid = record.nsid;
    datagram->credentials = nlmmap::detail::credentials_of(attached, record.portid, data);
    if ((record.flags & ~NLMMAP_RECORD_SINGLE) != 0) fill_losses(attached, record, *datagram);
    attached.seq.store(record.seq, std::memory_order_relaxed);
    attached.cursor += nlmmap::detail::bytes_of(attached, len);
    return 1;
}

void nlmmap_release(int fd) {
    const Held held(fd);
    if (!held) return;
    const std::uint64_t given_back = load_acquire(held->pages.consumer->position);
    // Pairs with the load-acquire of consumer.position in nlmmap_ring_accept().
    if (held->cursor > given_back)
        nlmmap::detail::store_release(held->pages.consumer->position, held->cursor);
}
