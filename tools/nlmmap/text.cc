// SPDX-License-Identifier: MIT
#include "tools/nlmmap/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <iterator>
#include <limits>
#include <system_error>

namespace nlmmap::tool {
namespace {

struct Decoded {
    char32_t character;
    std::size_t bytes;
};

// The first character of a text that is not empty; nothing if it is not valid UTF-8 (overlong
// forms, surrogates and numbers above U+10FFFF included).
std::optional<Decoded> decode_utf8(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return Decoded{first, 1};
    std::size_t length = 0;
    char32_t character = 0;
    if ((first & 0xe0) == 0xc0) {
        length = 2;
        character = first & 0x1f;
    } else if ((first & 0xf0) == 0xe0) {
        length = 3;
        character = first & 0x0f;
    } else if ((first & 0xf8) == 0xf0) {
        length = 4;
        character = first & 0x07;
    } else {
        return std::nullopt;
    }
    if (text.size() < length) return std::nullopt;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return std::nullopt;
        character = (character << 6) | (byte(i) & 0x3f);
    }
    constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
    if (character < kSmallest[length] || character > 0x10ffff) return std::nullopt;
    if (character >= 0xd800 && character <= 0xdfff) return std::nullopt;
    return Decoded{character, length};
}

bool is_printable_character(char32_t c) noexcept {
    if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return false;
    if (c == 0x061c || c == 0x200e || c == 0x200f) return false;  // direction marks
    if (c >= 0x202a && c <= 0x202e) return false;                 // embeddings and overrides
    if (c >= 0x2066 && c <= 0x2069) return false;                 // isolates
    return c != 0x2028 && c != 0x2029;                            // line and paragraph separators
}

}  // namespace

bool is_printable(std::string_view text) noexcept {
    while (!text.empty()) {
        const auto decoded = decode_utf8(text);
        if (!decoded || !is_printable_character(decoded->character)) return false;
        text.remove_prefix(decoded->bytes);
    }
    return true;
}

std::optional<std::string_view> as_string(std::span<const std::byte> bytes) noexcept {
    const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t last = all.find_last_not_of('\0');
    if (last == std::string_view::npos) return std::nullopt;
    const std::string_view text = all.substr(0, last + 1);
    const bool integer_size = all.size() == 2 || all.size() == 4 || all.size() == 8;
    if (all.size() == 1 || (integer_size && all.size() - text.size() > 1)) return std::nullopt;
    if (!is_printable(text)) return std::nullopt;
    return text;
}

std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') result.push_back('\\');
        result.push_back(c);
    }
    result.push_back('"');
    return result;
}

std::string hex(std::span<const std::byte> bytes) {
    std::string result;
    result.reserve(2 * bytes.size());
    for (const std::byte byte : bytes) {
        fmt::format_to(std::back_inserter(result), "{:02x}", std::to_integer<unsigned>(byte));
    }
    return result;
}

std::string hex_list(std::span<const std::byte> bytes, std::size_t limit) {
    std::string result = "[";
    const std::size_t shown = std::min(bytes.size(), limit);
    for (std::size_t i = 0; i < shown; ++i) {
        fmt::format_to(std::back_inserter(result), "{}{:02x}", i == 0 ? "" : " ",
                       std::to_integer<unsigned>(bytes[i]));
    }
    if (shown < bytes.size()) {
        fmt::format_to(std::back_inserter(result), " ... {} more", bytes.size() - shown);
    }
    result.push_back(']');
    return result;
}

std::vector<std::string> hex_dump(std::span<const std::byte> bytes) {
    constexpr std::size_t kBytesPerLine = 16;
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < bytes.size(); at += kBytesPerLine) {
        const auto part = bytes.subspan(at, std::min(kBytesPerLine, bytes.size() - at));
        std::string numbers;
        std::string characters;
        for (std::size_t i = 0; i < part.size(); ++i) {
            const auto value = std::to_integer<unsigned>(part[i]);
            fmt::format_to(std::back_inserter(numbers), "{}{:02x}", i == 8 ? "  " : " ", value);
            characters.push_back(value >= 0x20 && value < 0x7f ? static_cast<char>(value) : '.');
        }
        lines.push_back(fmt::format("{:08x} {:<49}  |{}|", at, numbers, characters));
    }
    return lines;
}

std::string size_text(std::uint64_t bytes) {
    constexpr std::string_view kUnits = "kMG";
    std::size_t unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit < kUnits.size()) {
        bytes /= 1024;
        ++unit;
    }
    return unit == 0 ? fmt::format("{}", bytes) : fmt::format("{}{}", bytes, kUnits[unit - 1]);
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
    std::uint64_t number = 0;
    const char* begin = text.data();
    const char* end = begin + text.size();
    const auto [rest, error] = std::from_chars(begin, end, number);
    if (error != std::errc()) return std::nullopt;
    std::string suffix;
    for (const char c : std::string_view(rest, static_cast<std::size_t>(end - rest))) {
        suffix.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
    if (suffix.empty() || suffix == "b") return number;
    constexpr std::string_view kUnits = "kmg";
    const std::size_t unit = kUnits.find(suffix.front());
    const std::string_view after = std::string_view(suffix).substr(1);
    if (unit == std::string_view::npos || !(after.empty() || after == "b" || after == "ib")) {
        return std::nullopt;
    }
    const unsigned shift = 10 * (static_cast<unsigned>(unit) + 1);
    if (number > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
    return number << shift;
}

std::string printable(std::string_view text) {
    if (is_printable(text)) return std::string(text);
    std::string result(text);
    for (char& c : result) {
        const auto value = static_cast<unsigned char>(c);
        if (value < 0x20 || value >= 0x7f) c = '?';
    }
    return result;
}

}  // namespace nlmmap::tool
