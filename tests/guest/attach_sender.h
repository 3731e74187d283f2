// SPDX-License-Identifier: MIT
//
// The family of tests/guest/sender, which says what a test wants: orders, and the
// check of what arrived.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstdint>
#include <future>
#include <span>
#include <string>
#include <vector>

#include "tests/guest/raw_netlink.h"
#include "tests/guest/sender/nlmmap_sender.h"

namespace guest {

// What to send; see struct nlmmap_sender_send.
struct Sending {
    std::uint32_t portid = 0;  // 0: to the group
    std::uint32_t group = 0;
    std::uint32_t context = NLMMAP_SENDER_PROCESS;
    std::uint32_t senders = 1;
    std::uint32_t bytes = 64;
    std::uint32_t nlmsg_flags = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 1;
};

// What the core answered to the sender.
struct Sent {
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;
    int error = 0;  // the last one
};

// Gives the family orders, through a plain socket in the caller's network
// namespace. One order at a time. Throws std::runtime_error if one is refused.
class Senders {
  public:
    Senders();
    Sent send(const Sending& sending);
    // The same in a thread of its own.
    std::future<Sent> start(Sending sending);
    // netlink_set_err() on the members of a group.
    void error(std::uint32_t group, int error);

  private:
    RawSocket socket_;
};

// Checks that what arrives is what was sent: byte for byte, each sender's
// messages in order.
class SentCheck {
  public:
    explicit SentCheck(const Sending& sending);
    // Throws std::runtime_error that says what is wrong with this datagram.
    void datagram(std::span<const std::byte> datagram);

    std::uint64_t received() const { return received_; }
    // Those that did not come before the newest of each sender that did.
    std::uint64_t missing() const { return missing_; }
    // All that were sent have come.
    bool whole() const { return received_ == expected_; }

  private:
    Sending sending_;
    std::uint64_t expected_;
    std::uint64_t received_ = 0;
    std::uint64_t missing_ = 0;
    std::array<std::uint64_t, NLMMAP_SENDER_MOST> next_{};
};

// One message of a payload that SentCheck knows, for those who send themselves.
Bytes sent_message(std::uint32_t sender, std::uint64_t number, std::uint32_t bytes,
                   std::uint16_t nlmsg_flags = 0);

}  // namespace guest
