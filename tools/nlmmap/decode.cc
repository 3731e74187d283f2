// SPDX-License-Identifier: MIT
#include "tools/nlmmap/decode.h"

#include <fmt/format.h>
#include <linux/netlink.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <nlmmap/message.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

using Bytes = std::span<const std::byte>;

// Calls `visit` for each attribute; the answer is what follows the last whole one.
template <typename Visit>
Bytes for_each_attribute(Bytes bytes, Visit visit) {
    const std::byte* end = bytes.data();
    for (const Attribute& attribute : Attributes(bytes)) {
        visit(attribute);
        end = attribute.payload().data() + attribute.payload().size();
    }
    const auto used = static_cast<std::size_t>(end - bytes.data());
    return bytes.subspan(std::min<std::size_t>(NLA_ALIGN(used), bytes.size()));
}

bool is_big_endian(const Attribute& attribute) {
    return (attribute.get()->nla_type & NLA_F_NET_BYTEORDER) != 0;
}

std::optional<std::uint64_t> as_number(Bytes payload, bool big_endian) {
    if (payload.size() != 1 && payload.size() != 2 && payload.size() != 4 && payload.size() != 8) {
        return std::nullopt;
    }
    const bool most_first = big_endian || std::endian::native == std::endian::big;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < payload.size(); ++i) {
        const std::size_t place = most_first ? i : payload.size() - 1 - i;
        value = (value << 8) | std::to_integer<std::uint64_t>(payload[place]);
    }
    return value;
}

void append_text(std::string& text, Bytes bytes, int depth);

void append_attribute_text(std::string& text, const Attribute& attribute, int depth) {
    const Bytes payload = attribute.payload();
    fmt::format_to(std::back_inserter(text), "{}", attribute.type());
    if (attribute.is_nested() && depth < kMaxNesting) {
        text += "={";
        append_text(text, payload, depth + 1);
        text += "}";
        return;
    }
    if (payload.empty()) return;  // its presence is all that it says
    const auto string = as_string(payload);
    if (const auto number = as_number(payload, is_big_endian(attribute))) {
        fmt::format_to(std::back_inserter(text), "={} (0x{:x}", *number, *number);
        if (string) text += ", " + quoted(*string);
        text += ")";
    } else if (string) {
        text += "=" + quoted(*string);
    } else {
        text += "=" + hex_list(payload);
    }
}

void append_text(std::string& text, Bytes bytes, int depth) {
    std::string_view separator;
    const auto separate = [&] {
        text += separator;
        separator = "  ";
    };
    const Bytes rest = for_each_attribute(bytes, [&](const Attribute& attribute) {
        separate();
        append_attribute_text(text, attribute, depth);
    });
    if (!rest.empty()) {
        separate();
        text += "rest=" + hex_list(rest);
    }
}

void add_json(nlohmann::ordered_json& object, Bytes bytes, int depth);

nlohmann::ordered_json attribute_json(const Attribute& attribute, int depth) {
    const Bytes payload = attribute.payload();
    nlohmann::ordered_json result = {{"type", attribute.type()}};
    if (attribute.is_nested() && depth < kMaxNesting) {
        add_json(result, payload, depth + 1);
        return result;
    }
    if (const auto number = as_number(payload, is_big_endian(attribute))) {
        result[fmt::format("u{}", 8 * payload.size())] = *number;
    }
    if (const auto string = as_string(payload)) result["string"] = *string;
    if (is_big_endian(attribute)) result["big_endian"] = true;
    result["hex"] = hex(payload);
    return result;
}

void add_json(nlohmann::ordered_json& object, Bytes bytes, int depth) {
    auto list = nlohmann::ordered_json::array();
    const Bytes rest = for_each_attribute(bytes, [&](const Attribute& attribute) {
        list.push_back(attribute_json(attribute, depth));
    });
    object["attributes"] = std::move(list);
    if (!rest.empty()) object["rest"] = hex(rest);
}

}  // namespace

std::string attributes_text(std::span<const std::byte> bytes) {
    std::string text;
    append_text(text, bytes, 0);
    return text;
}

void add_attributes_json(nlohmann::ordered_json& object, std::span<const std::byte> bytes) {
    add_json(object, bytes, 0);
}

}  // namespace nlmmap::tool
