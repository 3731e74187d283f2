// SPDX-License-Identifier: MIT
#include "examples/demo/listener.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <limits>
#include <new>
#include <stdexcept>
#include <system_error>

namespace demo {
namespace {

[[noreturn]] void fail(const char* what, int error) {
    throw std::runtime_error(fmt::format("{}: {}", what, nl_geterror(error)));
}

std::optional<Item> item_of(int protocol, const nlmsghdr* message) noexcept {
    return protocol == NETLINK_ROUTE ? rtnetlink_item(message) : ctnetlink_item(message);
}

std::array<std::uint32_t, SK_MEMINFO_VARS> socket_memory(int fd) {
    std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
    socklen_t length = sizeof(memory);
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) == -1)
        throw std::system_error(errno, std::generic_category(), "getsockopt(SO_MEMINFO)");
    return memory;
}

}  // namespace

std::string_view to_text(ListenerKind kind) {
    switch (kind) {
        case ListenerKind::plain_default:
            return "plain-default";
        case ListenerKind::plain_max:
            return "plain-max";
        case ListenerKind::plain_forced:
            return "plain-forced";
        case ListenerKind::attached:
            return "attached";
    }
    return "";
}

void Listener::Free::operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }

Listener::Listener(ListenerKind kind, int protocol, const std::vector<int>& groups,
                   std::size_t ring_bytes)
    : kind_(kind), protocol_(protocol), socket_(nl_socket_alloc()) {
    if (!socket_) throw std::bad_alloc();
    nl_socket_disable_seq_check(socket_.get());
    nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, &Listener::on_message, this);
    if (const int error = nl_connect(socket_.get(), protocol); error < 0)
        fail("open a netlink socket", error);
    set_buffer();
    if (kind == ListenerKind::attached)
        receiver_ = nlmmap::Receiver::attach(socket_.get(), {.ring_bytes = ring_bytes});
    for (const int group : groups)
        if (const int error = nl_socket_add_membership(socket_.get(), group); error < 0)
            fail("join a group", error);
    if (const int error = nl_socket_set_nonblocking(socket_.get()); error < 0)
        fail("make a socket non-blocking", error);
}

Listener::~Listener() = default;

void Listener::set_buffer() {
    if (kind_ != ListenerKind::plain_max && kind_ != ListenerKind::plain_forced) return;
    // The kernel cuts it to what is allowed, and doubles that.
    const int option = kind_ == ListenerKind::plain_forced ? SO_RCVBUFFORCE : SO_RCVBUF;
    const int bytes = std::numeric_limits<int>::max() / 2;
    if (setsockopt(nl_socket_get_fd(socket_.get()), SOL_SOCKET, option, &bytes, sizeof(bytes)) ==
        -1)
        throw std::system_error(errno, std::generic_category(), "set a receive buffer");
}

bool Listener::wait(std::chrono::milliseconds timeout) {
    if (receiver_) return receiver_->wait(timeout) == nlmmap::Wait::readable;
    pollfd ready{.fd = nl_socket_get_fd(socket_.get()), .events = POLLIN, .revents = 0};
    return poll(&ready, 1, static_cast<int>(timeout.count())) > 0;
}

int Listener::on_message(nl_msg* message, void* argument) {
    const auto& listener = *static_cast<Listener*>(argument);
    listener.seen_->add(item_of(listener.protocol_, nlmsg_hdr(message)));
    return NL_OK;
}

std::uint64_t Listener::read(SeenItems& seen) {
    const std::uint64_t before = seen.messages();
    if (receiver_) {
        for (const nlmmap::Record& record : receiver_->read()) {
            if (record.lost_before() != 0 || record.lost_unknown()) ++overflows_;
            located_lost_ += record.lost_before();
            for (const nlmmap::Message& message : record)
                seen.add(item_of(protocol_, message.get()));
        }
        return seen.messages() - before;
    }
    seen_ = &seen;
    for (;;) {
        const int error = nl_recvmsgs_default(socket_.get());
        if (error == -NLE_AGAIN) break;
        if (error == -NLE_NOMEM) {  // ENOBUFS, as libnl tells it
            ++overflows_;
        } else if (error < 0) {
            fail("read a netlink socket", error);
        }
    }
    return seen.messages() - before;
}

std::size_t Listener::room_bytes() const {
    int bytes = 0;
    socklen_t length = sizeof(bytes);
    if (receiver_) return receiver_->ring_bytes();
    if (getsockopt(nl_socket_get_fd(socket_.get()), SOL_SOCKET, SO_RCVBUF, &bytes, &length) == -1)
        throw std::system_error(errno, std::generic_category(), "getsockopt(SO_RCVBUF)");
    return static_cast<std::size_t>(bytes);
}

std::uint64_t Listener::drops() const {
    return socket_memory(nl_socket_get_fd(socket_.get()))[SK_MEMINFO_DROPS];
}

std::size_t Listener::held_bytes() const {
    return socket_memory(nl_socket_get_fd(socket_.get()))[SK_MEMINFO_RMEM_ALLOC] +
           (receiver_ ? receiver_->pending_bytes() : 0);
}

}  // namespace demo
