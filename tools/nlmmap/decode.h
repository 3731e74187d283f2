// SPDX-License-Identifier: MIT
// Netlink attributes of producers that this program knows nothing about, as text and as JSON.
//
// What an attribute means is the producer's; what can be said of any is its type, its bytes, and
// what they look like: a number where they are as long as one, a string where they are printable,
// a nest where NLA_F_NESTED says so. Where two readings are possible both are given. The bytes come
// from a producer that may be wrong: whatever they are, the text is safe for a terminal, the JSON
// is valid, and the work is bounded by the number of bytes.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace nlmmap::tool {

// Nests deeper than this are shown as bytes.
inline constexpr int kMaxNesting = 16;

// `1=4711 (0x1267)  2="sleep"  3={1=7 (0x7)}  4=[01 02 03]  5`. Bytes at the end that are no
// attribute follow as `rest=[...]`. `bytes` is 4-byte aligned, as netlink payloads are.
std::string attributes_text(std::span<const std::byte> bytes);

// Sets object["attributes"] to an array, and object["rest"] to what is no attribute, in
// hexadecimal, if there is any. Each attribute is an object with "type" and "hex" (its payload), or
// "attributes" (and "rest") in place of "hex" if it is a nest; then, where they fit the payload,
// "u8", "u16", "u32" or "u64", "string", and "big_endian": true if NLA_F_NET_BYTEORDER was set.
void add_attributes_json(nlohmann::ordered_json& object, std::span<const std::byte> bytes);

}  // namespace nlmmap::tool
