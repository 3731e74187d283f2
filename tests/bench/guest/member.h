// SPDX-License-Identifier: MIT
#ifndef NLMMAP_TESTS_BENCH_GUEST_MEMBER_H_
#define NLMMAP_TESTS_BENCH_GUEST_MEMBER_H_

#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <new>
#include <string>
#include <utility>

#include "tests/bench/guest/load.h"

namespace nlmmap_bench {

// A member of a group that owns a libnl socket: also recvmsg() reads from one, and a ring is
// attached to one, so that all peers are set up alike.
class Member {
  public:
    Member(int family, int group) : socket_(nl_socket_alloc()) {
        if (!socket_) throw std::bad_alloc();
        nl_socket_disable_seq_check(socket_);
        if (const int error = nl_connect(socket_, family); error < 0) {
            nl_socket_free(socket_);
            throw CheckFailed(std::string("nl_connect: ") + nl_geterror(error));
        }
        // Room for the largest batch: what is measured is delivery, not loss.
        const int bytes = 16 << 20;
        const int error = nl_socket_add_membership(socket_, group);
        if (error < 0 || setsockopt(fd(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0) {
            nl_socket_free(socket_);
            throw CheckFailed(error < 0 ? nl_geterror(error) : "SO_RCVBUFFORCE");
        }
        nl_socket_set_nonblocking(socket_);  // a message too few is an error, not a hang
    }
    ~Member() {
        if (socket_) nl_socket_free(socket_);
    }
    Member(Member&& other) noexcept : socket_(std::exchange(other.socket_, nullptr)) {}
    Member& operator=(Member&&) = delete;

    nl_sock* get() const noexcept { return socket_; }
    int fd() const noexcept { return nl_socket_get_fd(socket_); }

  private:
    nl_sock* socket_;
};

}  // namespace nlmmap_bench

#endif  // NLMMAP_TESTS_BENCH_GUEST_MEMBER_H_
