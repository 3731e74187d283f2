// SPDX-License-Identifier: MIT
//
// burst addresses FIRST COUNT: adds the addresses 127.16.0.0 + FIRST to + COUNT to lo, each an
// event of rtnetlink. burst conntrack FIRST COUNT: enters as many connections, each an event of
// conntrack. burst packets FIRST COUNT: sends as many UDP packets to this machine, with the number
// in each. As fast as it can; for programs that listen.
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>

#include "tests/drop_in/nested.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/rtnl.h"

namespace {

using drop_in::Nested;
using guest::Request;

// A UDP connection of its own for each number.
Nested tuple(std::uint32_t from, std::uint32_t to, std::uint16_t from_port, std::uint16_t to_port) {
    return Nested()
        .put(CTA_TUPLE_IP, Nested().put(CTA_IP_V4_SRC, htonl(from)).put(CTA_IP_V4_DST, htonl(to)))
        .put(CTA_TUPLE_PROTO, Nested()
                                  .put(CTA_PROTO_NUM, std::uint8_t{IPPROTO_UDP})
                                  .put(CTA_PROTO_SRC_PORT, htons(from_port))
                                  .put(CTA_PROTO_DST_PORT, htons(to_port)));
}

void enter_connections(std::uint32_t first, std::uint32_t count) {
    constexpr std::uint32_t kHere = 0x0a000001;   // 10.0.0.1
    constexpr std::uint32_t kThere = 0x0a100000;  // 10.16.0.0
    guest::RawSocket socket = guest::family_socket(NETLINK_NETFILTER);
    for (std::uint32_t number = first; number < first + count; ++number) {
        const Request request = drop_in::netfilter_request(
            NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW,
            NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, AF_INET, 0,
            Nested()
                .put(CTA_TUPLE_ORIG, tuple(kHere, kThere + number, 1000, 2000))
                .put(CTA_TUPLE_REPLY, tuple(kThere + number, kHere, 2000, 1000))
                .put(CTA_TIMEOUT, htonl(600)));
        const guest::Outcome outcome = socket.ask(request);
        if (outcome.error != 0)
            throw std::runtime_error("conntrack refused: errno " + std::to_string(outcome.error) +
                                     " " + outcome.sentence);
    }
}

int udp_socket() {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "socket");
    return fd;
}

void send_packets(std::uint32_t first, std::uint32_t count) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof(address);
    // Somebody they are for, or each would be answered by another packet.
    const guest::RawSocket receiver(udp_socket());
    const guest::RawSocket sender(udp_socket());
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(receiver.fd(), any, bytes) != 0 || ::getsockname(receiver.fd(), any, &bytes) != 0)
        throw std::system_error(errno, std::generic_category(), "bind");
    for (std::uint32_t number = first; number < first + count; ++number) {
        const std::uint32_t payload = htonl(number);
        if (::sendto(sender.fd(), &payload, sizeof(payload), 0, any, bytes) != sizeof(payload))
            throw std::system_error(errno, std::generic_category(), "sendto");
    }
}

int run(const std::string& what, std::uint32_t first, std::uint32_t count) {
    if (what == "conntrack") {
        enter_connections(first, count);
    } else if (what == "addresses") {
        guest::Addresses().add(first, count);
    } else if (what == "packets") {
        send_packets(first, count);
    } else {
        std::fprintf(stderr, "usage: burst addresses|conntrack|packets FIRST COUNT\n");
        return 2;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return argc == 4 ? run(argv[1], static_cast<std::uint32_t>(std::atol(argv[2])),
                               static_cast<std::uint32_t>(std::atol(argv[3])))
                         : run("", 0, 0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "burst: %s\n", error.what());
        return 1;
    }
}
