// SPDX-License-Identifier: MIT
// Datagrams whose every byte is known from a number, and their check on arrival.
#pragma once

#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace nlmmap::unit {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

inline constexpr std::uint16_t kType = NLMMAP_MSG_PRODUCER_MIN + 7;

// A different sequence of bytes for each number.
inline std::byte pattern(std::uint64_t number, std::size_t index) {
    const std::uint64_t mixed = (number + 1) * 0x9E3779B97F4A7C15U + index * 0x2545F4914F6CDD1DU;
    return static_cast<std::byte>(mixed >> 56);
}

// Bytes that are no netlink message.
inline std::vector<std::byte> raw_datagram(std::uint64_t number, std::size_t bytes) {
    std::vector<std::byte> datagram(bytes);
    for (std::size_t i = 0; i < bytes; ++i) datagram[i] = pattern(number, i);
    if (bytes >= 4) datagram[3] = std::byte{0xFF};  // nlmsg_len is surely wrong
    return datagram;
}

// One well-formed message of `bytes` in all, at least an nlmsghdr.
inline std::vector<std::byte> message(std::uint64_t number, std::size_t bytes) {
    std::vector<std::byte> datagram(bytes);
    for (std::size_t i = 0; i < bytes; ++i) datagram[i] = pattern(number, i);
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(bytes);
    header.nlmsg_type = kType;
    header.nlmsg_pid = static_cast<std::uint32_t>(number);
    std::memcpy(datagram.data(), &header, sizeof(header));
    return datagram;
}

inline bool same(std::span<const std::byte> one, std::span<const std::byte> other) {
    return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

}  // namespace nlmmap::unit
