// SPDX-License-Identifier: MIT
//
// burst addresses FIRST COUNT: adds the addresses 127.16.0.0 + FIRST to + COUNT to lo, each an
// event of rtnetlink. burst conntrack FIRST COUNT: enters as many connections, each an event of
// conntrack. As fast as it can; for programs that listen.
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>

#include "tests/guest/raw_netlink.h"
#include "tests/guest/rtnl.h"

namespace {

using guest::Bytes;
using guest::Request;

// Attributes one after the other, as they stand in another one.
class Nested {
  public:
    template <typename T>
    Nested& put(std::uint16_t type, const T& value) {
        request_.put(type, &value, sizeof(value));
        return *this;
    }
    Nested& put(std::uint16_t type, const Nested& inner) {
        const auto bytes = inner.bytes();
        request_.put(type | NLA_F_NESTED, bytes.data(), bytes.size());
        return *this;
    }
    [[nodiscard]] std::span<const std::byte> bytes() const {
        return std::span(request_.bytes()).subspan(NLMSG_HDRLEN);
    }

  private:
    Request request_{0, 0};
};

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
        nfgenmsg fixed{};
        fixed.nfgen_family = AF_INET;
        Request request((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW,
                        NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        const Nested body = Nested()
                                .put(CTA_TUPLE_ORIG, tuple(kHere, kThere + number, 1000, 2000))
                                .put(CTA_TUPLE_REPLY, tuple(kThere + number, kHere, 2000, 1000))
                                .put(CTA_TIMEOUT, htonl(600));
        request.raw(body.bytes());
        const guest::Outcome outcome = socket.ask(request);
        if (outcome.error != 0)
            throw std::runtime_error("conntrack refused: errno " + std::to_string(outcome.error) +
                                     " " + outcome.sentence);
    }
}

int run(const std::string& what, std::uint32_t first, std::uint32_t count) {
    if (what == "conntrack") {
        enter_connections(first, count);
    } else if (what == "addresses") {
        guest::Addresses().add(first, count);
    } else {
        std::fprintf(stderr, "usage: burst addresses|conntrack FIRST COUNT\n");
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
