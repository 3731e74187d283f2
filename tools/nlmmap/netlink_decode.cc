// SPDX-License-Identifier: MIT
#include "tools/nlmmap/netlink_decode.h"

#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netconf.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/object.h>
#include <netlink/route/link.h>
#include <netlink/socket.h>

#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

// RTM_* come in fours: new, delete, get, set.
constexpr int kRouteTypesPerObject = 4;

std::size_t route_header_bytes(int type) {
    switch (type - type % kRouteTypesPerObject) {
        case RTM_NEWLINK:
            return sizeof(ifinfomsg);
        case RTM_NEWADDR:
            return sizeof(ifaddrmsg);
        case RTM_NEWROUTE:
            return sizeof(rtmsg);
        case RTM_NEWNEIGH:
            return sizeof(ndmsg);
        case RTM_NEWRULE:
            return sizeof(fib_rule_hdr);
        case RTM_NEWQDISC:
        case RTM_NEWTCLASS:
        case RTM_NEWTFILTER:
        case RTM_NEWCHAIN:
            return sizeof(tcmsg);
        case RTM_NEWACTION:
            return sizeof(tcamsg);
        case RTM_NEWPREFIX:
            return sizeof(prefixmsg);
        case RTM_NEWNDUSEROPT:
            return sizeof(nduseroptmsg);
        case RTM_NEWNETCONF:
            return sizeof(netconfmsg);
        case RTM_NEWMDB:
            return sizeof(br_port_msg);
        case RTM_NEWNSID:
            return sizeof(rtgenmsg);
        case RTM_NEWSTATS:
            return sizeof(if_stats_msg);
        case RTM_NEWNEXTHOP:
            return sizeof(nhmsg);
        default:
            return 0;
    }
}

std::size_t header_bytes(int protocol, const Message& message) {
    if (message.type() < NLMSG_MIN_TYPE) return 0;  // the core's own: done, error
    switch (protocol) {
        case NETLINK_ROUTE:
            return route_header_bytes(message.type());
        case NETLINK_NETFILTER:
            return sizeof(nfgenmsg);
        case NETLINK_GENERIC:
            return GENL_HDRLEN;
        default:
            return 0;
    }
}

std::string_view action_of(int protocol, const Message& message, std::string_view object) {
    if (protocol == NETLINK_ROUTE) {
        switch (message.type() % kRouteTypesPerObject) {
            case RTM_NEWLINK % kRouteTypesPerObject:
                return "new";
            case RTM_DELLINK % kRouteTypesPerObject:
                return "del";
            default:
                return {};
        }
    }
    if (object == "netfilter/ct" || object == "netfilter/exp") {
        // IPCTNL_MSG_CT_NEW is a new one and a change; IPCTNL_MSG_*_DELETE the end of one.
        constexpr int kNew = 0;
        constexpr int kDelete = 2;
        switch (NFNL_MSG_TYPE(message.type())) {
            case kNew:
                return (message.flags() & NLM_F_CREATE) != 0 ? "new" : "change";
            case kDelete:
                return "del";
            default:
                return {};
        }
    }
    if (protocol == NETLINK_GENERIC && message.type() == GENL_ID_CTRL &&
        message.payload().size() >= GENL_HDRLEN) {
        switch (std::to_integer<int>(message.payload()[0])) {
            case CTRL_CMD_NEWFAMILY:
                return "new";
            case CTRL_CMD_DELFAMILY:
                return "del";
            case CTRL_CMD_NEWMCAST_GRP:
                return "new-group";
            case CTRL_CMD_DELMCAST_GRP:
                return "del-group";
            default:
                return {};
        }
    }
    return {};
}

struct Parsed {
    nl_cache* links;
    Decoded& decoded;
};

// libnl's line, its line breaks and other control characters gone.
std::string one_line(std::string_view text) {
    std::string line;
    for (const char c : text) {
        const bool space = c == ' ' || c == '\n' || c == '\t';
        if (!space) {
            line.push_back(c);
        } else if (!line.empty() && line.back() != ' ') {
            line.push_back(' ');
        }
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return printable(line);
}

void append(nl_dump_params* parameters, char* text) {
    *static_cast<std::string*>(parameters->dp_data) += text;
}

void on_object(nl_object* object, void* argument) {
    const auto& parsed = *static_cast<const Parsed*>(argument);
    parsed.decoded.object = nl_object_get_type(object);
    std::string text;
    nl_dump_params parameters{};
    parameters.dp_type = NL_DUMP_LINE;
    parameters.dp_cb = &append;
    parameters.dp_data = &text;
    nl_object_dump(object, &parameters);
    parsed.decoded.text = one_line(text);
    // After the dump: of a link that goes, its name is said once more.
    if (parsed.links != nullptr && parsed.decoded.object == "route/link")
        nl_cache_include(parsed.links, object, nullptr, nullptr);
}

}  // namespace

NetlinkDecoder::NetlinkDecoder(int protocol) : protocol_(protocol) {
    if (protocol != NETLINK_ROUTE) return;
    // Without the names the numbers do.
    const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket(nl_socket_alloc(),
                                                                     &nl_socket_free);
    if (!socket) throw std::bad_alloc();
    if (nl_connect(socket.get(), NETLINK_ROUTE) < 0) return;
    if (rtnl_link_alloc_cache(socket.get(), AF_UNSPEC, &links_) < 0) links_ = nullptr;
    if (links_ != nullptr) nl_cache_mngt_provide(links_);
}

NetlinkDecoder::~NetlinkDecoder() {
    if (links_ == nullptr) return;
    nl_cache_mngt_unprovide(links_);
    nl_cache_free(links_);
}

Decoded NetlinkDecoder::decode(const Message& message) {
    Decoded decoded;
    decoded.fixed_header_bytes = header_bytes(protocol_, message);
    if (message.type() < NLMSG_MIN_TYPE) return decoded;
    const std::unique_ptr<nl_msg, decltype(&nlmsg_free)> copy(
        nlmsg_convert(const_cast<nlmsghdr*>(message.get())), &nlmsg_free);
    if (!copy) throw std::bad_alloc();
    nlmsg_set_proto(copy.get(), protocol_);
    Parsed parsed{links_, decoded};
    if (nl_msg_parse(copy.get(), &on_object, &parsed) < 0) {
        decoded.object.clear();
        decoded.text.clear();
    }
    decoded.action = action_of(protocol_, message, decoded.object);
    return decoded;
}

}  // namespace nlmmap::tool
