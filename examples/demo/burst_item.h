// SPDX-License-Identifier: MIT
// What the sender of the bursts numbers, as a listener finds it in the messages: so that what is
// lost is known by content, whatever the sockets say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

struct nlmsghdr;

namespace demo {

enum class ItemKind : std::uint8_t {
    link_change,
    route_added,
    route_removed,
    ipv6_route_added,
    ipv6_route_removed,
    conntrack_new,
    conntrack_ended,
};
inline constexpr std::size_t kItemKinds = 7;

std::string_view to_text(ItemKind kind);

struct Item {
    ItemKind kind;
    std::uint32_t number;
};

// The link whose changes are numbered, by the length of its transmit queue.
inline constexpr std::uint32_t kFirstQueueLength = 10'000;

// The item that this rtnetlink or ctnetlink message is; nothing for what else these say.
std::optional<Item> rtnetlink_item(const nlmsghdr* message) noexcept;
std::optional<Item> ctnetlink_item(const nlmsghdr* message) noexcept;

// Which items a listener has seen.
class SeenItems {
  public:
    void add(const std::optional<Item>& item);

    // Items of that kind, each counted once.
    std::uint64_t count(ItemKind kind) const noexcept { return counts_[index(kind)]; }
    // All messages, the ones that are no items included.
    std::uint64_t messages() const noexcept { return messages_; }

  private:
    static std::size_t index(ItemKind kind) noexcept { return static_cast<std::size_t>(kind); }

    std::array<std::vector<bool>, kItemKinds> seen_;
    std::array<std::uint64_t, kItemKinds> counts_{};
    std::uint64_t messages_ = 0;
};

}  // namespace demo
