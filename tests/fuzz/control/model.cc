// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/model.h"

#include <linux/netlink.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "tests/fuzz/control/answer.h"
#include "tests/fuzz/control/grammar.h"

namespace fuzz {
namespace {

constexpr std::uint32_t kNoticeBytes = 64;

struct Parsed {
    std::map<std::uint16_t, std::span<const std::byte>> last;  // of each type
};

bool fits(const AttributeRule& rule, std::span<const std::byte> payload) {
    switch (rule.form) {
        case Form::u32:
            return payload.size() == 4;
        case Form::name: {
            // A NUL in time, and no more text than a name has, the last NUL apart.
            const auto head =
                payload.first(std::min<std::size_t>(payload.size(), NLMMAP_GROUP_NAME_BYTES));
            if (std::ranges::find(head, std::byte{0}) == head.end()) {
                return false;
            }
            const std::size_t bytes = payload.size() - (payload.back() == std::byte{0} ? 1 : 0);
            return bytes < NLMMAP_GROUP_NAME_BYTES;
        }
        default:
            return false;  // no request has one of these
    }
}

// The attributes, if all of them may be there and have the length that they should.
std::optional<Parsed> parse(const Bytes& bytes, const MessageRule& rule) {
    Parsed parsed;
    std::span<const std::byte> left(bytes);
    while (left.size() >= NLA_HDRLEN) {
        nlattr header{};
        std::memcpy(&header, left.data(), sizeof(header));
        if (header.nla_len < NLA_HDRLEN || header.nla_len > left.size()) {
            break;
        }
        const auto type = static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK);
        const auto payload = left.subspan(NLA_HDRLEN, header.nla_len - NLA_HDRLEN);
        if (type == 0 || std::ranges::find(rule.attributes, type) == rule.attributes.end() ||
            (header.nla_type & NLA_F_NESTED) != 0 || !fits(kAttributes[type], payload)) {
            return std::nullopt;
        }
        parsed.last[type] = payload;
        left = left.subspan(std::min<std::size_t>(NLA_ALIGN(header.nla_len), left.size()));
    }
    if (!left.empty()) {
        return std::nullopt;
    }
    return parsed;
}

std::optional<std::uint32_t> u32(const Parsed& parsed, std::uint16_t type) {
    const auto found = parsed.last.find(type);
    if (found == parsed.last.end()) {
        return std::nullopt;
    }
    std::uint32_t value = 0;
    std::memcpy(&value, found->second.data(), sizeof(value));
    return value;
}

std::string group_name(unsigned index) {
    return index < kGroups.size() ? std::string(kGroups[index])
                                  : "fuzz-filler-" + std::to_string(index - kGroups.size());
}

// Which group is asked for: its index; -1: none that there is; nothing: not exactly one.
std::optional<int> asked(const Parsed& parsed, const GroupIds& groups) {
    const auto id = u32(parsed, NLMMAP_A_GROUP_ID);
    const auto name = parsed.last.find(NLMMAP_A_GROUP_NAME);
    if (id.has_value() == (name != parsed.last.end())) {
        return std::nullopt;
    }
    for (unsigned i = 0; i < groups.size(); ++i) {
        if (id ? groups[i] == *id
               : group_name(i) == reinterpret_cast<const char*>(name->second.data())) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

// Of a socket that has no ring yet.
std::set<int> expected_ring(const Parsed& parsed, std::uint32_t known_flags) {
    const auto bytes = u32(parsed, NLMMAP_A_RX_BYTES);
    const std::uint32_t flags = u32(parsed, NLMMAP_A_FLAGS).value_or(0);
    if (!bytes) {
        return {EINVAL};
    }
    if ((flags & ~known_flags) != 0) {
        return {EOPNOTSUPP};
    }
    if (*bytes < static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE)) ||
        (*bytes & (*bytes - 1)) != 0) {
        return {EINVAL};
    }
    if (*bytes > kMaxRingBytes) {
        return {ERANGE};
    }
    return {0, ENOMEM};
}

std::set<int> expected_setup(const Parsed& parsed, const SocketState& state) {
    const std::set<int> errors = expected_ring(parsed, NLMMAP_SETUP_TIME);
    return errors.contains(0) && state.ring_bytes != 0 ? std::set<int>{EBUSY} : errors;
}

std::set<int> expected_attach(const Request& request, const Parsed& parsed, const Rights& rights) {
    if (!parsed.last.contains(NLMMAP_A_RX_BYTES) || !request.named) {
        return {EINVAL};
    }
    if (*request.named == Named::nothing) {
        return {EBADF};
    }
    if (*request.named == Named::file) {
        return {ENOTSOCK};
    }
    if (!rights.attaches) {
        return {EPERM};
    }
    if (*request.named == Named::elsewhere) {
        return {EAFNOSUPPORT};
    }
    if (*request.named == Named::ours) {
        return {EINVAL};
    }
    if (*request.named == Named::attached) {
        return {EBUSY};
    }
    std::set<int> errors =
        expected_ring(parsed, NLMMAP_SETUP_TIME | std::uint32_t{NLMMAP_SETUP_CREDENTIALS});
    if (*request.named == Named::either) {
        errors.insert(EBUSY);
    }
    return errors;
}

std::set<int> expected_info(Named named) {
    switch (named) {
        case Named::nothing:
            return {EBADF};
        case Named::file:
            return {ENOTSOCK};
        case Named::elsewhere:
        case Named::plain:
            return {ENODEV};
        case Named::attached:
            return {0, ENOMEM};
        case Named::ours:
        case Named::either:
            break;
    }
    return {0, ENODEV, ENOMEM};
}

std::set<int> expected_group(const Request& request, const Parsed& parsed, const SocketState& state,
                             const Rights& rights, const GroupIds& groups) {
    const auto group = asked(parsed, groups);
    if (!group) {
        return {EINVAL};
    }
    if (*group < 0 || !rights.sees_groups) {
        return {ENOENT};
    }
    const auto index = static_cast<unsigned>(*group);
    const bool member = state.joined.contains(index);
    if (request.type == NLMMAP_MSG_GROUP_GET) {
        return {0};
    }
    if (request.type == NLMMAP_MSG_LEAVE) {
        return member ? std::set<int>{0, ENOMEM} : std::set<int>{ENOENT};
    }
    if (index == kPrivate && !rights.admin) {
        return {EPERM};
    }
    if (member) {
        return {EALREADY};
    }
    if ((index == kLarge ? kLargeMaxBytes : kMaxBytes) > state.ring_bytes / 4) {
        return {EMSGSIZE};
    }
    if ((state.joined.size() + 1) * kNoticeBytes > state.ring_bytes / 4) {
        return {ENOSPC};
    }
    // EAGAIN: what is unread may stand where the notice's room should be.
    return {0, EAGAIN, ENOMEM};
}

}  // namespace

bool Request::reaches() const { return (flags & NLM_F_REQUEST) != 0 && type >= NLMSG_MIN_TYPE; }

bool Request::wants_ack() const { return (flags & NLM_F_ACK) != 0; }

bool Request::is_dump() const {
    return reaches() && (flags & NLM_F_DUMP) == NLM_F_DUMP &&
           (type == NLMMAP_MSG_SOCKET_GET || type == NLMMAP_MSG_GROUP_GET);
}

std::optional<std::uint32_t> Request::descriptor() const {
    const auto found = attributes_of(attributes, 0, NLMMAP_A_FD);
    if (found.empty() || found.back().size() != sizeof(std::uint32_t)) {
        return std::nullopt;
    }
    std::uint32_t value = 0;
    std::memcpy(&value, found.back().data(), sizeof(value));
    return value;
}

std::uint32_t Request::ring_bytes() const {
    const auto found = attributes_of(attributes, 0, NLMMAP_A_RX_BYTES);
    std::uint32_t value = 0;
    if (!found.empty() && found.back().size() == sizeof(value)) {
        std::memcpy(&value, found.back().data(), sizeof(value));
    }
    return value;
}

Datagram take_apart(std::span<const std::byte> bytes) {
    Datagram datagram;
    while (bytes.size() >= NLMSG_HDRLEN) {
        nlmsghdr header{};
        std::memcpy(&header, bytes.data(), sizeof(header));
        if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > bytes.size()) {
            break;
        }
        const auto attributes = bytes.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
        datagram.requests.push_back({.type = header.nlmsg_type,
                                     .flags = header.nlmsg_flags,
                                     .seq = header.nlmsg_seq,
                                     .attributes = {attributes.begin(), attributes.end()}});
        bytes = bytes.subspan(std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), bytes.size()));
    }
    datagram.malformed_end = !bytes.empty();
    return datagram;
}

std::set<int> expected(const Request& request, const SocketState& state, const Rights& rights,
                       const GroupIds& groups) {
    if (!request.reaches()) {
        return {0};
    }
    const MessageRule* rule = rule_of(request.type);
    if (rule == nullptr || !rule->request) {
        return {EOPNOTSUPP};
    }
    MessageRule takes = *rule;
    if (request.is_dump() && request.type == NLMMAP_MSG_SOCKET_GET) {
        takes.attributes = {};
    }
    const auto parsed = parse(request.attributes, takes);
    if (!parsed) {
        return {EINVAL, ERANGE};
    }
    if (request.type == NLMMAP_MSG_SETUP) {
        return expected_setup(*parsed, state);
    }
    if (request.type == NLMMAP_MSG_ATTACH) {
        return expected_attach(request, *parsed, rights);
    }
    if (request.is_dump()) {
        if (request.type == NLMMAP_MSG_SOCKET_GET && !rights.admin) {
            return {EPERM};
        }
        return state.dumping ? std::set<int>{0, EBUSY} : std::set<int>{0};
    }
    if (request.type == NLMMAP_MSG_SOCKET_GET && request.named) {
        return expected_info(*request.named);
    }
    if (request.type != NLMMAP_MSG_GROUP_GET && state.ring_bytes == 0) {
        return {ENODEV};
    }
    if (request.type == NLMMAP_MSG_SOCKET_GET) {
        return {0};
    }
    return expected_group(request, *parsed, state, rights, groups);
}

void carry_out(const Request& request, SocketState& state, const GroupIds& groups) {
    if (!request.reaches()) {
        return;
    }
    if (request.is_dump()) {
        state.dumping = true;
        return;
    }
    const MessageRule* rule = rule_of(request.type);
    const auto parsed = rule != nullptr ? parse(request.attributes, *rule) : std::nullopt;
    if (!parsed) {
        return;
    }
    if (request.type == NLMMAP_MSG_SETUP) {
        state.ring_bytes = u32(*parsed, NLMMAP_A_RX_BYTES).value_or(0);
        return;
    }
    const int group = asked(*parsed, groups).value_or(-1);
    if (group < 0) {
        return;
    }
    if (request.type == NLMMAP_MSG_JOIN) {
        state.joined.insert(static_cast<unsigned>(group));
    } else if (request.type == NLMMAP_MSG_LEAVE) {
        state.joined.erase(static_cast<unsigned>(group));
    }
}

bool is_documented(std::uint16_t type, int error) {
    static const std::map<std::uint16_t, std::set<int>> errors = {
        {NLMMAP_MSG_SETUP, {EINVAL, ERANGE, EOPNOTSUPP, EBUSY, ENOMEM}},
        {NLMMAP_MSG_JOIN,
         {EINVAL, ERANGE, ENOENT, EPERM, ENODEV, EMSGSIZE, EALREADY, ENOSPC, EAGAIN, ENOMEM}},
        {NLMMAP_MSG_LEAVE, {EINVAL, ERANGE, ENOENT, ENODEV, ENOMEM}},
        {NLMMAP_MSG_SOCKET_GET, {EINVAL, ERANGE, ENODEV, EPERM, EBUSY, ENOMEM, EBADF, ENOTSOCK}},
        {NLMMAP_MSG_ATTACH,
         {EINVAL, ERANGE, EOPNOTSUPP, EBUSY, ENOMEM, EBADF, ENOTSOCK, EAFNOSUPPORT, EPERM}},
        {NLMMAP_MSG_GROUP_GET, {EINVAL, ERANGE, ENOENT, EBUSY, ENOMEM}},
    };
    const auto found = errors.find(type);
    return found != errors.end() ? found->second.contains(error) : error == EOPNOTSUPP;
}

std::string describe(const Request& request) {
    const MessageRule* rule = rule_of(request.type);
    return (rule != nullptr ? std::string(rule->name) : "type " + std::to_string(request.type)) +
           ", flags " + std::to_string(request.flags) + ", " +
           std::to_string(request.attributes.size()) + " bytes of attributes";
}

std::string errno_names(const std::set<int>& errors) {
    std::string text;
    for (const int error : errors) {
        const char* name = error == 0 ? "success" : strerrorname_np(error);
        text += (text.empty() ? "" : " or ") + std::string(name != nullptr ? name : "?");
    }
    return text;
}

}  // namespace fuzz
