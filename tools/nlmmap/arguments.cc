// SPDX-License-Identifier: MIT
#include "tools/nlmmap/arguments.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <system_error>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

struct Number {
    std::uint64_t value;
    std::string_view rest;
};

std::optional<Number> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc()) return std::nullopt;
    return Number{value, text.substr(static_cast<std::size_t>(rest - text.data()))};
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
    const auto number = parse_number(text);
    if (!number) return std::nullopt;
    std::string suffix;
    for (const char c : number->rest) {
        suffix.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
    if (suffix.empty() || suffix == "b") return number->value;
    constexpr std::string_view kUnits = "kmg";
    const std::size_t unit = kUnits.find(suffix.front());
    const std::string_view after = std::string_view(suffix).substr(1);
    if (unit == std::string_view::npos || !(after.empty() || after == "b" || after == "ib")) {
        return std::nullopt;
    }
    const unsigned shift = 10 * (static_cast<unsigned>(unit) + 1);
    if (number->value > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
    return number->value << shift;
}

CLI::Validator size_up_to(std::uint64_t most) {
    return CLI::Validator(
        [most](std::string& text) {
            const auto size = parse_size(text);
            if (!size) {
                return fmt::format("`{}` is no size: say bytes, or a number with k, M or G",
                                   printable(text));
            }
            if (*size > most) {
                return fmt::format("{} is too large: {} bytes at most", printable(text), most);
            }
            text = fmt::format("{}", *size);
            return std::string();
        },
        "");
}

CLI::Validator seconds_between_looks() {
    return CLI::Validator(
        [](std::string& text) {
            double seconds = 0;
            const char* end = text.data() + text.size();
            const auto [rest, error] = std::from_chars(text.data(), end, seconds);
            if (error == std::errc() && rest == end && seconds >= 0.01 && seconds <= 86400) {
                return std::string();
            }
            return fmt::format("`{}` does not do: say seconds, from 0.01 to 86400",
                               printable(text));
        },
        "");
}

CLI::Validator positive_count() {
    return CLI::Validator(
        [](std::string& text) {
            const auto number = parse_number(text);
            if (number && number->rest.empty() && number->value != 0) return std::string();
            return fmt::format("`{}` is no count: say a whole number from 1 on", printable(text));
        },
        "");
}

}  // namespace nlmmap::tool
