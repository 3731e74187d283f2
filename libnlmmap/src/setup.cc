// SPDX-License-Identifier: MIT
#include "setup.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>
#include <nlmmap/error.hpp>
#include <utility>

#include "request.hpp"
#include "socket_state.hpp"

namespace nlmmap::detail {

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

namespace {

std::string in_kib(std::size_t bytes) { return std::to_string((bytes + 1023) / 1024) + " KiB"; }

std::string memlock_advice(std::size_t ring_bytes) {
    const std::string need = in_kib(ring_bytes + 2 * page_bytes());
    std::string advice = "the ring takes " + need + " of locked memory";
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        advice += ", and all of this user's together may have " + in_kib(limit.rlim_cur) +
                  " (RLIMIT_MEMLOCK): if that is too little, raise it (`ulimit -l`, LimitMEMLOCK= "
                  "in a systemd unit), or `setcap cap_ipc_lock+ep PROGRAM`, or set a smaller ring "
                  "up";
    return advice;
}

// No ring is larger, whatever the module's max_ring_bytes.
constexpr std::size_t kMaxRingBytes = std::size_t{1} << 30;

// The size that will do instead: the next power of two, within what there can be.
std::size_t usable_ring_bytes(std::size_t ring_bytes) {
    return std::bit_ceil(std::clamp(ring_bytes, page_bytes(), kMaxRingBytes));
}

std::string setup_advice(int errnum, std::size_t ring_bytes) {
    switch (errnum) {
        case EINVAL:
            return "ring_bytes is " + std::to_string(ring_bytes) + "; what would do is " +
                   std::to_string(usable_ring_bytes(ring_bytes));
        case ERANGE:
            return "ring_bytes is " + std::to_string(ring_bytes) +
                   "; the limit is in /sys/module/nlmmap/parameters/max_ring_bytes";
        case ENOMEM:
            return memlock_advice(ring_bytes);
        case EBUSY:
            return "a socket has one ring: open another Socket";
        default:
            return {};
    }
}

std::string attach_advice(int errnum, std::size_t ring_bytes) {
    switch (errnum) {
        case EPERM:
            return std::string(detail::kGetNetAdmin) +
                   "; or an administrator sets /sys/module/nlmmap/parameters/attach_unprivileged";
        case EBUSY:
            return "a socket has one ring, for as long as it lives: open another one";
        case EOPNOTSUPP:
            return "a newer nlmmap.ko may know how to";
        case EINVAL:
            // The size may be right: then it is the socket, and the kernel says so.
            return std::has_single_bit(ring_bytes) && ring_bytes >= page_bytes()
                       ? std::string()
                       : setup_advice(errnum, ring_bytes);
        default:
            return setup_advice(errnum, ring_bytes);
    }
}

// Completes and runs a request for a ring; throws unless the ring exists and is what we know.
SocketInfo run_setup(Request& request, nl_sock* socket, const RingOptions& options,
                     std::string (*advice)(int, std::size_t), const std::string& operation) {
    if (options.ring_bytes > std::numeric_limits<std::uint32_t>::max())
        throw Error(ERANGE, operation, {}, advice(ERANGE, options.ring_bytes));
    request.put_u32(NLMMAP_A_RX_BYTES, static_cast<std::uint32_t>(options.ring_bytes));
    const std::uint32_t flags = (options.timestamps ? std::uint32_t{NLMMAP_SETUP_TIME} : 0) |
                                (options.credentials ? std::uint32_t{NLMMAP_SETUP_CREDENTIALS} : 0);
    if (flags != 0) request.put_u32(NLMMAP_A_FLAGS, flags);
    SocketInfo info;
    Verdict verdict = request.run(socket, NLMMAP_MSG_SOCKET,
                                  [&](nlmsghdr* answer) { info = socket_info(answer, operation); });
    if (verdict.errnum != 0)
        throw Error(verdict.errnum, operation, std::move(verdict.sentence),
                    advice(verdict.errnum, options.ring_bytes));
    if (info.abi_version != NLMMAP_ABI_VERSION)
        throw Error(EPROTO, operation, {},
                    "the module speaks version " + std::to_string(info.abi_version) +
                        " of the ABI, this library " + std::to_string(NLMMAP_ABI_VERSION) +
                        ": build both from the same release");
    return info;
}

}  // namespace

void request_own_ring(Socket& socket, const RingOptions& options, const std::string& operation) {
    Request request(operation, NLMMAP_MSG_SETUP);
    run_setup(request, socket.get(), options, setup_advice, operation);
}

SocketInfo request_attached_ring(int fd, const RingOptions& options, const std::string& operation) {
    if (fd < 0) throw Error(EBADF, operation);
    // Only the request goes over it: what it made stays with the other socket.
    const Socket control;
    Request request(operation, NLMMAP_MSG_ATTACH);
    request.put_u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd));
    return run_setup(request, control.get(), options, attach_advice, operation);
}

SocketInfo request_attached_info(int fd, const std::string& operation) {
    if (fd < 0) throw Error(EBADF, operation);
    const Socket control;
    Request request(operation, NLMMAP_MSG_SOCKET_GET);
    request.put_u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd));
    SocketInfo info;
    Verdict verdict = request.run(control.get(), NLMMAP_MSG_SOCKET,
                                  [&](nlmsghdr* answer) { info = socket_info(answer, operation); });
    if (verdict.errnum != 0) throw Error(verdict.errnum, operation, std::move(verdict.sentence));
    return info;
}

void check_producer(const nlmmap_producer& producer, std::size_t ring_bytes,
                    const std::string& operation) {
    if (producer.abi_version != NLMMAP_ABI_VERSION || producer.data_bytes != ring_bytes ||
        producer.header_bytes < sizeof(nlmmap_record) || producer.header_bytes % 8 != 0)
        throw Error(EPROTO, operation, {}, "the ring's own page contradicts the module's answer");
}

}  // namespace nlmmap::detail
