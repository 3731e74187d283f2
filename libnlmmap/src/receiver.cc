// SPDX-License-Identifier: MIT
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <nlmmap/linux/nlmmap.h>

#include <bit>
#include <cerrno>
#include <nlmmap/receiver.hpp>
#include <string>
#include <utility>

#include "mapping.hpp"
#include "poll.hpp"
#include "request.hpp"
#include "setup.hpp"
#include "socket_state.hpp"

namespace nlmmap {

namespace {

using detail::Backend;
using detail::Mapping;
using detail::SocketAccess;

// A ring on a socket of the kernel. Members are destroyed from the last to the first: unmapped,
// then closed, because a mapping keeps the socket listening.
class SocketBackend final : public Backend {
  public:
    SocketBackend(Socket socket, std::size_t data_bytes, const std::string& operation)
        : socket_(std::move(socket)) {
        if (const int errnum = mapping_.map(socket_.fd(), data_bytes))
            throw detail::mapping_error(errnum, operation + ": mmap", data_bytes);
    }

    [[nodiscard]] detail::Pages pages() const noexcept { return mapping_.pages(); }

    [[nodiscard]] int fd() const noexcept override { return socket_.fd(); }
    [[nodiscard]] Socket& socket() override { return socket_; }
    [[nodiscard]] Polled poll(std::optional<std::chrono::nanoseconds> timeout) override;
    [[nodiscard]] std::uint16_t join(std::string_view group) override;
    [[nodiscard]] std::uint16_t leave(std::string_view group) override;

  private:
    Socket socket_;
    Mapping mapping_;
};

Backend::Polled SocketBackend::poll(std::optional<std::chrono::nanoseconds> timeout) {
    const detail::Deadline deadline(timeout);
    for (;;) {
        // POLLRDBAND is the ring's alone: POLLIN would also be an unread answer's.
        const detail::Events events = detail::poll_once(socket_.fd(), POLLRDBAND, deadline);
        if (events.interrupted) return Polled::interrupted;
        if ((events.bits & POLLRDBAND) != 0) return Polled::readable;
        if (events.bits == 0) return Polled::timed_out;
        // An error of the ordinary queue (it overflowed) is none of the ring's, but would end every
        // poll() until somebody asked for it.
        int pending = 0;
        socklen_t bytes = sizeof(pending);
        if ((events.bits & (POLLNVAL | POLLHUP)) != 0 ||
            ::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &pending, &bytes) < 0)
            throw Error(EIO, "wait for the ring", {}, "its descriptor is not pollable any more");
    }
}

// A ring under somebody else's socket, whose descriptor outlives this.
class AttachedBackend final : public Backend {
  public:
    explicit AttachedBackend(int fd) noexcept : fd_(fd) {}

    // To be mapped into, once.
    [[nodiscard]] Mapping& mapping() noexcept { return mapping_; }
    [[nodiscard]] detail::Pages pages() const noexcept { return mapping_.pages(); }

    [[nodiscard]] int fd() const noexcept override { return fd_; }
    [[nodiscard]] Socket& socket() override { throw not_ours("hand out the socket"); }
    [[nodiscard]] Polled poll(std::optional<std::chrono::nanoseconds> timeout) override;
    [[nodiscard]] std::uint16_t join(std::string_view /*group*/) override {
        throw not_ours("join a group");
    }
    [[nodiscard]] std::uint16_t leave(std::string_view /*group*/) override {
        throw not_ours("leave a group");
    }

  private:
    static Error not_ours(const char* operation) {
        return Error(EOPNOTSUPP, operation, {},
                     "the ring is attached to a socket of yours: its groups are the family's "
                     "(nl_socket_add_membership(), NETLINK_ADD_MEMBERSHIP)");
    }

    int fd_;
    Mapping mapping_;
};

Backend::Polled AttachedBackend::poll(std::optional<std::chrono::nanoseconds> timeout) {
    const detail::Deadline deadline(timeout);
    const detail::Events events = detail::poll_once(fd_, POLLIN, deadline);
    if (events.interrupted) return Polled::interrupted;
    if ((events.bits & POLLIN) != 0) return Polled::readable;
    if (events.bits == 0) return Polled::timed_out;
    throw Error(EIO, "wait for the ring", {}, "its descriptor is not pollable any more");
}

// Why the group cannot be joined, and what to do.
std::string join_advice(int errnum, const GroupInfo& group, Socket& socket) {
    switch (errnum) {
        case ENOENT:
            return SocketAccess::known_groups(socket);
        case EPERM:
            return detail::kGetNetAdmin;
        case EMSGSIZE:
            return "its messages have up to " + std::to_string(group.max_bytes) +
                   " bytes and a ring takes four of them: RingOptions::ring_bytes = " +
                   std::to_string(std::bit_ceil(std::size_t{4} * group.max_bytes));
        case ENOSPC:
            return "the module's parameter max_members bounds the rings of a group, and the "
                   "ring's size how many groups it joins";
        case EAGAIN:
            return "read what waits in the ring, then join";
        default:
            return {};
    }
}

std::uint16_t SocketBackend::join(std::string_view group) {
    const std::string operation = "join group " + detail::quoted(group);
    for (bool again = false;; again = true) {
        // By number, because the notice of the group's deletion tells the number: another group of
        // that name, made since the look-up, must not be what is joined.
        const GroupInfo info = SocketAccess::find_group(socket_, group, operation);
        Verdict verdict = Request(operation, NLMMAP_MSG_JOIN)
                              .put_u32(NLMMAP_A_GROUP_ID, info.id)
                              .run(socket_.get());
        if (verdict.errnum == 0) return info.id;
        // Deleted since the look-up, and perhaps made anew.
        if (verdict.errnum == ENOENT && !again) continue;
        throw Error(verdict.errnum, operation, std::move(verdict.sentence),
                    join_advice(verdict.errnum, info, socket_));
    }
}

std::uint16_t SocketBackend::leave(std::string_view group) {
    const std::string operation = "leave group " + detail::quoted(group);
    const std::uint16_t id = SocketAccess::find_group(socket_, group, operation).id;
    Verdict verdict = Request(operation, NLMMAP_MSG_LEAVE)
                          .put_string(NLMMAP_A_GROUP_NAME, group)
                          .run(socket_.get());
    if (verdict.errnum != 0) throw Error(verdict.errnum, operation, std::move(verdict.sentence));
    return id;
}

// The consumer's side over what was mapped; throws if the ring's own page says otherwise.
template <typename MappedBackend>
std::unique_ptr<detail::Ring> ring_on(std::unique_ptr<MappedBackend> backend,
                                      std::size_t ring_bytes, std::uint32_t watermark_bytes,
                                      const std::string& operation) {
    const detail::Pages pages = backend->pages();
    detail::check_producer(*pages.producer, ring_bytes, operation);
    auto ring = std::make_unique<detail::Ring>(std::move(backend), pages);
    ring->set_watermark(watermark_bytes);
    return ring;
}

std::unique_ptr<detail::Ring> set_up(Socket socket, const RingOptions& options) {
    const std::string operation = "set up a ring";
    auto& state = SocketAccess::state(socket);
    if (state.control)
        throw Error(EBUSY, operation, {}, "this socket subscribed to a group: open another Socket");
    detail::request_own_ring(socket, options, operation);
    state.has_ring = true;

    return ring_on(
        std::make_unique<SocketBackend>(std::move(socket), options.ring_bytes, operation),
        options.ring_bytes, options.watermark_bytes, operation);
}

std::unique_ptr<detail::Ring> attach_to(int fd, const RingOptions& options) {
    const std::string operation = "attach a ring";
    auto backend = std::make_unique<AttachedBackend>(fd);
    detail::attach_ring(fd, options, 0, backend->mapping(), operation);
    return ring_on(std::move(backend), options.ring_bytes, options.watermark_bytes, operation);
}

std::unique_ptr<detail::Ring> adopt_from(int fd, std::uint32_t watermark_bytes) {
    const std::string operation = "adopt a ring";
    auto backend = std::make_unique<AttachedBackend>(fd);
    const SocketInfo info = detail::adopt_ring(fd, 0, backend->mapping(), operation);
    auto ring = ring_on(std::move(backend), info.rx_bytes, watermark_bytes, operation);
    if (!ring->resume(info.seq))
        throw Error(EIO, operation, {},
                    "another program that has the descriptor spoilt the ring's page");
    return ring;
}

}  // namespace

Receiver::Receiver(std::unique_ptr<detail::Ring> ring) noexcept : ring_(std::move(ring)) {}

Receiver::Receiver(Socket socket, const RingOptions& options)
    : ring_(set_up(std::move(socket), options)) {}

Receiver Receiver::attach(int netlink_fd, const RingOptions& options) {
    return Receiver(attach_to(netlink_fd, options));
}

Receiver Receiver::attach(nl_sock* socket, const RingOptions& options) {
    return attach(::nl_socket_get_fd(socket), options);
}

Receiver Receiver::adopt(int netlink_fd, std::uint32_t watermark_bytes) {
    return Receiver(adopt_from(netlink_fd, watermark_bytes));
}

Receiver::~Receiver() = default;
Receiver::Receiver(Receiver&&) noexcept = default;
Receiver& Receiver::operator=(Receiver&&) noexcept = default;

Receiver Receiver::join(std::string_view group, const RingOptions& options) {
    return join({group}, options);
}

Receiver Receiver::join(std::initializer_list<std::string_view> groups,
                        const RingOptions& options) {
    Receiver receiver(Socket(), options);
    for (const std::string_view group : groups) receiver.join_group(group);
    return receiver;
}

void Receiver::join_group(std::string_view group) { ring_->joined(ring_->backend().join(group)); }

void Receiver::leave_group(std::string_view group) { ring_->left(ring_->backend().leave(group)); }

Wait Receiver::wait(std::optional<std::chrono::nanoseconds> timeout) {
    if (ring_->is_readable()) return Wait::readable;
    // Nothing more will come: what is below the watermark is all there is.
    if (ring_->is_deserted())
        return ring_->pending_bytes() != 0 ? Wait::readable : Wait::group_gone;
    switch (ring_->backend().poll(timeout)) {
        case Backend::Polled::readable:
            return Wait::readable;
        case Backend::Polled::interrupted:
            return Wait::interrupted;
        case Backend::Polled::timed_out:
            break;
    }
    return ring_->pending_bytes() != 0 ? Wait::readable : Wait::timed_out;
}

bool Receiver::arm() {
    return ring_->backend().poll(std::chrono::nanoseconds(0)) == Backend::Polled::readable;
}

}  // namespace nlmmap
