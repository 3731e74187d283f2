// SPDX-License-Identifier: MIT
// Bytes and numbers as text that is safe to show: nothing in a message can move a terminal's cursor
// or make JSON invalid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nlmmap::tool {

// True if the text is valid UTF-8 without control characters (C0, DEL, C1) and without the marks
// that change the direction of the text after them.
bool is_printable(std::string_view text) noexcept;

// The string that the bytes most likely are: printable, then nothing but NULs. Bytes as long as an
// integer (2, 4, 8) must have at most one NUL at their end, since small numbers end with several.
std::optional<std::string_view> as_string(std::span<const std::byte> bytes) noexcept;

// "text", with quotes and backslashes escaped by a backslash.
std::string quoted(std::string_view text);

// "deadbeef"
std::string hex(std::span<const std::byte> bytes);

// "[de ad be ef]", after `limit` bytes only how many more there are.
std::string hex_list(std::span<const std::byte> bytes, std::size_t limit = 64);

// "00000000  de ad be ef  |....|", a line for each 16 bytes, as `hexdump -C` shows them.
std::vector<std::string> hex_dump(std::span<const std::byte> bytes);

// 4096 is "4k", 1048576 is "1M", 1000 is "1000": exact, in units of 1,024.
std::string size_text(std::uint64_t bytes);

// "4096", "64k", "1M", "2G", "1MiB": bytes in units of 1,024. Nothing if it is anything else or too
// large for 64 bits.
std::optional<std::uint64_t> parse_size(std::string_view text);

// What a shell or `ps` would show: unprintable bytes replaced by '?'.
std::string printable(std::string_view text);

}  // namespace nlmmap::tool
