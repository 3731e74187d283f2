// SPDX-License-Identifier: MIT
// nlmmap::Socket: requests to the family, on libnl.
#pragma once

#include <cstdint>
#include <memory>
#include <nlmmap/error.hpp>
#include <nlmmap/export.hpp>
#include <string>
#include <string_view>
#include <vector>

struct nl_sock;

namespace nlmmap {

namespace detail {
class SocketAccess;
}  // namespace detail

/// The family's number, which the module was loaded with. Reads a file of /sys: a few system calls.
/// Error EPROTONOSUPPORT: the module is not loaded (what() says how to load it), or /sys is not
/// mounted. EACCES: /sys may not be read. Any thread.
NLMMAP_EXPORT int family();

/// One group of the family in this network namespace.
struct GroupInfo {
    std::uint16_t id = 0;         ///< its number, 1 to 1024
    std::string name;             ///< unique in the network namespace
    bool is_public = false;       ///< anybody may join, not CAP_NET_ADMIN alone
    std::uint32_t max_bytes = 0;  ///< its largest datagram; a ring must have four times that
    std::uint32_t members = 0;    ///< rings that joined
    bool plain = false;           ///< sockets without a ring listen, too
    std::uint64_t published = 0;  ///< datagrams published so far
};

/// One socket's ring: geometry, positions and counters.
struct SocketInfo {
    std::uint32_t abi_version = 0;
    int protocol = -1;                  ///< netlink protocol (NETLINK_ROUTE...); -1: not told
    std::uint32_t portid = 0;           ///< netlink port
    std::uint64_t inode = 0;            ///< as in /proc/PID/fd
    std::uint32_t uid = 0;              ///< who set the ring up and is charged
    std::uint32_t rx_bytes = 0;         ///< bytes of data in the ring
    std::uint32_t header_bytes = 0;     ///< before each datagram
    std::uint64_t features = 0;         ///< NLMMAP_FEATURE_* that the kernel knows
    std::uint64_t produced = 0;         ///< bytes published since the ring was made
    std::uint64_t consumed = 0;         ///< bytes given back since then
    std::uint64_t seq = 0;              ///< of the newest record or loss
    std::uint64_t lost = 0;             ///< records
    std::uint64_t high_water = 0;       ///< the most bytes that ever waited, to a sixteenth
    std::uint64_t wakeups = 0;          ///< times that sleepers were woken
    std::uint64_t forged = 0;           ///< consumer positions that the kernel did not accept
    std::vector<std::uint16_t> groups;  ///< numbers of the groups joined
};

/// A connected socket of the family. It owns the nl_sock and lends it out for libnl's functions.
///
/// Movable; a moved-from socket may only be assigned to or destroyed. One thread at a time.
/// Requests are answered by the kernel before they return, so that they block no longer than the
/// kernel works on them; they allocate.
///
/// A socket that subscribed to groups receives their messages at any time, also between a request
/// and its answer. So that none is lost or in the way, a Socket is used for one of two things:
///  - plain: after the first subscribe(), requests go over a second, private descriptor, and what
///    arrives on fd() is the groups' messages alone;
///  - with a ring, once a Receiver owns it: subscribe() answers EBUSY then.
/// Memberships that you add yourself with libnl's functions on get() are outside that rule: a
/// request drops the group messages that arrive before its answer. Use another Socket for requests
/// then.
///
/// Every function may throw Error with what sending or receiving a netlink message can fail with
/// (ENOBUFS, ENOMEM), besides what is said there.
class NLMMAP_EXPORT Socket {
  public:
    /// Opens a socket of the family, close-on-exec, with extended acknowledgements.
    /// Error EPROTONOSUPPORT: the module is not loaded. EMFILE, ENFILE: too many open files.
    /// ENOMEM.
    Socket();
    ~Socket();
    Socket(Socket&&) noexcept;
    Socket& operator=(Socket&&) noexcept;

    /// The socket as libnl's functions take it. It stays this object's.
    [[nodiscard]] nl_sock* get() const noexcept;

    /// Its descriptor. It stays this object's.
    [[nodiscard]] int fd() const noexcept;

    /// All groups of the network namespace, in the order of their numbers. Anybody may ask.
    [[nodiscard]] std::vector<GroupInfo> groups();

    /// One group. Error ENOENT: there is none of that name; what() lists those that there are.
    /// EINVAL: the name is empty or longer than 31 bytes.
    [[nodiscard]] GroupInfo group(std::string_view name);

    /// All sockets with rings in the network namespace. Error EPERM: needs CAP_NET_ADMIN.
    [[nodiscard]] std::vector<SocketInfo> sockets();

    /// This socket's own ring. Error ENODEV: it has none.
    [[nodiscard]] SocketInfo info();

    /// Hears a group the plain way: its messages are queued on fd() and read with libnl or
    /// recvmsg() (ENOBUFS there: the queue was full and messages were lost). Switches libnl's check
    /// of sequence numbers off, since group messages carry 0. The first call opens the private
    /// descriptor for requests: make it in the network namespace that the socket was opened in.
    /// Error ENOENT, EINVAL: as group(). EPERM: the group is not public and you lack CAP_NET_ADMIN.
    /// EBUSY: this socket has a ring; use another Socket.
    void subscribe(std::string_view group);

    /// The reverse. What is queued stays there. Error ENOENT, EINVAL: as group().
    void unsubscribe(std::string_view group);

  private:
    friend class detail::SocketAccess;

    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace nlmmap
