// SPDX-License-Identifier: MIT
#include "tools/nlmmap/capture.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "tools/nlmmap/output.h"

namespace nlmmap::tool {
namespace {

// What stands before each datagram in LINKTYPE_NETLINK: the cooked header of packet sockets, of
// which nlmon fills three fields. Big-endian.
struct CookedHeader {
    std::uint16_t packet_type;  // PACKET_USER: to user space
    std::uint16_t device_type;  // ARPHRD_NETLINK
    std::uint8_t unused[10];
    std::uint16_t protocol;  // NETLINK_ROUTE...
};
static_assert(sizeof(CookedHeader) == 16);

constexpr int kLinkType = DLT_NETLINK;
static_assert(kLinkType == 253);

// More than any datagram: nothing is cut.
constexpr int kSnapshotBytes = 16 << 20;

}  // namespace

void CaptureFile::Close::operator()(pcap* handle) const noexcept { ::pcap_close(handle); }
void CaptureFile::Close::operator()(pcap_dumper* dumper) const noexcept {
    ::pcap_dump_close(dumper);
}

CaptureFile::CaptureFile(const std::string& name)
    : name_(name),
      handle_(::pcap_open_dead_with_tstamp_precision(kLinkType, kSnapshotBytes,
                                                     PCAP_TSTAMP_PRECISION_NANO)) {
    if (!handle_) throw std::bad_alloc();
    dumper_.reset(::pcap_dump_open(handle_.get(), name_.c_str()));
    if (!dumper_)
        throw std::runtime_error(std::string("cannot write: ") + ::pcap_geterr(handle_.get()));
}

void CaptureFile::add(int protocol, WallTime time, std::span<const std::byte> datagram) {
    CookedHeader cooked{};
    cooked.packet_type = htons(PACKET_USER);
    cooked.device_type = htons(ARPHRD_NETLINK);
    cooked.protocol = htons(static_cast<std::uint16_t>(protocol));
    packet_.resize(sizeof(cooked) + datagram.size());
    std::memcpy(packet_.data(), &cooked, sizeof(cooked));
    std::copy(datagram.begin(), datagram.end(), packet_.begin() + sizeof(cooked));

    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    pcap_pkthdr header{};
    header.ts.tv_sec = seconds.time_since_epoch().count();
    header.ts.tv_usec = (time - seconds).count();  // nanoseconds, as the file's head says
    header.caplen = static_cast<bpf_u_int32>(packet_.size());
    header.len = header.caplen;
    ::pcap_dump(reinterpret_cast<u_char*>(dumper_.get()), &header,
                reinterpret_cast<const u_char*>(packet_.data()));
}

void CaptureFile::flush() {
    errno = 0;
    // What failed meanwhile is seen here at the latest: stdio keeps it.
    const bool written = ::pcap_dump_flush(dumper_.get()) == 0;
    if (written && std::ferror(::pcap_dump_file(dumper_.get())) == 0) return;
    const int error = errno != 0 ? errno : EIO;
    if (error == EPIPE) throw OutputClosed();
    throw std::system_error(error, std::generic_category(), "cannot write " + name_);
}

int CaptureFile::fd() const noexcept { return ::fileno(::pcap_dump_file(dumper_.get())); }

}  // namespace nlmmap::tool
