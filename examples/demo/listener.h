// SPDX-License-Identifier: MIT
// A program that listens to netlink, of the kinds that the bursts are sent to. All of them are a
// libnl socket of the same groups; one makes a call more, and then reads in place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "examples/demo/burst_item.h"

struct nl_msg;
struct nl_sock;

namespace demo {

enum class ListenerKind : std::uint8_t {
    plain_default,  // the receive buffer that nl_connect() sets
    plain_max,      // SO_RCVBUF, as much as net.core.rmem_max allows anybody
    plain_forced,   // SO_RCVBUFFORCE, which takes CAP_NET_ADMIN: as much as there is
    attached,       // nlmmap::Receiver::attach()
};
inline constexpr ListenerKind kListenerKinds[] = {
    ListenerKind::plain_default, ListenerKind::plain_max, ListenerKind::plain_forced,
    ListenerKind::attached};

// "plain-default"...
std::string_view to_text(ListenerKind kind);

// One thread at a time.
class Listener {
  public:
    // Throws std::runtime_error, std::system_error.
    Listener(ListenerKind kind, int protocol, const std::vector<int>& groups,
             std::size_t ring_bytes);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    // Waits until there is something to read; false: nothing came.
    bool wait(std::chrono::milliseconds timeout);

    // Reads all that is there; how many messages these were.
    std::uint64_t read(SeenItems& seen);

    // Times that reading said ENOBUFS, and, attached, what the ring says that it lost.
    std::uint64_t overflows() const noexcept { return overflows_; }
    std::uint64_t reported_lost() const noexcept { return receiver_ ? receiver_->lost() : 0; }
    // The same, as jumps of the sequence number told it in its places.
    std::uint64_t located_lost() const noexcept { return located_lost_; }
    // Messages that the kernel counts as not delivered to the socket. Throws std::system_error.
    std::uint64_t drops() const;

    // Room in the kernel, and what of it is taken now: as the kernel charges the socket for it, and
    // in the ring. Any thread while none reads.
    std::size_t room_bytes() const;
    std::size_t held_bytes() const;

  private:
    static int on_message(nl_msg* message, void* argument);
    void set_buffer();

    struct Free {
        void operator()(nl_sock* socket) const noexcept;
    };

    const ListenerKind kind_;
    const int protocol_;
    std::unique_ptr<nl_sock, Free> socket_;
    std::optional<nlmmap::Receiver> receiver_;
    SeenItems* seen_ = nullptr;
    std::uint64_t overflows_ = 0;
    std::uint64_t located_lost_ = 0;
};

}  // namespace demo
