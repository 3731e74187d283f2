// SPDX-License-Identifier: MIT
#include "examples/demo/burst_item.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstring>

namespace demo {
namespace {

// The last four bytes of an address, of which the sender numbers the last three.
std::uint32_t number_in(const nlattr* address) noexcept {
    std::uint32_t last = 0;
    const int bytes = nla_len(address);
    if (bytes < 4) return 0;
    std::memcpy(&last, static_cast<const std::byte*>(nla_data(address)) + bytes - 4, 4);
    return ntohl(last) & 0xffffff;
}

std::optional<Item> link_item(const nlmsghdr* message) noexcept {
    const auto* fixed = static_cast<const ifinfomsg*>(nlmsg_data(message));
    const nlattr* length =
        nlmsg_find_attr(const_cast<nlmsghdr*>(message), sizeof(*fixed), IFLA_TXQLEN);
    if (length == nullptr || nla_get_u32(length) < kFirstQueueLength) return std::nullopt;
    const std::uint32_t number = nla_get_u32(length) - kFirstQueueLength;
    // A change of the flags is told before that of the length: with the length of the item before.
    const bool up = (fixed->ifi_flags & IFF_UP) != 0;
    if (up != (number % 2 == 0)) return std::nullopt;
    return Item{ItemKind::link_change, number};
}

std::optional<Item> route_item(const nlmsghdr* message) noexcept {
    const auto* fixed = static_cast<const rtmsg*>(nlmsg_data(message));
    const bool ipv6 = fixed->rtm_family == AF_INET6;
    const bool added = message->nlmsg_type == RTM_NEWROUTE;
    // Only the numbered routes are to single addresses in the main table.
    if (fixed->rtm_table != RT_TABLE_MAIN || fixed->rtm_dst_len != (ipv6 ? 128 : 32))
        return std::nullopt;
    const nlattr* destination =
        nlmsg_find_attr(const_cast<nlmsghdr*>(message), sizeof(*fixed), RTA_DST);
    if (destination == nullptr) return std::nullopt;
    if (ipv6)
        return Item{added ? ItemKind::ipv6_route_added : ItemKind::ipv6_route_removed,
                    number_in(destination)};
    return Item{added ? ItemKind::route_added : ItemKind::route_removed, number_in(destination)};
}

}  // namespace

std::string_view to_text(ItemKind kind) {
    switch (kind) {
        case ItemKind::link_change:
            return "link flaps";
        case ItemKind::route_added:
            return "routes added";
        case ItemKind::route_removed:
            return "routes removed";
        case ItemKind::ipv6_route_added:
            return "IPv6 routes added";
        case ItemKind::ipv6_route_removed:
            return "interface taken down";
        case ItemKind::conntrack_new:
            return "conntrack entries made";
        case ItemKind::conntrack_ended:
            return "conntrack entries flushed";
    }
    return "";
}

std::optional<Item> rtnetlink_item(const nlmsghdr* message) noexcept {
    switch (message->nlmsg_type) {
        case RTM_NEWLINK:
            if (nlmsg_valid_hdr(message, sizeof(ifinfomsg)) == 0) return std::nullopt;
            return link_item(message);
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
            if (nlmsg_valid_hdr(message, sizeof(rtmsg)) == 0) return std::nullopt;
            return route_item(message);
        default:
            return std::nullopt;
    }
}

std::optional<Item> ctnetlink_item(const nlmsghdr* message) noexcept {
    const auto type = NFNL_MSG_TYPE(message->nlmsg_type);
    if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_CTNETLINK ||
        (type != IPCTNL_MSG_CT_NEW && type != IPCTNL_MSG_CT_DELETE) ||
        nlmsg_valid_hdr(message, sizeof(nfgenmsg)) == 0)
        return std::nullopt;
    const nlattr* tuple =
        nlmsg_find_attr(const_cast<nlmsghdr*>(message), sizeof(nfgenmsg), CTA_TUPLE_ORIG);
    if (tuple == nullptr) return std::nullopt;
    const nlattr* addresses =
        nla_find(static_cast<const nlattr*>(nla_data(tuple)), nla_len(tuple), CTA_TUPLE_IP);
    if (addresses == nullptr) return std::nullopt;
    const nlattr* source = nla_find(static_cast<const nlattr*>(nla_data(addresses)),
                                    nla_len(addresses), CTA_IP_V4_SRC);
    if (source == nullptr) return std::nullopt;
    return Item{type == IPCTNL_MSG_CT_NEW ? ItemKind::conntrack_new : ItemKind::conntrack_ended,
                number_in(source)};
}

void SeenItems::add(const std::optional<Item>& item) {
    ++messages_;
    if (!item) return;
    std::vector<bool>& seen = seen_[index(item->kind)];
    if (seen.size() <= item->number) seen.resize(2 * std::size_t{item->number} + 1);
    if (seen[item->number]) return;
    seen[item->number] = true;
    ++counts_[index(item->kind)];
}

}  // namespace demo
