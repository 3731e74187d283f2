// SPDX-License-Identifier: MIT
//
// Any bytes at all as a datagram: Message, Attribute and their iterators find the
// same as a second parser does, and look at nothing beyond.
#include <cstdint>
#include <iterator>
#include <nlmmap/message.hpp>
#include <string_view>

#include "tests/fuzz/framing/target.h"

namespace fuzz {
namespace {

constexpr int kDepth = 5;

template <typename T>
void check_value(const nlmmap::Attribute& attribute) {
    const auto value = attribute.as<T>();
    demand(value.has_value() == (attribute.payload().size() == sizeof(T)),
           "as<T>() is for payloads of exactly that size");
    demand(!value || std::memcmp(&*value, attribute.payload().data(), sizeof(T)) == 0,
           "as<T>() is the payload");
}

void check_attributes(Bytes bytes, const nlmmap::Attributes& attributes, int depth) {
    const std::vector<Found> expected = walk<nlattr>(bytes);
    std::size_t at = 0;
    for (const nlmmap::Attribute& attribute : attributes) {
        demand(at < expected.size(), "no more attributes than there are");
        const Found& one = expected[at++];
        demand(reinterpret_cast<const std::byte*>(attribute.get()) == bytes.data() + one.at,
               "attributes lie where they do");
        demand(attribute.type() == one.type, "an attribute's type");
        const Bytes payload = attribute.payload();
        demand(payload.data() == bytes.data() + one.at + NLA_HDRLEN &&
                   payload.size() == one.bytes - NLA_HDRLEN,
               "an attribute's payload");
        const std::string_view text = attribute.string();
        demand(text.size() <= payload.size() && text.find('\0') == std::string_view::npos,
               "string() ends at a NUL or with the payload");
        demand(text.size() == payload.size() || payload[text.size()] == std::byte{0},
               "string() does not end before");
        check_value<std::uint8_t>(attribute);
        check_value<std::uint16_t>(attribute);
        check_value<std::uint32_t>(attribute);
        check_value<std::uint64_t>(attribute);
        if (depth > 0) check_attributes(payload, attribute.nested(), depth - 1);
    }
    demand(at == expected.size(), "all attributes that there are");
    demand(attributes.empty() == expected.empty(), "empty() says whether there is one");
    if (!expected.empty()) {
        const std::uint16_t last = expected.back().type;
        const auto first = std::ranges::find(expected, last, &Found::type);
        demand(
            reinterpret_cast<const std::byte*>(attributes.find(last)) == bytes.data() + first->at,
            "find() gives the first of a type");
    }
}

void check_datagram(Bytes datagram, std::size_t fixed_header_bytes) {
    const std::vector<Found> expected = walk<nlmsghdr>(datagram);
    std::size_t at = 0;
    for (nlmmap::MessageIterator it(datagram); it != std::default_sentinel; ++it) {
        demand(at < expected.size(), "no more messages than there are");
        const Found& one = expected[at++];
        const Bytes bytes = it->bytes();
        demand(bytes.data() == datagram.data() + one.at && bytes.size() == one.bytes,
               "messages lie where they do");
        demand(it->type() == one.type, "a message's type");
        demand(it->payload().data() == bytes.data() + NLMSG_HDRLEN, "a message's payload");

        const std::size_t skip = (fixed_header_bytes + 3) / 4 * 4;
        const bool shorter = NLMSG_HDRLEN + skip > bytes.size();
        const Bytes rest = shorter ? Bytes{} : bytes.subspan(NLMSG_HDRLEN + skip);
        check_attributes(rest, it->attributes(fixed_header_bytes), kDepth);

        const nlmmap::OwnedMessage copy = it->copy();
        demand(std::ranges::equal(copy.view().bytes(), bytes), "a copy is equal");
    }
    demand(at == expected.size(), "all messages that there are");
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::size_t fixed_header_bytes = input.take<std::uint8_t>() % 40;
    const fuzz::Exactly datagram(input.take_rest());
    fuzz::check_datagram(datagram.bytes(), fixed_header_bytes);
    return 0;
}
