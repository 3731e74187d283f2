// SPDX-License-Identifier: MIT
#include "tools/nlmmap/generic_family.h"

#include <fmt/format.h>
#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <stdexcept>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

void add_groups(GenericFamily& family, const nlattr* groups) {
    int left = nla_len(groups);
    for (auto* group = static_cast<nlattr*>(nla_data(groups)); nla_ok(group, left) != 0;
         group = nla_next(group, &left)) {
        std::array<nlattr*, CTRL_ATTR_MCAST_GRP_MAX + 1> attributes{};
        if (nla_parse_nested(attributes.data(), CTRL_ATTR_MCAST_GRP_MAX, group, nullptr) < 0)
            continue;
        const nlattr* const name = attributes[CTRL_ATTR_MCAST_GRP_NAME];
        const nlattr* const id = attributes[CTRL_ATTR_MCAST_GRP_ID];
        if (name == nullptr || id == nullptr) continue;
        family.groups.push_back({nla_get_u32(id), nla_get_string(name)});
    }
}

int on_answer(nl_msg* message, void* argument) {
    auto& family = *static_cast<std::optional<GenericFamily>*>(argument);
    std::array<nlattr*, CTRL_ATTR_MAX + 1> attributes{};
    if (genlmsg_parse(nlmsg_hdr(message), 0, attributes.data(), CTRL_ATTR_MAX, nullptr) < 0)
        return NL_SKIP;
    family.emplace();
    if (const nlattr* const id = attributes[CTRL_ATTR_FAMILY_ID]) family->id = nla_get_u16(id);
    if (const nlattr* const bytes = attributes[CTRL_ATTR_HDRSIZE])
        family->fixed_header_bytes = nla_get_u32(bytes);
    if (const nlattr* const groups = attributes[CTRL_ATTR_MCAST_GROUPS])
        add_groups(*family, groups);
    return NL_OK;
}

}  // namespace

GenericFamily generic_family(const std::string& name) {
    const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket(nl_socket_alloc(),
                                                                     &nl_socket_free);
    const std::unique_ptr<nl_msg, decltype(&nlmsg_free)> request(nlmsg_alloc(), &nlmsg_free);
    if (!socket || !request) throw std::bad_alloc();
    if (const int error = genl_connect(socket.get()); error < 0)
        throw std::runtime_error(fmt::format("cannot use generic netlink: {}", nl_geterror(error)));
    std::optional<GenericFamily> family;
    nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, &on_answer, &family);
    if (genlmsg_put(request.get(), NL_AUTO_PORT, NL_AUTO_SEQ, GENL_ID_CTRL, 0, NLM_F_ACK,
                    CTRL_CMD_GETFAMILY, 1) == nullptr ||
        nla_put_string(request.get(), CTRL_ATTR_FAMILY_NAME, name.c_str()) < 0)
        throw std::bad_alloc();
    int error = nl_send_auto(socket.get(), request.get());
    if (error >= 0) error = nl_recvmsgs_default(socket.get());
    if (!family)
        throw std::runtime_error(
            fmt::format("there is no generic netlink family `{}`: is its module loaded? ({})",
                        printable(name), error < 0 ? nl_geterror(error) : "no answer"));
    return *family;
}

}  // namespace nlmmap::tool
