// SPDX-License-Identifier: MIT
#include "tools/nlmmap/arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <system_error>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {

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
            return fmt::format("`{}` is no interval: say seconds, from 0.01 to 86400",
                               printable(text));
        },
        "");
}

CLI::Validator positive_count() {
    return CLI::Validator(
        [](std::string& text) {
            std::uint64_t count = 0;
            const char* end = text.data() + text.size();
            const auto [rest, error] = std::from_chars(text.data(), end, count);
            if (error == std::errc() && rest == end && count != 0) return std::string();
            return fmt::format("`{}` is no count: say a whole number from 1 on", printable(text));
        },
        "");
}

}  // namespace nlmmap::tool
