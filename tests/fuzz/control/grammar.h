// SPDX-License-Identifier: MIT
//
// What the family's requests are made of, as the uapi header says it: the table
// that inputs are generated from, and that answers are judged by.
#pragma once

#include <nlmmap/linux/nlmmap.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace fuzz {

enum class Form { none, u32, u64, name, flag };

struct AttributeRule {
    std::uint16_t type;
    std::string_view name;
    Form form;
};

// Every attribute of the header, in the order of their numbers.
inline constexpr std::array kAttributes = {
    AttributeRule{NLMMAP_A_UNSPEC, "UNSPEC", Form::none},
    AttributeRule{NLMMAP_A_PAD, "PAD", Form::none},
    AttributeRule{NLMMAP_A_RX_BYTES, "RX_BYTES", Form::u32},
    AttributeRule{NLMMAP_A_FLAGS, "FLAGS", Form::u32},
    AttributeRule{NLMMAP_A_GROUP_NAME, "GROUP_NAME", Form::name},
    AttributeRule{NLMMAP_A_GROUP_ID, "GROUP_ID", Form::u32},
    AttributeRule{NLMMAP_A_ABI_VERSION, "ABI_VERSION", Form::u32},
    AttributeRule{NLMMAP_A_FEATURES, "FEATURES", Form::u64},
    AttributeRule{NLMMAP_A_HEADER_BYTES, "HEADER_BYTES", Form::u32},
    AttributeRule{NLMMAP_A_PORTID, "PORTID", Form::u32},
    AttributeRule{NLMMAP_A_INODE, "INODE", Form::u64},
    AttributeRule{NLMMAP_A_UID, "UID", Form::u32},
    AttributeRule{NLMMAP_A_PRODUCED, "PRODUCED", Form::u64},
    AttributeRule{NLMMAP_A_CONSUMED, "CONSUMED", Form::u64},
    AttributeRule{NLMMAP_A_SEQ, "SEQ", Form::u64},
    AttributeRule{NLMMAP_A_LOST, "LOST", Form::u64},
    AttributeRule{NLMMAP_A_HIGH_WATER, "HIGH_WATER", Form::u64},
    AttributeRule{NLMMAP_A_WAKEUPS, "WAKEUPS", Form::u64},
    AttributeRule{NLMMAP_A_FORGED, "FORGED", Form::u64},
    AttributeRule{NLMMAP_A_GROUP_FLAGS, "GROUP_FLAGS", Form::u32},
    AttributeRule{NLMMAP_A_MAX_BYTES, "MAX_BYTES", Form::u32},
    AttributeRule{NLMMAP_A_MEMBERS, "MEMBERS", Form::u32},
    AttributeRule{NLMMAP_A_PLAIN, "PLAIN", Form::flag},
    AttributeRule{NLMMAP_A_PUBLISHED, "PUBLISHED", Form::u64},
    AttributeRule{NLMMAP_A_FD, "FD", Form::u32},
    AttributeRule{NLMMAP_A_PROTOCOL, "PROTOCOL", Form::u32},
};

constexpr bool in_order() {
    for (std::size_t i = 0; i < kAttributes.size(); ++i) {
        if (kAttributes[i].type != i) {
            return false;
        }
    }
    return kAttributes.size() == NLMMAP_A_MAX + 1;
}
static_assert(in_order(), "the header has an attribute that this table lacks");

// A message type; the attributes that a request of it may carry.
struct MessageRule {
    std::uint16_t type;
    std::string_view name;
    bool request;
    std::array<std::uint16_t, 3> attributes;  // 0: none
};

// The requests come first.
inline constexpr std::array kMessages = {
    MessageRule{NLMMAP_MSG_SETUP, "SETUP", true, {NLMMAP_A_RX_BYTES, NLMMAP_A_FLAGS}},
    MessageRule{NLMMAP_MSG_JOIN, "JOIN", true, {NLMMAP_A_GROUP_NAME, NLMMAP_A_GROUP_ID}},
    MessageRule{NLMMAP_MSG_LEAVE, "LEAVE", true, {NLMMAP_A_GROUP_NAME, NLMMAP_A_GROUP_ID}},
    MessageRule{NLMMAP_MSG_SOCKET_GET, "SOCKET_GET", true, {NLMMAP_A_FD}},
    MessageRule{NLMMAP_MSG_GROUP_GET, "GROUP_GET", true, {NLMMAP_A_GROUP_NAME, NLMMAP_A_GROUP_ID}},
    MessageRule{
        NLMMAP_MSG_ATTACH, "ATTACH", true, {NLMMAP_A_FD, NLMMAP_A_RX_BYTES, NLMMAP_A_FLAGS}},
    MessageRule{NLMMAP_MSG_SOCKET, "SOCKET", false, {}},
    MessageRule{NLMMAP_MSG_GROUP, "GROUP", false, {}},
    MessageRule{NLMMAP_MSG_GROUP_DELETED, "GROUP_DELETED", false, {}},
};
inline constexpr std::size_t kRequests = 6;
static_assert(kMessages[kRequests - 1].request && !kMessages[kRequests].request);

inline const MessageRule* rule_of(std::uint16_t type) {
    for (const MessageRule& rule : kMessages) {
        if (rule.type == type) {
            return &rule;
        }
    }
    return nullptr;
}

// The groups that there are while fuzzing, by the names that inputs give them.
// All but the first three are there to make dumps long and rings full.
inline constexpr std::array<std::string_view, 3> kGroups = {"fuzz-public", "fuzz-private",
                                                            "fuzz-large"};
inline constexpr unsigned kPublic = 0;
inline constexpr unsigned kPrivate = 1;
inline constexpr unsigned kLarge = 2;
inline constexpr unsigned kFillers = 61;
inline constexpr unsigned kGroupCount = kGroups.size() + kFillers;
inline constexpr std::uint32_t kMaxBytes = 1024;
inline constexpr std::uint32_t kLargeMaxBytes = NLMMAP_MESSAGE_MAX;

// The module's max_ring_bytes meanwhile: what is refused costs nothing.
inline constexpr std::uint32_t kMaxRingBytes = 1U << 20;

}  // namespace fuzz
