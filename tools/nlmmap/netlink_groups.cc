// SPDX-License-Identifier: MIT
#include "tools/nlmmap/netlink_groups.h"

#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/genetlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <netlink/netlink.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <stdexcept>
#include <system_error>

#include "tools/nlmmap/generic_family.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

struct Name {
    std::uint32_t number;
    std::string_view name;
};

// The kernel's names without what they all begin with, in lower case, with dashes.
constexpr Name kRoute[] = {
    {RTNLGRP_LINK, "link"},
    {RTNLGRP_NOTIFY, "notify"},
    {RTNLGRP_NEIGH, "neigh"},
    {RTNLGRP_TC, "tc"},
    {RTNLGRP_IPV4_IFADDR, "ipv4-ifaddr"},
    {RTNLGRP_IPV4_MROUTE, "ipv4-mroute"},
    {RTNLGRP_IPV4_ROUTE, "ipv4-route"},
    {RTNLGRP_IPV4_RULE, "ipv4-rule"},
    {RTNLGRP_IPV6_IFADDR, "ipv6-ifaddr"},
    {RTNLGRP_IPV6_MROUTE, "ipv6-mroute"},
    {RTNLGRP_IPV6_ROUTE, "ipv6-route"},
    {RTNLGRP_IPV6_IFINFO, "ipv6-ifinfo"},
    {RTNLGRP_IPV6_PREFIX, "ipv6-prefix"},
    {RTNLGRP_IPV6_RULE, "ipv6-rule"},
    {RTNLGRP_ND_USEROPT, "nd-useropt"},
    {RTNLGRP_PHONET_IFADDR, "phonet-ifaddr"},
    {RTNLGRP_PHONET_ROUTE, "phonet-route"},
    {RTNLGRP_DCB, "dcb"},
    {RTNLGRP_IPV4_NETCONF, "ipv4-netconf"},
    {RTNLGRP_IPV6_NETCONF, "ipv6-netconf"},
    {RTNLGRP_MDB, "mdb"},
    {RTNLGRP_MPLS_ROUTE, "mpls-route"},
    {RTNLGRP_NSID, "nsid"},
    {RTNLGRP_MPLS_NETCONF, "mpls-netconf"},
    {RTNLGRP_IPV4_MROUTE_R, "ipv4-mroute-r"},
    {RTNLGRP_IPV6_MROUTE_R, "ipv6-mroute-r"},
    {RTNLGRP_NEXTHOP, "nexthop"},
    {RTNLGRP_BRVLAN, "brvlan"},
    {RTNLGRP_MCTP_IFADDR, "mctp-ifaddr"},
    {RTNLGRP_TUNNEL, "tunnel"},
    {RTNLGRP_STATS, "stats"},
};

constexpr Name kNetfilter[] = {
    {NFNLGRP_CONNTRACK_NEW, "conntrack-new"},
    {NFNLGRP_CONNTRACK_UPDATE, "conntrack-update"},
    {NFNLGRP_CONNTRACK_DESTROY, "conntrack-destroy"},
    {NFNLGRP_CONNTRACK_EXP_NEW, "conntrack-exp-new"},
    {NFNLGRP_CONNTRACK_EXP_UPDATE, "conntrack-exp-update"},
    {NFNLGRP_CONNTRACK_EXP_DESTROY, "conntrack-exp-destroy"},
    {NFNLGRP_NFTABLES, "nftables"},
    {NFNLGRP_ACCT_QUOTA, "acct-quota"},
    {NFNLGRP_NFTRACE, "nftrace"},
};

constexpr Name kXfrm[] = {
    {XFRMNLGRP_ACQUIRE, "acquire"}, {XFRMNLGRP_EXPIRE, "expire"},   {XFRMNLGRP_SA, "sa"},
    {XFRMNLGRP_POLICY, "policy"},   {XFRMNLGRP_AEVENTS, "aevents"}, {XFRMNLGRP_REPORT, "report"},
    {XFRMNLGRP_MIGRATE, "migrate"}, {XFRMNLGRP_MAPPING, "mapping"},
};

constexpr Name kAudit[] = {{AUDIT_NLGRP_READLOG, "readlog"}};

std::span<const Name> names_of(int protocol) {
    switch (protocol) {
        case NETLINK_ROUTE:
            return kRoute;
        case NETLINK_NETFILTER:
            return kNetfilter;
        case NETLINK_XFRM:
            return kXfrm;
        case NETLINK_AUDIT:
            return kAudit;
        default:
            return {};
    }
}

// Negative: there is none of that name.
int protocol_named(const std::string& name) {
    if (name == "genl") return NETLINK_GENERIC;
    // libnl takes anything that begins with a digit for a number.
    if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return -1;
    return ::nl_str2nlfamily(name.c_str());
}

std::uint32_t group_number(std::string_view text) {
    std::uint32_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && rest == text.data() + text.size() ? number : 0;
}

void add_group(NetlinkFamily& family, NetlinkGroup group) {
    const bool said_twice =
        std::any_of(family.groups.begin(), family.groups.end(),
                    [&](const NetlinkGroup& other) { return other.number == group.number; });
    if (!said_twice) family.groups.push_back(std::move(group));
}

void add_named(NetlinkFamily& family, std::string_view text) {
    const std::span<const Name> names = names_of(family.protocol);
    const std::uint32_t number = group_number(text);
    bool found = false;
    for (const Name& name : names) {
        if (!text.empty() && name.name != text && name.number != number) continue;
        add_group(family, {name.number, fmt::format("{}:{}", family.name, name.name)});
        found = true;
    }
    if (found) return;
    if (number != 0) {
        add_group(family, {number, fmt::format("{}:{}", family.name, number)});
        return;
    }
    std::string known;
    for (const Name& name : names) known += fmt::format("{}, ", name.name);
    throw std::runtime_error(fmt::format("`{}` is no group of {}: say {}a number", printable(text),
                                         family.name, known.empty() ? known : known + "or "));
}

// FAMILY, or FAMILY/GROUP.
void add_generic(NetlinkFamily& family, std::string_view text) {
    if (const std::uint32_t number = group_number(text); number != 0) {
        add_group(family, {number, fmt::format("genl:{}", number)});
        return;
    }
    const std::size_t slash = text.find('/');
    const std::string name(text.empty() ? "nlctrl" : text.substr(0, slash));
    const GenericFamily generic = generic_family(name);
    const std::string_view wanted =
        slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
    std::string known;
    bool found = false;
    for (const GenericGroup& group : generic.groups) {
        known += fmt::format("{}{}/{}", known.empty() ? "" : ", ", name, group.name);
        if (slash != std::string_view::npos && group.name != wanted) continue;
        add_group(family, {group.number, fmt::format("genl:{}/{}", name, group.name)});
        found = true;
    }
    if (found) return;
    if (known.empty())
        throw std::runtime_error(
            fmt::format("the generic netlink family {} has no multicast groups", printable(name)));
    throw std::runtime_error(
        fmt::format("`{}` is no group of genl: say {}", printable(text), printable(known)));
}

NetlinkFamily& family_named(std::vector<NetlinkFamily>& families, const std::string& name) {
    const int protocol = protocol_named(name);
    if (protocol < 0) {
        throw std::runtime_error(
            fmt::format("there is no netlink family `{}`: say route, netfilter, genl, xfrm, audit "
                        "or another that netlink(7) lists",
                        printable(name)));
    }
    for (NetlinkFamily& family : families)
        if (family.protocol == protocol) return family;
    return families.emplace_back(NetlinkFamily{protocol, name, {}});
}

void add_text(std::vector<NetlinkFamily>& families, std::string_view text) {
    const std::size_t colon = text.find(':');
    NetlinkFamily& family = family_named(families, std::string(text.substr(0, colon)));
    std::string_view left =
        colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    for (;;) {
        const std::size_t comma = left.find(',');
        const std::string_view group = left.substr(0, comma);
        if (group.empty() && colon != std::string_view::npos) {
            throw std::runtime_error(
                fmt::format("`{}` lacks the name of a group", printable(text)));
        }
        if (family.protocol == NETLINK_GENERIC) {
            add_generic(family, group);
        } else {
            add_named(family, group);
        }
        if (comma == std::string_view::npos) return;
        left = left.substr(comma + 1);
    }
}

}  // namespace

bool is_netlink_group(std::string_view text) {
    const std::size_t colon = text.find(':');
    return colon != std::string_view::npos &&
           protocol_named(std::string(text.substr(0, colon))) >= 0;
}

std::vector<NetlinkFamily> netlink_families(const std::vector<std::string>& texts) {
    std::vector<NetlinkFamily> families;
    for (const std::string& text : texts) add_text(families, text);
    return families;
}

}  // namespace nlmmap::tool
