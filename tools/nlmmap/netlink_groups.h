// SPDX-License-Identifier: MIT
// Multicast groups of the kernel's own netlink families by name: `route:link,ipv4-ifaddr`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nlmmap::tool {

struct NetlinkGroup {
    std::uint32_t number;
    std::string name;  // with its family: "route:link"
};

// What one socket listens to.
struct NetlinkFamily {
    int protocol;      // NETLINK_ROUTE...
    std::string name;  // "route"
    std::vector<NetlinkGroup> groups;
};

// Whether the text begins with the name of a netlink family and a colon: groups of nlmmap's own
// family have no colon in their names that follows one of these.
bool is_netlink_group(std::string_view text);

// The families of some texts, each once, with all their groups, in the order of the texts. A text
// is FAMILY:GROUP[,GROUP]..., or FAMILY alone for all groups that have a name:
//
//   route      RTNLGRP_LINK is `link`, RTNLGRP_IPV4_IFADDR `ipv4-ifaddr`, and so on
//   netfilter  NFNLGRP_CONNTRACK_NEW is `conntrack-new`, and so on
//   xfrm       XFRMNLGRP_ACQUIRE is `acquire`, and so on
//   audit      AUDIT_NLGRP_READLOG is `readlog`
//   genl       a generic family, all its groups, or FAMILY/GROUP for one; or `genl` alone: nlctrl
//
// and any other family by the name that libnl gives it, with its groups by number, which do
// everywhere. For genl this asks the kernel.
// Throws std::runtime_error with a sentence that says what there is.
std::vector<NetlinkFamily> netlink_families(const std::vector<std::string>& texts);

}  // namespace nlmmap::tool
