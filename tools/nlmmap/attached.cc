// SPDX-License-Identifier: MIT
#include "tools/nlmmap/attached.h"

#include <fmt/format.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace nlmmap::tool {

void AttachedSocket::Free::operator()(nl_sock* socket) const noexcept { ::nl_socket_free(socket); }

AttachedSocket::Socket AttachedSocket::open(const NetlinkFamily& family) {
    Socket socket(::nl_socket_alloc());
    if (!socket) throw std::bad_alloc();
    if (const int error = ::nl_connect(socket.get(), family.protocol); error < 0)
        throw std::runtime_error(
            fmt::format("cannot open a socket of {}: {}", family.name, ::nl_geterror(error)));
    return socket;
}

// The ring comes first: what the groups say from the first moment on goes there.
AttachedSocket::AttachedSocket(NetlinkFamily family, const RingOptions& options)
    : family_(std::move(family)),
      socket_(open(family_)),
      receiver_(Receiver::attach(socket_.get(), options)) {
    for (const NetlinkGroup& group : family_.groups) {
        const int error = ::nl_socket_add_membership(socket_.get(), static_cast<int>(group.number));
        if (error >= 0) continue;
        throw std::runtime_error(
            fmt::format("cannot join {}: {}", group.name, ::nl_geterror(error)));
    }
}

std::string AttachedSocket::group_name(std::uint32_t number) const {
    if (number == 0) return family_.name;
    for (const NetlinkGroup& group : family_.groups)
        if (group.number == number) return group.name;
    return fmt::format("{}:{}", family_.name, number);
}

bool wait_for_any(std::vector<std::unique_ptr<AttachedSocket>>& sockets, int stop_fd, int output_fd,
                  bool has_watermark) {
    // Fewer bytes than the watermark wake nobody: that is how long they wait at most.
    constexpr int kWatermarkMilliseconds = 250;
    std::vector<pollfd> ready;
    ready.reserve(sockets.size() + 2);
    for (const auto& socket : sockets)
        ready.push_back({.fd = socket->receiver().fd(), .events = POLLIN, .revents = 0});
    ready.push_back({.fd = stop_fd, .events = POLLIN, .revents = 0});
    // A quiet group would not find out by writing that nobody reads any more.
    ready.push_back({.fd = output_fd, .events = 0, .revents = 0});
    const int timeout = has_watermark ? kWatermarkMilliseconds : -1;
    if (::poll(ready.data(), ready.size(), timeout) < 0 && errno != EINTR)
        throw std::system_error(errno, std::generic_category(), "poll");
    return (ready.back().revents & POLLERR) == 0;
}

}  // namespace nlmmap::tool
