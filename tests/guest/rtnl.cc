// SPDX-License-Identifier: MIT
#include "tests/guest/rtnl.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace guest {
namespace {

constexpr std::uint32_t kFirstAddress = 0x7f100000;  // 127.16.0.0

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

RawSocket attached_socket(int protocol, std::uint32_t ring_bytes, std::uint32_t flags,
                          int rcvbuf_bytes) {
    RawSocket socket = family_socket(protocol, rcvbuf_bytes);
    const Outcome outcome = attach(socket.fd(), ring_bytes, flags);
    if (outcome.error != 0) {
        throw std::runtime_error("ATTACH refused: " + outcome.sentence);
    }
    return socket;
}

}  // namespace

RawSocket family_socket(int protocol, int rcvbuf_bytes) {
    RawSocket opened(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (opened.fd() < 0 ||
        bind(opened.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        fail("opening a netlink socket");
    }
    if (rcvbuf_bytes != 0 &&
        setsockopt(opened.fd(), SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes)) != 0) {
        fail("SO_RCVBUF");
    }
    return opened;
}

Outcome attach(int fd, std::uint32_t ring_bytes, std::uint32_t flags) {
    RawSocket control;
    Request request(NLMMAP_MSG_ATTACH);
    request.u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd)).u32(NLMMAP_A_RX_BYTES, ring_bytes);
    if (flags != 0) {
        request.u32(NLMMAP_A_FLAGS, flags);
    }
    return control.ask(request);
}

Outcome attached_info(int fd) {
    RawSocket control;
    return control.ask(
        Request(NLMMAP_MSG_SOCKET_GET).u32(NLMMAP_A_FD, static_cast<std::uint32_t>(fd)));
}

std::uint64_t attached_counter(int fd, std::uint16_t attribute) {
    const Outcome outcome = attached_info(fd);
    if (outcome.error != 0 || outcome.replies.empty()) {
        throw std::runtime_error("SOCKET_GET failed: " + outcome.sentence);
    }
    const auto value = outcome.replies.front().get<std::uint64_t>(attribute);
    if (!value) {
        throw std::runtime_error("SOCKET_GET did not tell attribute " + std::to_string(attribute));
    }
    return *value;
}

RawAttached::RawAttached(int protocol, std::uint32_t ring_bytes, std::uint32_t flags,
                         int rcvbuf_bytes)
    : socket(attached_socket(protocol, ring_bytes, flags, rcvbuf_bytes)),
      ring(socket, ring_bytes) {}

RawAttached::RawAttached(RawSocket attached_socket, std::uint32_t ring_bytes)
    : socket(std::move(attached_socket)), ring(socket, ring_bytes) {}

void RawAttached::listen(std::uint32_t group) {
    if (const int error = socket.add_membership(group)) {
        throw std::system_error(error, std::generic_category(), "joining a group of the family");
    }
}

bool RawAttached::wait() {
    pollfd readable{.fd = socket.fd(), .events = POLLIN, .revents = 0};
    return poll(&readable, 1, 30000) == 1 && (readable.revents & POLLIN) != 0;
}

Addresses::Addresses() : socket_(family_socket(NETLINK_ROUTE)) {}

void Addresses::change(std::uint16_t type, std::uint16_t flags, std::uint32_t number) {
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_INET;
    fixed.ifa_prefixlen = 32;
    fixed.ifa_index = 1;  // lo is the first of every network namespace
    const std::uint32_t address = htonl(kFirstAddress + number);
    Request request(type, flags);
    request.raw(std::as_bytes(std::span(&fixed, 1)))
        .put(IFA_LOCAL, &address, sizeof(address))
        .put(IFA_ADDRESS, &address, sizeof(address));
    const Outcome outcome = socket_.ask(request);
    if (outcome.error != 0) {
        throw std::system_error(outcome.error, std::generic_category(), "changing lo's addresses");
    }
}

void Addresses::add(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number) {
        change(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, number);
    }
}

void Addresses::remove(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number) {
        change(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, number);
    }
}

std::uint32_t address_number(const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWADDR && message->nlmsg_type != RTM_DELADDR) {
        throw std::runtime_error("not an address but message type " +
                                 std::to_string(message->nlmsg_type));
    }
    const auto* fixed = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    int left = static_cast<int>(IFA_PAYLOAD(message));
    for (const rtattr* attribute = IFA_RTA(fixed); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type == IFA_LOCAL) {
            std::uint32_t address;
            std::memcpy(&address, RTA_DATA(attribute), sizeof(address));
            return ntohl(address) - kFirstAddress;
        }
    }
    throw std::runtime_error("an address message without IFA_LOCAL");
}

}  // namespace guest
