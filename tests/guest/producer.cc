// SPDX-License-Identifier: MIT
#include "tests/guest/producer.h"

#include <fcntl.h>
#include <nlmmap/linux/nlmmap.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace guest {
namespace {

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

std::uint32_t largest(const Order& order) { return std::max(order.min_bytes, order.max_bytes); }

[[noreturn]] void wrong(const nlmsghdr* message, const std::string& what) {
    throw std::runtime_error("message of type " + std::to_string(message->nlmsg_type) + ", len " +
                             std::to_string(message->nlmsg_len) + ": " + what);
}

// The payload apart from its attributes, which are checked.
std::span<const std::byte> words_of(const nlmsghdr* message, std::span<const std::byte> payload,
                                    std::uint64_t& number, std::uint32_t producer) {
    std::span<const std::byte> words;
    bool seen[NLMMAP_TEST_A_WORDS + 1] = {};
    std::size_t at = 0;
    while (at + sizeof(nlattr) <= payload.size()) {
        nlattr attribute;
        std::memcpy(&attribute, payload.data() + at, sizeof(attribute));
        if (attribute.nla_len < NLA_HDRLEN || at + attribute.nla_len > payload.size() ||
            attribute.nla_type > NLMMAP_TEST_A_WORDS) {
            wrong(message, "broken attribute at byte " + std::to_string(at));
        }
        const auto value = payload.subspan(at + NLA_HDRLEN, attribute.nla_len - NLA_HDRLEN);
        seen[attribute.nla_type] = true;
        std::uint32_t said_producer = producer;
        switch (attribute.nla_type) {
            case NLMMAP_TEST_A_NUMBER:
                std::memcpy(&number, value.data(), std::min(value.size(), sizeof(number)));
                break;
            case NLMMAP_TEST_A_PRODUCER:
                std::memcpy(&said_producer, value.data(),
                            std::min(value.size(), sizeof(said_producer)));
                break;
            case NLMMAP_TEST_A_WORDS:
                words = value;
                break;
            default:
                wrong(message, "an attribute that nobody put");
        }
        if (said_producer != producer) {
            wrong(message, "attribute PRODUCER says " + std::to_string(said_producer));
        }
        at += NLA_ALIGN(attribute.nla_len);
    }
    if (!seen[NLMMAP_TEST_A_NUMBER] || !seen[NLMMAP_TEST_A_PRODUCER] ||
        !seen[NLMMAP_TEST_A_WORDS]) {
        wrong(message, "an attribute is missing");
    }
    return words;
}

std::uint32_t register_group(int fd, std::string_view name, std::uint32_t flags,
                             std::uint32_t max_bytes, bool keep) {
    nlmmap_test_group group{};
    name.copy(group.name, sizeof(group.name) - 1);
    group.flags = flags;
    group.max_bytes = max_bytes;
    group.keep = keep;
    if (ioctl(fd, NLMMAP_TEST_REGISTER, &group) != 0) {
        fail("registering group " + std::string(name));
    }
    return group.id;
}

}  // namespace

std::string unique_name(std::string_view prefix) {
    static std::atomic<unsigned> serial{0};
    return std::string(prefix) + "-" + std::to_string(getpid()) + "." + std::to_string(++serial);
}

Producer::Producer() : fd_(open(NLMMAP_TEST_DEVICE, O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0) {
        fail(std::string("open ") + NLMMAP_TEST_DEVICE + " (is nlmmap_test.ko loaded?)");
    }
}

Producer::~Producer() { close(fd_); }

std::uint32_t Producer::add_group(std::string_view name, std::uint32_t flags,
                                  std::uint32_t max_bytes) {
    return register_group(fd_, name, flags, max_bytes, false);
}

std::uint32_t Producer::add_kept_group(std::string_view name) {
    return register_group(fd_, name, NLMMAP_GROUP_PUBLIC, 1024, true);
}

int Producer::try_group(std::string_view name, std::uint32_t flags, std::uint32_t max_bytes) {
    try {
        add_group(name, flags, max_bytes);
        return 0;
    } catch (const std::system_error& error) {
        return error.code().value();
    }
}

void Producer::remove_group(std::uint32_t id) {
    if (ioctl(fd_, NLMMAP_TEST_UNREGISTER, static_cast<unsigned long>(id)) != 0) {
        fail("unregistering group " + std::to_string(id));
    }
}

bool Producer::has_listeners(std::uint32_t id) {
    const int answer = ioctl(fd_, NLMMAP_TEST_LISTENERS, static_cast<unsigned long>(id));
    if (answer < 0) {
        fail("asking for listeners of group " + std::to_string(id));
    }
    return answer != 0;
}

Published Producer::publish(const Order& order) {
    nlmmap_test_publish request{};
    request.group = order.group;
    request.context = order.context;
    request.flags = (order.in_place || order.attributes ? NLMMAP_TEST_IN_PLACE : 0U) |
                    (order.attributes ? NLMMAP_TEST_ATTRIBUTES : 0U);
    request.first_producer = order.first_producer;
    request.producers = order.producers;
    request.min_bytes = order.min_bytes;
    request.max_bytes = largest(order);
    request.room_bytes = order.room_bytes;
    request.cpu = order.cpu;
    request.burst = order.burst;
    request.pause_us = order.pause_us;
    request.first_number = order.first_number;
    request.count = order.count;
    int ended = 0;
    if (ioctl(fd_, NLMMAP_TEST_PUBLISH, &request) != 0) {
        ended = errno;
        if (ended != ECANCELED && ended != EINTR) {
            fail("publishing to group " + std::to_string(order.group));
        }
    }
    return {.accepted = request.accepted,
            .delivered = request.delivered,
            .refused = request.refused,
            .skipped = request.skipped,
            .error = -request.error,
            .ended = ended};
}

std::future<Published> Producer::start(Order order) {
    return std::async(std::launch::async, [this, order] { return publish(order); });
}

int Producer::publish_datagram(std::uint32_t id, std::span<const std::byte> datagram) {
    nlmmap_test_datagram request{};
    request.group = id;
    request.len = static_cast<std::uint32_t>(datagram.size());
    request.bytes = reinterpret_cast<std::uint64_t>(datagram.data());
    const int answer = ioctl(fd_, NLMMAP_TEST_DATAGRAM, &request);
    return answer < 0 ? -errno : answer;
}

void Check::message(const nlmsghdr* message) {
    const std::uint32_t producer = message->nlmsg_type - std::uint32_t{NLMMAP_MSG_PRODUCER_MIN};
    if (message->nlmsg_type < NLMMAP_MSG_PRODUCER_MIN || producer < order_.first_producer ||
        producer >= order_.first_producer + order_.producers) {
        wrong(message, "published by nobody of this test");
    }
    if (message->nlmsg_seq != 0 || message->nlmsg_pid != 0) {
        wrong(message, "nlmsg_seq and nlmsg_pid should be 0");
    }
    std::uint64_t& next = next_[producer];
    std::uint64_t number = next;
    std::span<const std::byte> payload{reinterpret_cast<const std::byte*>(message) + NLMSG_HDRLEN,
                                       message->nlmsg_len - NLMSG_HDRLEN};
    if (order_.attributes) {
        payload = words_of(message, payload, number, producer);
    } else if (payload.size() >= sizeof(number)) {
        std::memcpy(&number, payload.data(), sizeof(number));
    }
    if (number < next || number >= order_.first_number + order_.count) {
        wrong(message, "number " + std::to_string(number) + " of producer " +
                           std::to_string(producer) + ", expected " + std::to_string(next) +
                           " or a later one");
    }
    const std::uint32_t bytes =
        nlmmap_test_bytes(producer, number, order_.min_bytes, largest(order_));
    // In place a fixed header is padded to a multiple of 4, as its room is.
    const bool padded = order_.in_place && !order_.attributes;
    const std::size_t expected = padded ? NLMSG_ALIGN(bytes) : bytes;
    if (payload.size() != expected) {
        wrong(message, "payload of " + std::to_string(payload.size()) + " bytes, published were " +
                           std::to_string(expected));
    }
    for (std::uint32_t at = 0; at < expected; at += 8) {
        const std::uint64_t word = nlmmap_test_word(producer, number, at / 8);
        std::array<std::byte, 8> want{};
        std::memcpy(want.data(), &word, sizeof(word));
        for (std::uint32_t i = 0; i < 8 && at + i < expected; ++i) {
            const std::byte byte = at + i < bytes ? want[i] : std::byte{0};
            if (payload[at + i] != byte) {
                wrong(message, "number " + std::to_string(number) + " of producer " +
                                   std::to_string(producer) + " differs from byte " +
                                   std::to_string(at + i) + " of the payload on");
            }
        }
    }
    missing_ += number - next;
    next = number + 1;
    ++received_;
}

}  // namespace guest
