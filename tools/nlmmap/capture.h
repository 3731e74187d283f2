// SPDX-License-Identifier: MIT
// A capture file of netlink datagrams, as nlmon makes them: pcap, LINKTYPE_NETLINK, nanoseconds.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tools/nlmmap/clock.h"

struct pcap;
struct pcap_dumper;

namespace nlmmap::tool {

class CaptureFile {
  public:
    // Makes the file, or takes the place of one that is there; "-": standard output.
    // Throws std::system_error, std::runtime_error.
    explicit CaptureFile(const std::string& name);

    // Adds a datagram of that netlink protocol, sent to user space.
    void add(int protocol, WallTime time, std::span<const std::byte> datagram);

    // Writes what is there. Throws OutputClosed if nobody reads the pipe any more, else
    // std::system_error.
    void flush();

    // The descriptor, to wait for the end of whoever reads it.
    int fd() const noexcept;

  private:
    struct Close {
        void operator()(pcap* handle) const noexcept;
        void operator()(pcap_dumper* dumper) const noexcept;
    };

    std::string name_;
    std::unique_ptr<pcap, Close> handle_;
    std::unique_ptr<pcap_dumper, Close> dumper_;
    std::vector<std::byte> packet_;
};

}  // namespace nlmmap::tool
