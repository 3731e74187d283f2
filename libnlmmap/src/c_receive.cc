// SPDX-License-Identifier: MIT
// recvmsg() and its kin for C: what the kernel does with a netlink socket's datagram, from a ring.
#include <linux/netlink.h>
#include <nlmmap/nlmmap.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <limits>
#include <span>

#include "attached.hpp"
#include "take.hpp"

namespace {

using nlmmap::detail::Attached;
using nlmmap::detail::Held;
using nlmmap::detail::Origin;
using nlmmap::detail::plain;

// What the kernel refuses from user space: the callers of its own 32-bit entry alone say so.
constexpr int kCmsgCompat = INT_MIN;

ssize_t fail(int errnum) noexcept {
    errno = errnum;
    return -1;
}

// The errno of arguments that recvmsg() refuses before it looks at the socket, and the room for
// the datagram.
int check(const msghdr& message, std::size_t& room) noexcept {
    if (message.msg_name != nullptr && static_cast<int>(message.msg_namelen) < 0) return EINVAL;
    if (message.msg_iovlen > UIO_MAXIOV) return EMSGSIZE;
    room = 0;
    for (const iovec& part : std::span(message.msg_iov, message.msg_iovlen)) {
        if (part.iov_len > SSIZE_MAX) return EINVAL;
        // More than a datagram can have: what lies beyond is not used.
        room = std::min<std::size_t>(room + part.iov_len, INT_MAX);
    }
    return 0;
}

void scatter(const msghdr& message, const std::byte* from, std::size_t bytes) noexcept {
    for (const iovec* part = message.msg_iov; bytes != 0; ++part) {
        const std::size_t here = std::min(bytes, part->iov_len);
        if (here != 0) std::memcpy(part->iov_base, from, here);
        from += here;
        bytes -= here;
    }
}

// Fills the control buffer as the kernel's put_cmsg() does: what does not fit is cut short.
class Control {
  public:
    explicit Control(const msghdr& message) noexcept
        : begin_(static_cast<std::byte*>(message.msg_control)),
          at_(begin_),
          left_(message.msg_controllen) {}

    void put(int level, int type, const void* data, std::size_t bytes) noexcept {
        if (at_ == nullptr || left_ < sizeof(cmsghdr)) {
            truncated_ = true;
            return;
        }
        std::size_t length = CMSG_LEN(bytes);
        if (left_ < length) {
            truncated_ = true;
            length = left_;
        }
        const cmsghdr header{.cmsg_len = length, .cmsg_level = level, .cmsg_type = type};
        std::memcpy(at_, &header, sizeof(header));
        std::memcpy(at_ + sizeof(header), data, length - sizeof(header));
        const std::size_t taken = std::min<std::size_t>(CMSG_SPACE(bytes), left_);
        at_ += taken;
        left_ -= taken;
    }

    [[nodiscard]] bool is_there() const noexcept { return begin_ != nullptr; }
    [[nodiscard]] std::size_t bytes() const noexcept {
        return static_cast<std::size_t>(at_ - begin_);
    }
    [[nodiscard]] bool truncated() const noexcept { return truncated_; }

  private:
    std::byte* begin_;
    std::byte* at_;
    std::size_t left_;
    bool truncated_ = false;
};

// In the order of the kernel's. Returns MSG_CTRUNC or 0.
int put_control(const Origin& origin, msghdr& message) noexcept {
    const std::uint32_t options = origin.options;
    namespace option = nlmmap::detail;
    Control control(message);
    if ((options & option::kPacketInfo) != 0) {
        const nl_pktinfo info{.group = origin.group};
        control.put(SOL_NETLINK, NETLINK_PKTINFO, &info, sizeof(info));
    }
    if (origin.nsid != -1 && (options & option::kNoNsid) == 0) {
        const int nsid = origin.nsid;
        control.put(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &nsid, sizeof(nsid));
    }
    int flags = 0;
    if (!control.is_there()) {
        if ((options & option::kNeedsControl) != 0) flags |= MSG_CTRUNC;
    } else if ((options & option::kPassCredentials) != 0) {
        const nlmmap_credentials& from = origin.credentials;
        const ucred credentials{
            .pid = static_cast<pid_t>(from.pid), .uid = from.uid, .gid = from.gid};
        control.put(SOL_SOCKET, SCM_CREDENTIALS, &credentials, sizeof(credentials));
    }
    message.msg_controllen = control.bytes();
    return control.truncated() ? flags | MSG_CTRUNC : flags;
}

// As much as there is room for; the length that there is.
inline void put_address(const Origin& origin, void* name, socklen_t& name_bytes) noexcept {
    const sockaddr_nl address = nlmmap::detail::address_of(origin);
    // Two copies, because one of a constant size is two instructions.
    if (name_bytes >= sizeof(address)) [[likely]]
        std::memcpy(name, &address, sizeof(address));
    else
        std::memcpy(name, &address, name_bytes);
    name_bytes = sizeof(address);
}

// What almost every call is: no flag but MSG_DONTWAIT, one iovec, no control messages, and a whole
// message that fits waits. The same as receive() in half of its instructions; false: nothing was
// done, receive() has to.
[[gnu::always_inline]] inline bool receive_at_once(Attached& attached, msghdr& message, int flags,
                                                   ssize_t& received) {
    if ((flags & ~MSG_DONTWAIT) != 0 || message.msg_iovlen != 1 ||
        attached.pending_error.load(std::memory_order_relaxed) != 0)
        return false;
    const std::uint64_t position = nlmmap::detail::load_acquire(attached.pages.consumer->position);
    if (position == nlmmap::detail::load_acquire(attached.pages.producer->position)) return false;
    const std::byte* const at = attached.pages.data + (position & (attached.data_bytes - 1));
    const auto& record = *reinterpret_cast<const nlmmap_record*>(at);
    const std::uint32_t len = nlmmap::detail::length_of(record);
    const Origin origin{.options = attached.options.load(std::memory_order_relaxed),
                        .portid = record.portid,
                        .group = record.group,
                        .nsid = record.nsid,
                        .credentials = {}};
    const std::uint64_t seq = record.seq;
    const iovec& part = *message.msg_iov;
    if (record.flags != NLMMAP_RECORD_SINGLE || part.iov_len < len || part.iov_len > SSIZE_MAX ||
        len > attached.data_bytes / 2 || (origin.options & nlmmap::detail::kControls) != 0 ||
        origin.nsid != -1 ||
        (message.msg_name != nullptr && static_cast<int>(message.msg_namelen) < 0))
        return false;
    std::memcpy(part.iov_base, at + attached.header_bytes, len);
    if (!nlmmap::detail::advance(attached, position,
                                 position + nlmmap::detail::bytes_of(attached, len)))
        return false;
    attached.seq.store(seq, std::memory_order_relaxed);
    if (message.msg_name != nullptr) put_address(origin, message.msg_name, message.msg_namelen);
    message.msg_controllen = 0;
    message.msg_flags = 0;
    received = len;
    return true;
}

// -1 and errno, or bytes, or kStaleResult.
constexpr ssize_t kStaleResult = -2;

ssize_t receive(Attached& attached, int fd, msghdr& message, int flags) {
    std::size_t room = 0;
    if (const int errnum = check(message, room)) return fail(errnum);
    if ((flags & MSG_OOB) != 0) return fail(EOPNOTSUPP);

    Origin origin{};
    std::size_t bytes = 0;
    const int errnum = nlmmap::detail::take(attached, fd, flags, origin,
                                            [&](const std::byte* datagram, std::size_t length) {
                                                bytes = length;
                                                const std::size_t copied = std::min(length, room);
                                                scatter(message, datagram, copied);
                                                return true;
                                            });
    if (errnum != 0) [[unlikely]]
        return errnum == nlmmap::detail::kStale ? kStaleResult : fail(errnum);

    if (message.msg_name != nullptr) put_address(origin, message.msg_name, message.msg_namelen);
    int told = flags & MSG_CMSG_CLOEXEC;
    if ((origin.options & nlmmap::detail::kControls) == 0 && origin.nsid == -1) [[likely]]
        message.msg_controllen = 0;
    else
        told |= put_control(origin, message);
    if (bytes > room) told |= MSG_TRUNC;
    message.msg_flags = told;
    return static_cast<ssize_t>((flags & MSG_TRUNC) != 0 ? bytes : std::min(bytes, room));
}

constexpr long kSecond = 1'000'000'000;

timespec now() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return time;
}

timespec sum(const timespec& a, const timespec& b) noexcept {
    timespec total{.tv_sec = 0, .tv_nsec = a.tv_nsec + b.tv_nsec};
    const long carry = total.tv_nsec / kSecond;
    total.tv_nsec %= kSecond;
    if (__builtin_add_overflow(a.tv_sec, b.tv_sec, &total.tv_sec) ||
        __builtin_add_overflow(total.tv_sec, carry, &total.tv_sec))
        total.tv_sec = std::numeric_limits<std::time_t>::max();
    return total;
}

// Not less than nothing.
timespec difference(const timespec& later, const timespec& earlier) noexcept {
    timespec left{.tv_sec = later.tv_sec - earlier.tv_sec,
                  .tv_nsec = later.tv_nsec - earlier.tv_nsec};
    if (left.tv_nsec < 0) {
        left.tv_nsec += kSecond;
        --left.tv_sec;
    }
    return left.tv_sec < 0 ? timespec{} : left;
}

}  // namespace

ssize_t nlmmap_recvmsg(int fd, msghdr* msg, int flags) {
    for (;; nlmmap::detail::forget_stale(fd)) {
        const Held held(fd);
        if (!held) [[unlikely]]
            return plain.recvmsg(fd, msg, flags);
        ssize_t received = 0;
        if (receive_at_once(*held, *msg, flags, received)) [[likely]]
            return received;
        if ((flags & kCmsgCompat) != 0) return fail(EINVAL);
        received = receive(*held, fd, *msg, flags);
        if (received != kStaleResult) [[likely]]
            return received;
    }
}

ssize_t nlmmap_recvfrom(int fd, void* buffer, size_t bytes, int flags, sockaddr* address,
                        socklen_t* address_bytes) {
    for (;; nlmmap::detail::forget_stale(fd)) {
        const Held held(fd);
        if (!held) [[unlikely]]
            return plain.recvfrom(fd, buffer, bytes, flags, address, address_bytes);
        iovec part{.iov_base = buffer, .iov_len = std::min<std::size_t>(bytes, INT_MAX)};
        sockaddr_nl whole{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (address != nullptr) {
            message.msg_name = &whole;
            message.msg_namelen = sizeof(whole);
        }
        ssize_t received = 0;
        if (!receive_at_once(*held, message, flags, received))
            received = receive(*held, fd, message, flags);
        if (received == kStaleResult) continue;
        if (received < 0 || address == nullptr) return received;
        // The datagram is gone by then, as it is in the kernel.
        if (static_cast<int>(*address_bytes) < 0) return fail(EINVAL);
        std::memcpy(address, &whole, std::min<std::size_t>(*address_bytes, sizeof(whole)));
        *address_bytes = sizeof(whole);
        return received;
    }
}

ssize_t nlmmap_recv(int fd, void* buffer, size_t bytes, int flags) {
    return nlmmap_recvfrom(fd, buffer, bytes, flags, nullptr, nullptr);
}

int nlmmap_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
    const Held held(fd);
    if (!held) [[unlikely]]
        return plain.recvmmsg(fd, messages, count, flags, timeout);
    timespec end{};
    if (timeout != nullptr) {
        if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= kSecond)
            return static_cast<int>(fail(EINVAL));
        end = sum(now(), *timeout);
    }
    // As the kernel does, with its errors: one after the first datagram is told by the next call.
    unsigned done = 0;
    while (done < count) {
        const ssize_t received =
            nlmmap_recvmsg(fd, &messages[done].msg_hdr, flags & ~MSG_WAITFORONE);
        if (received < 0) {
            if (done == 0) return -1;
            if (errno != EAGAIN) held->pending_error = errno;
            break;
        }
        messages[done++].msg_len = static_cast<unsigned>(received);
        if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
        if (timeout != nullptr) {
            *timeout = difference(end, now());
            if (timeout->tv_sec == 0 && timeout->tv_nsec == 0) break;
        }
    }
    return static_cast<int>(done);
}
