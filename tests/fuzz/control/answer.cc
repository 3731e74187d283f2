// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/answer.h"

#include <linux/netlink.h>

#include <cstring>

namespace fuzz {

std::vector<Bytes> attributes_of(const Bytes& bytes, std::size_t at, std::uint16_t type) {
    std::vector<Bytes> found;
    while (at + sizeof(nlattr) <= bytes.size()) {
        nlattr header{};
        std::memcpy(&header, bytes.data() + at, sizeof(header));
        if (header.nla_len < NLA_HDRLEN || at + header.nla_len > bytes.size()) {
            break;
        }
        if ((header.nla_type & NLA_TYPE_MASK) == type) {
            const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
            found.emplace_back(begin + NLA_HDRLEN, begin + header.nla_len);
        }
        at += NLA_ALIGN(header.nla_len);
    }
    return found;
}

std::string sentence_of(const Bytes& payload, std::uint16_t flags) {
    if ((flags & NLM_F_ACK_TLVS) == 0 || payload.size() < sizeof(nlmsgerr)) {
        return {};
    }
    std::size_t at = sizeof(nlmsgerr);
    nlmsgerr error{};
    std::memcpy(&error, payload.data(), sizeof(error));
    if ((flags & NLM_F_CAPPED) == 0 && error.msg.nlmsg_len > NLMSG_HDRLEN) {
        at += ((std::size_t{error.msg.nlmsg_len} + 3) & ~std::size_t{3}) - NLMSG_HDRLEN;
    }
    const auto found = attributes_of(payload, at, NLMSGERR_ATTR_MSG);
    if (found.empty()) {
        return {};
    }
    const auto* text = reinterpret_cast<const char*>(found[0].data());
    return {text, strnlen(text, found[0].size())};
}

std::uint32_t u32_of(const Bytes& payload, std::uint16_t type) {
    std::uint32_t value = 0;
    const auto found = attributes_of(payload, 0, type);
    if (!found.empty() && found[0].size() == sizeof(value)) {
        std::memcpy(&value, found[0].data(), sizeof(value));
    }
    return value;
}

}  // namespace fuzz
