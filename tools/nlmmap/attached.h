// SPDX-License-Identifier: MIT
// A socket of one of the kernel's own netlink families, with a ring under it.
#pragma once

#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tools/nlmmap/netlink_groups.h"

struct nl_sock;

namespace nlmmap::tool {

class AttachedSocket {
  public:
    // Opens the socket, attaches a ring, joins the groups. Throws nlmmap::Error and
    // std::runtime_error, both with what to do.
    AttachedSocket(NetlinkFamily family, const RingOptions& options);

    const NetlinkFamily& family() const noexcept { return family_; }
    Receiver& receiver() noexcept { return receiver_; }

    // "route:link"; "route" for 0, what was sent to this socket alone.
    std::string group_name(std::uint32_t number) const;

  private:
    struct Free {
        void operator()(nl_sock* socket) const noexcept;
    };
    using Socket = std::unique_ptr<nl_sock, Free>;
    static Socket open(const NetlinkFamily& family);

    NetlinkFamily family_;
    Socket socket_;
    Receiver receiver_;  // goes before the socket does
};

// Waits until one of the rings is readable, a signal came, or nobody reads the output any more;
// with a watermark, not longer than what is below it may wait. False: nobody reads the output (-1:
// there is none to look at). Throws std::system_error.
bool wait_for_any(std::vector<std::unique_ptr<AttachedSocket>>& sockets, int stop_fd, int output_fd,
                  bool has_watermark);

}  // namespace nlmmap::tool
