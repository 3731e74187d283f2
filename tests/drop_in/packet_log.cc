// SPDX-License-Identifier: MIT
//
// packet_log GROUP: a program that knows nothing of rings, to be started by `nlmmap run --all`.
// Binds itself to a group of nfnetlink_log, as ulogd does: what it is told of comes to its socket
// alone, which joins no group of netlink's. Prints `packet NUMBER` for each packet of `burst
// packets`.
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

namespace {

alignas(nlmsghdr) std::array<std::byte, 65536> buffer;

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

// One setting of the group; waits for the answer.
template <typename T>
void configure(int fd, std::uint16_t group, std::uint16_t attribute, const T& value) {
    struct {
        nlmsghdr header;
        nfgenmsg fixed;
        nlattr attribute;
        std::array<std::byte, NLA_ALIGN(sizeof(T))> value;
    } request{};
    static_assert(sizeof(request) ==
                  NLMSG_HDRLEN + sizeof(nfgenmsg) + NLA_HDRLEN + NLA_ALIGN(sizeof(T)));
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    request.fixed.nfgen_family = AF_UNSPEC;
    request.fixed.version = NFNETLINK_V0;
    request.fixed.res_id = htons(group);
    request.attribute.nla_len = NLA_HDRLEN + sizeof(T);
    request.attribute.nla_type = attribute;
    std::memcpy(request.value.data(), &value, sizeof(value));
    if (send(fd, &request, sizeof(request), 0) != sizeof(request)) fail("send");
    for (;;) {
        if (recv(fd, buffer.data(), buffer.size(), 0) < 0) fail("the answer");
        nlmsghdr header;
        nlmsgerr answer;
        std::memcpy(&header, buffer.data(), sizeof(header));
        // The first packets may come in between.
        if (header.nlmsg_type != NLMSG_ERROR) continue;
        std::memcpy(&answer, buffer.data() + NLMSG_HDRLEN, sizeof(answer));
        if (answer.error == 0) return;
        errno = -answer.error;
        fail("nfnetlink_log refused");
    }
}

// What `burst packets` wrote into it, behind the headers of IP and UDP.
void print_packet(std::span<const std::byte> packet) {
    iphdr ip;
    std::uint32_t number = 0;
    if (packet.size() < sizeof(ip)) return;
    std::memcpy(&ip, packet.data(), sizeof(ip));
    const std::size_t headers = ip.ihl * std::size_t{4} + sizeof(udphdr);
    if (ip.protocol != IPPROTO_UDP || packet.size() < headers + sizeof(number)) return;
    std::memcpy(&number, packet.data() + headers, sizeof(number));
    std::printf("packet %u\n", ntohl(number));
}

void print_message(std::span<const std::byte> message) {
    nlmsghdr header;
    std::memcpy(&header, message.data(), sizeof(header));
    if (header.nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET)) return;
    std::size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(nfgenmsg));
    while (at + NLA_HDRLEN <= message.size()) {
        nlattr attribute;
        std::memcpy(&attribute, message.data() + at, sizeof(attribute));
        if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > message.size() - at) return;
        if ((attribute.nla_type & NLA_TYPE_MASK) == NFULA_PAYLOAD)
            print_packet(message.subspan(at + NLA_HDRLEN, attribute.nla_len - NLA_HDRLEN));
        at += NLA_ALIGN(attribute.nla_len);
    }
}

void print_datagram(std::span<const std::byte> datagram) {
    while (datagram.size() >= sizeof(nlmsghdr)) {
        nlmsghdr header;
        std::memcpy(&header, datagram.data(), sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size()) return;
        print_message(datagram.first(header.nlmsg_len));
        const std::size_t step = NLMSG_ALIGN(std::size_t{header.nlmsg_len});
        datagram = datagram.subspan(step < datagram.size() ? step : datagram.size());
    }
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: packet_log GROUP\n");
        return 2;
    }
    const auto group = static_cast<std::uint16_t>(std::atoi(argv[1]));
    const int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        fail("netlink socket");
    configure(fd, group, NFULA_CFG_CMD, nfulnl_msg_config_cmd{.command = NFULNL_CFG_CMD_BIND});
    configure(fd, group, NFULA_CFG_MODE,
              nfulnl_msg_config_mode{
                  .copy_range = htonl(64), .copy_mode = NFULNL_COPY_PACKET, ._pad = 0});
    // Each packet at once.
    configure(fd, group, NFULA_CFG_QTHRESH, htonl(1));
    for (;;) {
        const ssize_t bytes = recv(fd, buffer.data(), buffer.size(), 0);
        if (bytes >= 0)
            print_datagram(std::span(buffer).first(static_cast<std::size_t>(bytes)));
        else if (errno != ENOBUFS && errno != EINTR)
            fail("recv");
    }
}
