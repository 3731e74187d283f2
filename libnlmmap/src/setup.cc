// SPDX-License-Identifier: MIT
#include "setup.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <functional>
#include <limits>
#include <nlmmap/error.hpp>
#include <utility>

#include "request.hpp"
#include "socket_state.hpp"

namespace nlmmap::detail {

namespace {

std::string in_kib(std::size_t bytes) { return std::to_string((bytes + 1023) / 1024) + " KiB"; }

// What a ring is charged for.
std::size_t charged_bytes(std::size_t ring_bytes) { return ring_bytes + 2 * page_bytes(); }

std::string memlock_advice(const std::string& what, std::size_t bytes) {
    std::string advice = what + " " + in_kib(bytes) + " of locked memory";
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
            return memlock_advice("the ring takes", charged_bytes(ring_bytes));
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
        case ENOMEM:
            return memlock_advice(
                "the ring, and for a moment another one by which the module is asked what it "
                "knows, take",
                charged_bytes(ring_bytes) + charged_bytes(page_bytes()));
        case EINVAL:
            // The size may be right: then it is the socket, and the kernel says so.
            return std::has_single_bit(ring_bytes) && ring_bytes >= page_bytes()
                       ? std::string()
                       : setup_advice(errnum, ring_bytes);
        default:
            return setup_advice(errnum, ring_bytes);
    }
}

void check_abi(const SocketInfo& info, const std::string& operation) {
    if (info.abi_version != NLMMAP_ABI_VERSION)
        throw Error(EPROTO, operation, {},
                    "the module speaks version " + std::to_string(info.abi_version) +
                        " of the ABI, this library " + std::to_string(NLMMAP_ABI_VERSION) +
                        ": build both from the same release");
}

void check_features(const SocketInfo& info, std::uint64_t features, const std::string& operation) {
    if ((features & ~info.features) != 0)
        throw Error(EOPNOTSUPP, operation, {}, "a newer nlmmap.ko may know how to");
}

// Completes and runs a request for a ring; throws unless the ring exists and is what we know.
SocketInfo run_setup(Request& request, nl_sock* socket, const RingOptions& options,
                     const std::function<std::string(int)>& advice, const std::string& operation) {
    if (options.ring_bytes > std::numeric_limits<std::uint32_t>::max())
        throw Error(ERANGE, operation, {}, advice(ERANGE));
    request.put_u32(NLMMAP_A_RX_BYTES, static_cast<std::uint32_t>(options.ring_bytes));
    const std::uint32_t flags = (options.timestamps ? std::uint32_t{NLMMAP_SETUP_TIME} : 0) |
                                (options.credentials ? std::uint32_t{NLMMAP_SETUP_CREDENTIALS} : 0);
    if (flags != 0) request.put_u32(NLMMAP_A_FLAGS, flags);
    SocketInfo info;
    Verdict verdict = request.run(socket, NLMMAP_MSG_SOCKET,
                                  [&](nlmsghdr* answer) { info = socket_info(answer, operation); });
    if (verdict.errnum != 0)
        throw Error(verdict.errnum, operation, std::move(verdict.sentence), advice(verdict.errnum));
    check_abi(info, operation);
    return info;
}

// The module tells what it is of a socket with a ring alone: so the one that the requests go over
// gets the smallest, for as long as it is open. The answer to it is also as large as the one that
// matters, so that memory for that can be had.
void check_module(Socket& control, std::uint64_t features,
                  const std::function<std::string(int)>& advice, const std::string& operation) {
    Request request(operation, NLMMAP_MSG_SETUP);
    const SocketInfo info =
        run_setup(request, control.get(), {.ring_bytes = page_bytes()}, advice, operation);
    check_features(info, NLMMAP_FEATURE_ATTACH | features, operation);
}

// Whether the module could take it: of any other size it says itself what is wrong.
bool is_usable(std::size_t ring_bytes) { return usable_ring_bytes(ring_bytes) == ring_bytes; }

}  // namespace

void request_own_ring(Socket& socket, const RingOptions& options, const std::string& operation) {
    Request request(operation, NLMMAP_MSG_SETUP);
    run_setup(
        request, socket.get(), options,
        [&](int errnum) { return setup_advice(errnum, options.ring_bytes); }, operation);
}

Error mapping_error(int errnum, const std::string& operation, std::size_t ring_bytes) {
    if (errnum == EAGAIN) {
        std::string advice =
            "after mlockall() the ring's addresses, twice its size, are locked "
            "memory as well: " +
            in_kib(2 * charged_bytes(ring_bytes));
        rlimit limit{};
        if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
            advice += ", where the process may have " + in_kib(limit.rlim_cur) +
                      " in all (RLIMIT_MEMLOCK)";
        return Error(ENOMEM, operation, {}, advice);
    }
    if (errnum == ENOMEM)
        return Error(errnum, operation, {},
                     "the ring takes twice its size of addresses: RLIMIT_AS (`ulimit -v`) may be "
                     "too little");
    return Error(errnum, operation);
}

SocketInfo attach_ring(int fd, const RingOptions& options, std::uint64_t features, Mapping& mapping,
                       const std::string& operation) {
    if (fd < 0) throw Error(EBADF, operation);
    if (is_usable(options.ring_bytes)) {
        if (const int errnum = mapping.reserve(options.ring_bytes))
            throw mapping_error(errnum, operation + ": reserve its addresses", options.ring_bytes);
    }
    const auto advice = [&](int errnum) { return attach_advice(errnum, options.ring_bytes); };
    // Only the requests go over it: what was made stays with the other socket.
    Socket control;
    check_module(control, features, advice, operation);
    Request request(operation, NLMMAP_MSG_ATTACH);
    request.put_u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd));
    SocketInfo info = run_setup(request, control.get(), options, advice, operation);
    if (const int errnum = mapping.map(fd, info.rx_bytes))
        throw Error(errnum == EAGAIN ? ENOMEM : errnum, operation + ": mmap", {},
                    "the socket has its ring all the same, and recvmsg() answers EBUSY: adopt the "
                    "ring when that may work, or close the socket");
    return info;
}

SocketInfo adopt_ring(int fd, std::uint64_t features, Mapping& mapping,
                      const std::string& operation) {
    if (fd < 0) throw Error(EBADF, operation);
    const Socket control;
    Request request(operation, NLMMAP_MSG_SOCKET_GET);
    request.put_u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd));
    SocketInfo info;
    Verdict verdict = request.run(control.get(), NLMMAP_MSG_SOCKET,
                                  [&](nlmsghdr* answer) { info = socket_info(answer, operation); });
    if (verdict.errnum != 0) throw Error(verdict.errnum, operation, std::move(verdict.sentence));
    check_abi(info, operation);
    check_features(info, features, operation);
    if (const int errnum = mapping.map(fd, info.rx_bytes))
        throw mapping_error(errnum, operation + ": mmap", info.rx_bytes);
    return info;
}

void check_producer(const nlmmap_producer& producer, std::size_t ring_bytes,
                    const std::string& operation) {
    if (producer.abi_version != NLMMAP_ABI_VERSION || producer.data_bytes != ring_bytes ||
        producer.header_bytes < sizeof(nlmmap_record) || producer.header_bytes % 8 != 0)
        throw Error(EPROTO, operation, {}, "the ring's own page contradicts the module's answer");
}

std::uint64_t seq_before(const Pages& pages, std::size_t data_bytes, std::uint64_t position,
                         std::uint64_t newest) {
    // In a ring that nobody has read from yet.
    if (position == 0) return 0;
    if (position == load_acquire(pages.producer->position)) return newest;
    // Who wrote the position may have lied about where a record begins: then it is any number.
    const std::size_t offset = position & (data_bytes - 1) & ~std::size_t{7};
    return reinterpret_cast<const nlmmap_record*>(pages.data + offset)->seq - 1;
}

}  // namespace nlmmap::detail
