// SPDX-License-Identifier: MIT
#include "examples/demo/burst_sender.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <array>
#include <fstream>
#include <new>
#include <stdexcept>
#include <string>

#include "examples/demo/burst_item.h"

namespace demo {
namespace {

constexpr const char* kFlapping = "nlmmap-flap";
constexpr const char* kRouted = "nlmmap-route";
constexpr const char* kDown = "nlmmap-down";

using Message = std::unique_ptr<nl_msg, decltype(&nlmsg_free)>;

[[noreturn]] void fail(const char* what, int error) {
    throw std::runtime_error(fmt::format("{}: {}", what, nl_geterror(error)));
}

Message make_message(int type, int flags) {
    Message message(nlmsg_alloc_simple(type, flags), &nlmsg_free);
    if (!message) throw std::bad_alloc();
    return message;
}

void append(const Message& message, const void* data, std::size_t bytes) {
    if (nlmsg_append(message.get(), const_cast<void*>(data), bytes, NLMSG_ALIGNTO) < 0)
        throw std::bad_alloc();
}

void put(const Message& message, int type, const void* data, std::size_t bytes) {
    if (nla_put(message.get(), type, static_cast<int>(bytes), data) < 0) throw std::bad_alloc();
}

void put_u32(const Message& message, int type, std::uint32_t value) {
    put(message, type, &value, sizeof(value));
}

class Nest {
  public:
    Nest(const Message& message, int type)
        : message_(message), start_(nla_nest_start(message.get(), type)) {
        if (start_ == nullptr) throw std::bad_alloc();
    }
    ~Nest() { nla_nest_end(message_.get(), start_); }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

  private:
    const Message& message_;
    nlattr* start_;
};

// Sends and waits for the answer.
void request(nl_sock* socket, Message message, const char* what) {
    // nl_send_sync() frees the message.
    if (const int error = nl_send_sync(socket, message.release()); error < 0) fail(what, error);
}

// Sends and does not wait: only a refusal is answered, and check() finds it.
void send(nl_sock* socket, const Message& message, const char* what) {
    nl_complete_msg(socket, message.get());
    nlmsg_hdr(message.get())->nlmsg_flags &= static_cast<std::uint16_t>(~NLM_F_ACK);
    if (const int error = nl_send(socket, message.get()); error < 0) fail(what, error);
}

void write_setting(const std::string& path, const char* value) {
    std::ofstream file(path);
    file << value;
}

}  // namespace

void BurstSender::Free::operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }

BurstSender::Socket BurstSender::open(int protocol) {
    Socket socket(nl_socket_alloc());
    if (!socket) throw std::bad_alloc();
    if (const int error = nl_connect(socket.get(), protocol); error < 0)
        fail("open a netlink socket", error);
    // Most requests are not answered.
    nl_socket_disable_seq_check(socket.get());
    return socket;
}

BurstSender::BurstSender() : route_(open(NETLINK_ROUTE)), conntrack_(open(NETLINK_NETFILTER)) {
    flapping_ = make_link(kFlapping);
    // Its own addresses would come and go with each flap.
    write_setting(fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", kFlapping), "1");
    routed_ = make_link(kRouted);
    set_up(routed_, true);
    down_ = make_link(kDown);
    set_up(down_, true);
}

BurstSender::~BurstSender() {
    for (const int link : {flapping_, routed_, down_}) {
        if (link == 0) continue;
        ifinfomsg fixed{};
        fixed.ifi_index = link;
        nl_send_simple(route_.get(), RTM_DELLINK, 0, &fixed, sizeof(fixed));
    }
}

int BurstSender::make_link(const char* name) {
    const ifinfomsg fixed{};
    Message message = make_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    append(message, &fixed, sizeof(fixed));
    put(message, IFLA_IFNAME, name, std::char_traits<char>::length(name) + 1);
    {
        const Nest info(message, IFLA_LINKINFO);
        put(message, IFLA_INFO_KIND, "dummy", sizeof("dummy"));
    }
    request(route_.get(), std::move(message), "make a dummy link (is the module dummy there?)");
    return static_cast<int>(if_nametoindex(name));
}

void BurstSender::set_up(int link, bool up) {
    ifinfomsg fixed{};
    fixed.ifi_index = link;
    fixed.ifi_flags = up ? IFF_UP : 0;
    fixed.ifi_change = IFF_UP;
    Message message = make_message(RTM_NEWLINK, 0);
    append(message, &fixed, sizeof(fixed));
    request(route_.get(), std::move(message), "set a link up or down");
}

// The kernel handled all requests when it handles this one.
void BurstSender::check(const Socket& socket) {
    Message message = make_message(NLMSG_NOOP, 0);
    nl_complete_msg(socket.get(), message.get());
    if (const int error = nl_send(socket.get(), message.get()); error < 0) fail("send", error);
    // A refusal of any of them comes before this one's acknowledgement, and ends the wait.
    if (const int error = nl_wait_for_ack(socket.get()); error < 0)
        fail("the kernel refused a part of the burst", error);
}

void BurstSender::flap_link(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number) {
        ifinfomsg fixed{};
        fixed.ifi_index = flapping_;
        fixed.ifi_flags = number % 2 == 0 ? IFF_UP : 0;
        fixed.ifi_change = IFF_UP;
        const Message message = make_message(RTM_NEWLINK, 0);
        append(message, &fixed, sizeof(fixed));
        put_u32(message, IFLA_TXQLEN, kFirstQueueLength + number);
        send(route_.get(), message, "flap a link");
    }
    check(route_);
}

void BurstSender::change_route(int type, int flags, int family, std::uint32_t number, int link) {
    rtmsg fixed{};
    fixed.rtm_family = static_cast<unsigned char>(family);
    fixed.rtm_dst_len = family == AF_INET6 ? 128 : 32;
    fixed.rtm_table = RT_TABLE_MAIN;
    fixed.rtm_protocol = RTPROT_STATIC;
    fixed.rtm_scope = RT_SCOPE_LINK;
    fixed.rtm_type = RTN_UNICAST;
    const Message message = make_message(type, flags);
    append(message, &fixed, sizeof(fixed));
    if (family == AF_INET6) {
        // 2001:db8::/32 is for documentation.
        std::array<std::uint8_t, 16> address{0x20, 0x01, 0x0d, 0xb8};
        const std::uint32_t last = htonl(number);
        std::copy_n(reinterpret_cast<const std::uint8_t*>(&last), 4, address.begin() + 12);
        put(message, RTA_DST, address.data(), address.size());
    } else {
        put_u32(message, RTA_DST, htonl(0x0a000000 | number));
    }
    put_u32(message, RTA_OIF, static_cast<std::uint32_t>(link));
    send(route_.get(), message, "change a route");
}

void BurstSender::add_routes(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number)
        change_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, AF_INET, number, routed_);
    check(route_);
}

void BurstSender::remove_routes(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number)
        change_route(RTM_DELROUTE, 0, AF_INET, number, routed_);
    check(route_);
}

void BurstSender::add_ipv6_routes(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t number = first; number < first + count; ++number)
        change_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, AF_INET6, number, down_);
    check(route_);
}

void BurstSender::take_interface_down() {
    set_up(down_, false);
    set_up(down_, true);
}

void BurstSender::add_conntrack(std::uint32_t first, std::uint32_t count) {
    constexpr std::uint16_t kType = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
    constexpr std::uint32_t kPeer = 0xc0000201;  // 192.0.2.1, for documentation
    for (std::uint32_t number = first; number < first + count; ++number) {
        nfgenmsg fixed{};
        fixed.nfgen_family = AF_INET;
        fixed.version = NFNETLINK_V0;
        const std::uint32_t source = 0x0a000000 | number;
        const Message message = make_message(kType, NLM_F_CREATE | NLM_F_EXCL);
        append(message, &fixed, sizeof(fixed));
        for (const int direction : {CTA_TUPLE_ORIG, CTA_TUPLE_REPLY}) {
            const bool original = direction == CTA_TUPLE_ORIG;
            const Nest tuple(message, direction | NLA_F_NESTED);
            {
                const Nest addresses(message, CTA_TUPLE_IP | NLA_F_NESTED);
                put_u32(message, CTA_IP_V4_SRC, htonl(original ? source : kPeer));
                put_u32(message, CTA_IP_V4_DST, htonl(original ? kPeer : source));
            }
            const Nest ports(message, CTA_TUPLE_PROTO | NLA_F_NESTED);
            const std::uint8_t protocol = IPPROTO_UDP;
            const std::uint16_t port = htons(53);
            put(message, CTA_PROTO_NUM, &protocol, sizeof(protocol));
            put(message, CTA_PROTO_SRC_PORT, &port, sizeof(port));
            put(message, CTA_PROTO_DST_PORT, &port, sizeof(port));
        }
        put_u32(message, CTA_TIMEOUT, htonl(600));
        send(conntrack_.get(), message, "make a conntrack entry");
    }
    check(conntrack_);
}

void BurstSender::flush_conntrack() {
    constexpr std::uint16_t kType = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    nfgenmsg fixed{};
    fixed.nfgen_family = AF_UNSPEC;
    fixed.version = NFNETLINK_V0;
    Message message = make_message(kType, 0);
    append(message, &fixed, sizeof(fixed));
    request(conntrack_.get(), std::move(message), "flush the conntrack table");
}

}  // namespace demo
