// SPDX-License-Identifier: MIT
// The ways from a producer to a reader that are compared.
#ifndef NLMMAP_TESTS_BENCH_GUEST_TRANSPORT_H_
#define NLMMAP_TESTS_BENCH_GUEST_TRANSPORT_H_

#include <cstdint>
#include <memory>

#include "tests/bench/guest/load.h"

namespace nlmmap_bench {

// Instructions of one whole batch; `consume` is that of all readers together.
struct Cost {
    std::uint64_t produce = 0;
    std::uint64_t consume = 0;
};

class Transport {
  public:
    Transport() = default;
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;
    virtual ~Transport() = default;

    // Publishes, consumes and, outside the timed parts, checks count, contents and order of what
    // each reader got. Throws CheckFailed or std::system_error.
    virtual Cost round(const Load& load) = 0;
};

// memcpy into a ring and out of it, in this process: what moving the bytes alone costs.
std::unique_ptr<Transport> make_floor();

struct RingUse {
    nlmmap_bench_path path;  // NLMMAP_BENCH_COPY or NLMMAP_BENCH_INPLACE; attached: _NETLINK
    bool in_epoll;           // the sockets sit in an epoll set that nobody waits for
    unsigned members;
    int attached_to = -1;  // under sockets of this netlink family; -1: nlmmap's own
};
// An nlmmap ring, read through the library's own iterator.
std::unique_ptr<Transport> make_ring(const Producer& producer, const RingUse& use);

// Sockets that have no ring.
enum class PlainGroup {
    peer,   // members of an ordinary netlink family's group
    nlmmap  // plain members of an nlmmap group, served by its work item
};
enum class PlainRead {
    recvmsg,        // one recvmsg() a datagram, until the batch is there
    recvmmsg,       // recvmmsg() of 64
    libnl,          // nl_recvmsgs_default(), which peeks at each datagram's size
    libnl_no_peek,  // the same after nl_socket_disable_msg_peek()
};
struct PlainUse {
    PlainGroup group;
    PlainRead read;
    unsigned members;
};
std::unique_ptr<Transport> make_plain(const Producer& producer, int peer_family,
                                      const PlainUse& use);

}  // namespace nlmmap_bench

#endif  // NLMMAP_TESTS_BENCH_GUEST_TRANSPORT_H_
