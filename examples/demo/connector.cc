// SPDX-License-Identifier: MIT
#include "examples/demo/connector.h"

#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace demo {
namespace {

// proc_event.what. The header has them too, but inside struct proc_event or outside of it, as its
// version goes.
constexpr std::uint32_t kFork = 0x00000001;
constexpr std::uint32_t kExec = 0x00000002;
constexpr std::uint32_t kExit = 0x80000000;

std::system_error failure(const char* operation) {
    return std::system_error(errno, std::generic_category(), operation);
}

// Tells the connector to start or stop. Older kernels know this form alone, newer ones both.
// Returns false with errno on failure.
bool tell(int fd, proc_cn_mcast_op operation) noexcept {
    constexpr std::size_t kBytes = NLMSG_HDRLEN + sizeof(cn_msg) + sizeof(operation);
    std::array<std::byte, NLMSG_ALIGN(kBytes)> request{};
    nlmsghdr header{};
    header.nlmsg_len = kBytes;
    header.nlmsg_type = NLMSG_DONE;
    cn_msg message{};
    message.id = {CN_IDX_PROC, CN_VAL_PROC};
    message.len = sizeof(operation);
    std::memcpy(request.data(), &header, sizeof(header));
    std::memcpy(request.data() + NLMSG_HDRLEN, &message, sizeof(message));
    std::memcpy(request.data() + NLMSG_HDRLEN + sizeof(message), &operation, sizeof(operation));
    return send(fd, request.data(), kBytes, 0) != -1;
}

void add(Tally& tally, const std::byte* data, std::size_t bytes) noexcept {
    constexpr std::size_t kBefore = NLMSG_HDRLEN + sizeof(cn_msg);
    if (bytes < kBefore + sizeof(proc_event)) {
        ++tally.others;
        return;
    }
    // The event is not aligned in the datagram.
    proc_event event;
    std::memcpy(&event, data + kBefore, sizeof(event));
    switch (static_cast<std::uint32_t>(event.what)) {
        case kFork:
            ++tally.counts.forks;
            tally.tid_sum += static_cast<std::uint32_t>(event.event_data.fork.child_pid);
            break;
        case kExec:
            ++tally.counts.execs;
            tally.tid_sum += static_cast<std::uint32_t>(event.event_data.exec.process_pid);
            break;
        case kExit:
            ++tally.counts.exits;
            tally.tid_sum += static_cast<std::uint32_t>(event.event_data.exit.process_pid);
            break;
        default:
            ++tally.others;
    }
}

}  // namespace

Connector::Connector(std::size_t receive_buffer_bytes)
    : fd_(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR)) {
    if (fd_ == -1) throw failure("socket(NETLINK_CONNECTOR)");
    try {
        if (receive_buffer_bytes != 0) {
            // The kernel doubles what it is told, for its overhead.
            const int half = static_cast<int>(receive_buffer_bytes / 2);
            if (setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)) == -1)
                throw failure("setsockopt(SO_RCVBUFFORCE)");
        }
        int bytes = 0;
        socklen_t length = sizeof(bytes);
        if (getsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, &length) == -1)
            throw failure("getsockopt(SO_RCVBUF)");
        receive_buffer_bytes_ = static_cast<std::size_t>(bytes);

        sockaddr_nl address{};
        address.nl_family = AF_NETLINK;
        address.nl_groups = CN_IDX_PROC;
        if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == -1)
            throw failure("bind(CN_IDX_PROC)");
        if (!tell(fd_, PROC_CN_MCAST_LISTEN)) throw failure("send to the proc connector");
    } catch (...) {
        close(fd_);
        throw;
    }
}

// Without the request the connector would go on making events, for nobody: it counts its listeners
// by their requests, not by their sockets.
Connector::~Connector() {
    tell(fd_, PROC_CN_MCAST_IGNORE);
    close(fd_);
}

void Connector::set_timeout(std::chrono::milliseconds timeout) {
    timeval value{};
    value.tv_sec = timeout.count() / 1000;
    value.tv_usec = timeout.count() % 1000 * 1000;
    if (setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof(value)) == -1)
        throw failure("setsockopt(SO_RCVTIMEO)");
}

Connector::Result Connector::receive(Tally& tally) {
    std::array<std::byte, 1024> datagram;
    const ssize_t received = recv(fd_, datagram.data(), datagram.size(), 0);
    if (received >= 0) {
        add(tally, datagram.data(), static_cast<std::size_t>(received));
        return Result::message;
    }
    switch (errno) {
        case EAGAIN:
            return Result::timed_out;
        case ENOBUFS:
            return Result::overflowed;
        case EINTR:
            return Result::interrupted;
        default:
            throw failure("recv from the proc connector");
    }
}

}  // namespace demo
