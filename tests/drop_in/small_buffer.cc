// SPDX-License-Identifier: MIT
//
// small_buffer EVENTS: a program that knows nothing of rings, listens and asks on one socket, and
// has room for 4096 bytes as libmnl's programs do. Prints `dump ADDRESS` for each IPv4 address that
// there is, `dumped`, and `event ADDRESS` for each that comes, so many. What does not fit is an
// error, as for libmnl.
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace {

constexpr std::uint32_t kDumpSeq = 4711;

alignas(nlmsghdr) std::array<std::byte, 4096> buffer;

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

std::span<std::byte> receive(int fd) {
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    sockaddr_nl from{};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t bytes = recvmsg(fd, &message, 0);
    if (bytes < 0) fail("recvmsg");
    if ((message.msg_flags & MSG_TRUNC) != 0) {
        errno = ENOSPC;
        fail("a datagram is larger than the buffer");
    }
    if (message.msg_namelen != sizeof(from) || from.nl_pid != 0) {
        errno = EINVAL;
        fail("it is not the kernel's");
    }
    return std::span(buffer).first(static_cast<std::size_t>(bytes));
}

void print_address(const char* what, const nlmsghdr* header) {
    auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof(ifaddrmsg)));
    const auto* const fixed = static_cast<const ifaddrmsg*>(NLMSG_DATA(header));
    for (const rtattr* attribute = IFA_RTA(fixed); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type != IFA_LOCAL) continue;
        std::array<char, INET_ADDRSTRLEN> text{};
        inet_ntop(AF_INET, RTA_DATA(attribute), text.data(), text.size());
        std::printf("%s %s\n", what, text.data());
    }
}

struct Progress {
    bool dumped = false;
    long events = 0;
};

void handle(const nlmsghdr* header, Progress& progress) {
    const bool is_answer = header->nlmsg_seq == kDumpSeq;
    if (is_answer && header->nlmsg_type == NLMSG_ERROR) {
        errno = EIO;
        fail("the kernel refused");
    }
    if (is_answer && header->nlmsg_type == NLMSG_DONE) {
        progress.dumped = true;
        std::printf("dumped\n");
    }
    if (header->nlmsg_type != RTM_NEWADDR) return;
    print_address(is_answer ? "dump" : "event", header);
    progress.events += is_answer ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    const long wanted = argc == 2 ? std::atol(argv[1]) : 0;
    const int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1U << (RTNLGRP_IPV4_IFADDR - 1);
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        fail("netlink socket");
    struct {
        nlmsghdr header;
        ifaddrmsg fixed;
    } request{};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_GETADDR;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.header.nlmsg_seq = kDumpSeq;
    request.fixed.ifa_family = AF_INET;
    if (send(fd, &request, sizeof(request), 0) != sizeof(request)) fail("send");
    Progress progress;
    while (!progress.dumped || progress.events < wanted) {
        const std::span<std::byte> datagram = receive(fd);
        auto left = static_cast<unsigned>(datagram.size());
        for (auto* header = reinterpret_cast<nlmsghdr*>(datagram.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left))
            handle(header, progress);
        std::fflush(stdout);
    }
    return 0;
}
