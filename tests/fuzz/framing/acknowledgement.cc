// SPDX-License-Identifier: MIT
//
// Any bytes at all as the kernel's acknowledgement: the sentence in it is one
// that lies there, after the request that the acknowledgement repeats.
#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "request.hpp"  // libnlmmap/src/
#include "tests/fuzz/framing/target.h"

namespace fuzz {
namespace {

// Where the attributes begin, if they do.
std::uint64_t attributes_begin(const nlmsghdr& header, const nlmsgerr& error) {
    std::uint64_t fixed = NLMSG_HDRLEN + sizeof(nlmsgerr);
    if ((header.nlmsg_flags & NLM_F_CAPPED) == 0) {
        if (error.msg.nlmsg_len < NLMSG_HDRLEN) return header.nlmsg_len;
        fixed += error.msg.nlmsg_len - NLMSG_HDRLEN;
    }
    return (fixed + 3) / 4 * 4;
}

// The last one's, as everywhere in netlink; none, if one of them does not end with a NUL.
std::string expected_sentence(Bytes attributes) {
    std::string sentence;
    for (const Found& one : walk<nlattr>(attributes)) {
        if (one.type != NLMSGERR_ATTR_MSG) continue;
        const std::string_view payload(
            reinterpret_cast<const char*>(attributes.data()) + one.at + NLA_HDRLEN,
            one.bytes - NLA_HDRLEN);
        if (!payload.ends_with('\0')) return {};
        sentence = payload.substr(0, payload.find('\0'));
    }
    return sentence;
}

void check(const std::vector<std::byte>& taken, std::uint16_t flags) {
    std::vector<std::byte> message(sizeof(nlmsghdr) + sizeof(nlmsgerr));
    message.insert(message.end(), taken.begin(), taken.end());
    // What is repeated comes from the input, too.
    const std::size_t over = std::min(taken.size(), sizeof(nlmsgerr));
    std::copy_n(taken.begin(), over, message.begin() + sizeof(nlmsghdr));
    const nlmsghdr header{.nlmsg_len = static_cast<std::uint32_t>(message.size()),
                          .nlmsg_type = NLMSG_ERROR,
                          .nlmsg_flags = flags,
                          .nlmsg_seq = 1,
                          .nlmsg_pid = 2};
    std::memcpy(message.data(), &header, sizeof(header));
    const Exactly exact(message);
    nlmsgerr error{};
    std::memcpy(&error, message.data() + sizeof(header), sizeof(error));

    // libnl wants what it only reads without const.
    auto* whole = reinterpret_cast<nlmsghdr*>(const_cast<std::byte*>(exact.bytes().data()));
    const std::string sentence = nlmmap::extended_ack_sentence(whole);
    const std::uint64_t begin = attributes_begin(header, error);
    if (begin > message.size() || (flags & NLM_F_ACK_TLVS) == 0) {
        demand(sentence.empty(), "there is no sentence where there are no attributes");
        return;
    }
    demand(sentence == expected_sentence(exact.bytes().subspan(static_cast<std::size_t>(begin))),
           "the sentence is that of NLMSGERR_ATTR_MSG");
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t flags = input.take<std::uint8_t>();
    fuzz::check(input.take_rest(),
                static_cast<std::uint16_t>(((flags & 1) != 0 ? NLM_F_ACK_TLVS : 0) |
                                           ((flags & 2) != 0 ? NLM_F_CAPPED : 0)));
    return 0;
}
