// SPDX-License-Identifier: MIT
//
// Attributes in attributes, for requests to netfilter.
#pragma once

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tests/guest/raw_netlink.h"

namespace drop_in {

// Attributes one after the other, as they stand in another one.
class Nested {
  public:
    template <typename T>
    Nested& put(std::uint16_t type, const T& value) {
        request_.put(type, &value, sizeof(value));
        return *this;
    }
    Nested& put(std::uint16_t type, const Nested& inner) {
        const auto bytes = inner.bytes();
        request_.put(type | NLA_F_NESTED, bytes.data(), bytes.size());
        return *this;
    }
    Nested& text(std::uint16_t type, std::string_view text) {
        request_.string(type, text);
        return *this;
    }
    [[nodiscard]] std::span<const std::byte> bytes() const {
        return std::span(request_.bytes()).subspan(NLMSG_HDRLEN);
    }

  private:
    guest::Request request_{0, 0};
};

// A message of netfilter's: `type` has the subsystem in it.
inline guest::Request netfilter_request(int type, int flags, std::uint8_t family,
                                        std::uint16_t resource, const Nested& attributes) {
    const nfgenmsg fixed{
        .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
    guest::Request request(static_cast<std::uint16_t>(type), static_cast<std::uint16_t>(flags));
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    request.raw(attributes.bytes());
    return request;
}

}  // namespace drop_in
