// SPDX-License-Identifier: MIT
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <nlmmap/linux/nlmmap.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <nlmmap/socket.hpp>
#include <utility>

#include "request.hpp"
#include "socket_state.hpp"

namespace nlmmap {

namespace {

using Parsed = std::array<nlattr*, NLMMAP_A_MAX + 1>;

Parsed parse(nlmsghdr* message, const std::string& operation) {
    static const auto policy = [] {
        std::array<nla_policy, NLMMAP_A_MAX + 1> made{};
        for (const int attribute :
             {NLMMAP_A_RX_BYTES, NLMMAP_A_FLAGS, NLMMAP_A_GROUP_ID, NLMMAP_A_ABI_VERSION,
              NLMMAP_A_HEADER_BYTES, NLMMAP_A_PORTID, NLMMAP_A_UID, NLMMAP_A_GROUP_FLAGS,
              NLMMAP_A_MAX_BYTES, NLMMAP_A_MEMBERS, NLMMAP_A_PROTOCOL})
            made.at(static_cast<std::size_t>(attribute)).type = NLA_U32;
        for (const int attribute :
             {NLMMAP_A_FEATURES, NLMMAP_A_INODE, NLMMAP_A_PRODUCED, NLMMAP_A_CONSUMED, NLMMAP_A_SEQ,
              NLMMAP_A_LOST, NLMMAP_A_HIGH_WATER, NLMMAP_A_WAKEUPS, NLMMAP_A_FORGED,
              NLMMAP_A_PUBLISHED})
            made.at(static_cast<std::size_t>(attribute)).type = NLA_U64;
        made.at(NLMMAP_A_GROUP_NAME).type = NLA_STRING;
        made.at(NLMMAP_A_PLAIN).type = NLA_FLAG;
        return made;
    }();
    Parsed attributes{};
    if (nlmsg_parse(message, 0, attributes.data(), NLMMAP_A_MAX, policy.data()) < 0)
        throw Error(EBADMSG, operation, {}, "the module's answer has an attribute of a wrong size");
    return attributes;
}

std::uint32_t u32(const Parsed& attributes, std::size_t which) {
    return attributes.at(which) != nullptr ? nla_get_u32(attributes.at(which)) : 0;
}

std::uint64_t u64(const Parsed& attributes, std::size_t which) {
    return attributes.at(which) != nullptr ? nla_get_u64(attributes.at(which)) : 0;
}

GroupInfo group_info(nlmsghdr* message, const std::string& operation) {
    const Parsed attributes = parse(message, operation);
    GroupInfo info;
    info.id = static_cast<std::uint16_t>(u32(attributes, NLMMAP_A_GROUP_ID));
    if (const nlattr* name = attributes.at(NLMMAP_A_GROUP_NAME)) {
        const auto* text = static_cast<const char*>(nla_data(name));
        info.name.assign(text, ::strnlen(text, static_cast<std::size_t>(nla_len(name))));
    }
    info.is_public = (u32(attributes, NLMMAP_A_GROUP_FLAGS) & NLMMAP_GROUP_PUBLIC) != 0;
    info.max_bytes = u32(attributes, NLMMAP_A_MAX_BYTES);
    info.members = u32(attributes, NLMMAP_A_MEMBERS);
    info.plain = attributes.at(NLMMAP_A_PLAIN) != nullptr;
    info.published = u64(attributes, NLMMAP_A_PUBLISHED);
    return info;
}

// A socket of the family with what every request here relies on. Not by nl_connect(), which would
// leave it with a receive buffer of 32 KiB, less than any plain socket has.
detail::NetlinkSocket open_socket() {
    const std::string operation = "open a socket of the nlmmap family";
    const int number = family();
    const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, number);
    if (fd < 0) {
        const int errnum = errno;
        throw Error(errnum, operation, {},
                    errnum == EPROTONOSUPPORT ? "the module has just been unloaded" : "");
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    const int on = 1;
    const bool ready =
        ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
        ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)) == 0 &&
        ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) == 0;
    const int errnum = errno;
    detail::NetlinkSocket socket(ready ? nl_socket_alloc() : nullptr);
    const int adopted = socket ? nl_socket_set_fd(socket.get(), number, fd) : -NLE_NOMEM;
    if (adopted < 0) {
        ::close(fd);
        throw Error(ready ? ENOMEM : errnum, operation, {}, ready ? nl_geterror(adopted) : "");
    }
    // Ask for each message's size first: a dump's parts are larger than libnl's default buffer.
    nl_socket_enable_msg_peek(socket.get());
    return socket;
}

}  // namespace

int family() {
    const std::string operation = "find the nlmmap family";
    const std::string path = "/sys/module/nlmmap/parameters/family";
    errno = 0;
    std::ifstream file(path);
    int number = 0;
    if (file >> number) return number;
    if (errno != 0 && errno != ENOENT) throw Error(errno, operation + " in " + path);
    throw Error(EPROTONOSUPPORT, operation, {},
                "the kernel module nlmmap is not loaded: `modprobe nlmmap`, or, from its build "
                "tree, `insmod kernel-module/nlmmap.ko`, as root");
}

namespace detail {

void FreeSocket::operator()(nl_sock* socket) const noexcept { nl_socket_free(socket); }

std::string quoted(std::string_view name) { return '"' + std::string(name) + '"'; }

void check_name(std::string_view name, const std::string& operation) {
    if (name.empty()) throw Error(EINVAL, operation, {}, "a group's name has at least 1 character");
    if (name.size() >= NLMMAP_GROUP_NAME_BYTES || name.find('\0') != std::string_view::npos)
        throw Error(EINVAL, operation, {},
                    "a group's name has at most " + std::to_string(NLMMAP_GROUP_NAME_BYTES - 1) +
                        " characters, none of them NUL");
}

SocketInfo socket_info(nlmsghdr* message, const std::string& operation) {
    const Parsed attributes = parse(message, operation);
    SocketInfo info;
    info.abi_version = u32(attributes, NLMMAP_A_ABI_VERSION);
    info.portid = u32(attributes, NLMMAP_A_PORTID);
    info.inode = u64(attributes, NLMMAP_A_INODE);
    info.uid = u32(attributes, NLMMAP_A_UID);
    info.rx_bytes = u32(attributes, NLMMAP_A_RX_BYTES);
    info.header_bytes = u32(attributes, NLMMAP_A_HEADER_BYTES);
    if (attributes.at(NLMMAP_A_PROTOCOL) != nullptr)
        info.protocol = static_cast<int>(u32(attributes, NLMMAP_A_PROTOCOL));
    info.features = u64(attributes, NLMMAP_A_FEATURES);
    info.produced = u64(attributes, NLMMAP_A_PRODUCED);
    info.consumed = u64(attributes, NLMMAP_A_CONSUMED);
    info.seq = u64(attributes, NLMMAP_A_SEQ);
    info.lost = u64(attributes, NLMMAP_A_LOST);
    info.high_water = u64(attributes, NLMMAP_A_HIGH_WATER);
    info.wakeups = u64(attributes, NLMMAP_A_WAKEUPS);
    info.forged = u64(attributes, NLMMAP_A_FORGED);
    int left = 0;
    nlattr* attribute = nullptr;
    nlmsg_for_each_attr(attribute, message, 0, left) {
        if (nla_type(attribute) == NLMMAP_A_GROUP_ID &&
            nla_len(attribute) == static_cast<int>(sizeof(std::uint32_t)))
            info.groups.push_back(static_cast<std::uint16_t>(nla_get_u32(attribute)));
    }
    return info;
}

}  // namespace detail

Socket::Socket() : state_(std::make_unique<State>()) { state_->socket = open_socket(); }
Socket::~Socket() = default;
Socket::Socket(Socket&&) noexcept = default;
Socket& Socket::operator=(Socket&&) noexcept = default;

nl_sock* Socket::get() const noexcept { return state_->socket.get(); }
int Socket::fd() const noexcept { return nl_socket_get_fd(state_->socket.get()); }

std::vector<GroupInfo> Socket::groups() {
    std::vector<GroupInfo> found;
    Request request("list groups", NLMMAP_MSG_GROUP_GET, NLM_F_DUMP);
    Verdict verdict = request.run(
        state_->requests(), NLMMAP_MSG_GROUP,
        [&](nlmsghdr* answer) { found.push_back(group_info(answer, request.operation())); },
        [&] { found.clear(); });
    if (verdict.errnum != 0)
        throw Error(verdict.errnum, request.operation(), std::move(verdict.sentence));
    std::ranges::sort(found, {}, &GroupInfo::id);
    return found;
}

std::string detail::SocketAccess::known_groups(Socket& socket) {
    std::vector<GroupInfo> groups;
    try {
        groups = socket.groups();
    } catch (const Error&) {
        return {};  // the first error is the one to be told
    }
    if (groups.empty())
        return "there are no groups in this network namespace: is the module that publishes "
               "loaded?";
    std::string text = "groups here:";
    for (const GroupInfo& group : groups) text += ' ' + group.name;
    return text;
}

GroupInfo Socket::group(std::string_view name) {
    return detail::SocketAccess::find_group(*this, name, "get group " + detail::quoted(name));
}

GroupInfo detail::SocketAccess::find_group(Socket& socket, std::string_view name,
                                           const std::string& operation) {
    check_name(name, operation);
    GroupInfo found;
    Verdict verdict = Request(operation, NLMMAP_MSG_GROUP_GET)
                          .put_string(NLMMAP_A_GROUP_NAME, name)
                          .run(socket.state_->requests(), NLMMAP_MSG_GROUP,
                               [&](nlmsghdr* answer) { found = group_info(answer, operation); });
    if (verdict.errnum == ENOENT)
        throw Error(ENOENT, operation, std::move(verdict.sentence), known_groups(socket));
    if (verdict.errnum != 0) throw Error(verdict.errnum, operation, std::move(verdict.sentence));
    return found;
}

std::vector<SocketInfo> Socket::sockets() {
    std::vector<SocketInfo> found;
    Request request("list sockets with rings", NLMMAP_MSG_SOCKET_GET, NLM_F_DUMP);
    Verdict verdict = request.run(
        state_->requests(), NLMMAP_MSG_SOCKET,
        [&](nlmsghdr* answer) {
            found.push_back(detail::socket_info(answer, request.operation()));
        },
        [&] { found.clear(); });
    if (verdict.errnum != 0)
        throw Error(verdict.errnum, request.operation(), std::move(verdict.sentence),
                    verdict.errnum == EPERM ? detail::kGetNetAdmin : "");
    return found;
}

SocketInfo Socket::info() {
    const std::string operation = "get the socket's ring";
    // Asked over another descriptor, the kernel would speak of that one.
    if (state_->control) throw Error(ENODEV, operation, {}, "a subscribed socket has no ring");
    SocketInfo found;
    Verdict verdict = Request(operation, NLMMAP_MSG_SOCKET_GET)
                          .run(state_->requests(), NLMMAP_MSG_SOCKET, [&](nlmsghdr* answer) {
                              found = detail::socket_info(answer, operation);
                          });
    if (verdict.errnum != 0) throw Error(verdict.errnum, operation, std::move(verdict.sentence));
    return found;
}

void Socket::subscribe(std::string_view group) {
    const std::string operation = "subscribe to group " + detail::quoted(group);
    if (state_->has_ring)
        throw Error(EBUSY, operation, {},
                    "this socket has a ring: join the group with the receiver, or subscribe with "
                    "another Socket");
    // From the first membership on, group messages may stand between a request and its answer here.
    if (!state_->control) state_->control = open_socket();
    const int number = detail::SocketAccess::find_group(*this, group, operation).id;
    nl_socket_disable_seq_check(get());
    if (::setsockopt(fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &number, sizeof(number)) < 0) {
        const int errnum = errno;
        throw Error(errnum, operation, {}, errnum == EPERM ? detail::kNeedsNetAdmin : "");
    }
}

void Socket::unsubscribe(std::string_view group) {
    const std::string operation = "unsubscribe from group " + detail::quoted(group);
    const int number = detail::SocketAccess::find_group(*this, group, operation).id;
    if (::setsockopt(fd(), SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &number, sizeof(number)) < 0)
        throw Error(errno, operation);
}

}  // namespace nlmmap
