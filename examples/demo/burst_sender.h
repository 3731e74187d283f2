// SPDX-License-Identifier: MIT
// Makes the kernel say much at once, of which each piece has a number.
#pragma once

#include <netlink/types.h>

#include <cstdint>
#include <memory>

struct nl_msg;
struct nl_sock;

namespace demo {

// Works in the network namespace that it is made in, with links of its own, which end with it.
// Every function throws std::runtime_error if the kernel refuses anything. Numbers below 2^24.
class BurstSender {
  public:
    BurstSender();
    ~BurstSender();
    BurstSender(const BurstSender&) = delete;
    BurstSender& operator=(const BurstSender&) = delete;

    // Takes a link up (even numbers) and down (odd numbers), one after the other.
    void flap_link(std::uint32_t first, std::uint32_t count);
    void add_routes(std::uint32_t first, std::uint32_t count);
    void remove_routes(std::uint32_t first, std::uint32_t count);
    void add_ipv6_routes(std::uint32_t first, std::uint32_t count);
    // All IPv6 routes go with it, in one stretch; then it is up again.
    void take_interface_down();
    void add_conntrack(std::uint32_t first, std::uint32_t count);
    void flush_conntrack();

  private:
    struct Free {
        void operator()(nl_sock* socket) const noexcept;
    };
    using Socket = std::unique_ptr<nl_sock, Free>;

    static Socket open(int protocol);
    int make_link(const char* name);
    void set_up(int link, bool up);
    void change_route(int type, int flags, int family, std::uint32_t number, int link);
    void check(const Socket& socket);

    Socket route_;
    Socket conntrack_;
    int flapping_ = 0;
    int routed_ = 0;
    int down_ = 0;
};

}  // namespace demo
