// SPDX-License-Identifier: MIT
// What a Socket holds, and what the receiver's set-up shares with it. Internal to the library.
#pragma once

#include <memory>
#include <nlmmap/socket.hpp>
#include <string>
#include <string_view>

struct nlmsghdr;

namespace nlmmap {

namespace detail {

struct FreeSocket {
    void operator()(nl_sock* socket) const noexcept;
};
using NetlinkSocket = std::unique_ptr<nl_sock, FreeSocket>;

// What to do about EPERM where the kernel's sentence says that CAP_NET_ADMIN is what lacks, and
// where the kernel had no sentence.
inline constexpr const char* kGetNetAdmin = "run as root, or `setcap cap_net_admin+ep PROGRAM`";
inline constexpr const char* kNeedsNetAdmin =
    "CAP_NET_ADMIN in the network namespace is needed: run as root, or `setcap cap_net_admin+ep "
    "PROGRAM`";

[[nodiscard]] std::string quoted(std::string_view name);

// Throws Error EINVAL.
void check_name(std::string_view name, const std::string& operation);

[[nodiscard]] SocketInfo socket_info(nlmsghdr* message, const std::string& operation);

// The doors into Socket for the rest of the library.
class SocketAccess {
  public:
    static Socket::State& state(Socket& socket) noexcept { return *socket.state_; }
    // A sentence that lists the groups that there are, for an error that is being told: empty if
    // they cannot be had.
    static std::string known_groups(Socket& socket);
    static GroupInfo find_group(Socket& socket, std::string_view name,
                                const std::string& operation);
};

}  // namespace detail

struct Socket::State {
    detail::NetlinkSocket socket;
    detail::NetlinkSocket control;  // for requests, once `socket` hears groups the plain way
    bool has_ring = false;

    [[nodiscard]] nl_sock* requests() const noexcept {
        return control ? control.get() : socket.get();
    }
};

}  // namespace nlmmap
