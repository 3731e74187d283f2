// SPDX-License-Identifier: MIT
//
// The test producer of tests/guest/module, and the check of what it published.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <span>
#include <string>
#include <string_view>

#include "tests/guest/module/nlmmap_test.h"

namespace guest {

// A name that no other test used; starts with the prefix.
std::string unique_name(std::string_view prefix);

// What to publish; see struct nlmmap_test_publish.
struct Order {
    std::uint32_t group = 0;
    std::uint64_t count = 1;
    std::uint32_t min_bytes = 48;
    std::uint32_t max_bytes = 0;  // 0: all of min_bytes
    bool in_place = false;
    bool attributes = false;  // in place, as attributes
    std::uint32_t context = NLMMAP_TEST_PROCESS;
    std::uint32_t producers = 1;
    std::uint32_t first_producer = 0;
    std::uint64_t first_number = 0;
    std::uint32_t cpu = 0;
    std::uint32_t room_bytes = 0;
    std::uint32_t burst = 0;
    std::uint32_t pause_us = 0;
};

// What nlmmap answered to the producer.
struct Published {
    std::uint64_t accepted = 0;
    std::uint64_t delivered = 0;
    std::uint64_t refused = 0;
    std::uint64_t skipped = 0;
    int error = 0;  // the last error, an errno
    int ended = 0;  // why it ended early, an errno: ECANCELED, EINTR
};

// A file of /dev/nlmmap_test: its groups go with it. Throws std::system_error.
class Producer {
  public:
    Producer();
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;
    ~Producer();

    // Registers a group in the calling thread's network namespace; its number.
    std::uint32_t add_group(std::string_view name, std::uint32_t flags = 1 /* public */,
                            std::uint32_t max_bytes = 1024);
    // One that the end of its network namespace does not end.
    std::uint32_t add_kept_group(std::string_view name);
    // The errno of the attempt, 0 if it worked.
    int try_group(std::string_view name, std::uint32_t flags, std::uint32_t max_bytes);
    void remove_group(std::uint32_t id);
    bool has_listeners(std::uint32_t id);

    Published publish(const Order& order);
    // The same in a thread of its own.
    std::future<Published> start(Order order);
    // These very bytes; what nlmmap_publish() answered.
    int publish_datagram(std::uint32_t id, std::span<const std::byte> datagram);

  private:
    int fd_;
};

// Checks that what arrives is what an order published: contents byte for byte,
// each producer's numbers in order. Knows nothing of what was lost, but of how
// much is missing.
class Check {
  public:
    explicit Check(const Order& order) : order_(order) { next_.fill(order.first_number); }

    // Throws std::runtime_error that says what is wrong with this message.
    void message(const nlmsghdr* message);

    std::uint64_t received() const { return received_; }
    // Messages that did not come before the newest of each producer that did.
    std::uint64_t missing() const { return missing_; }

  private:
    Order order_;
    std::uint64_t received_ = 0;
    std::uint64_t missing_ = 0;
    std::array<std::uint64_t, NLMMAP_TEST_PRODUCERS_MAX> next_{};
};

}  // namespace guest
