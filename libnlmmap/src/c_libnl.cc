// SPDX-License-Identifier: MIT
// libnl's receiving functions over a ring: what nl_recv() does, by nlmmap_recvmsg()'s means.
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <nlmmap/nlmmap.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "attached.hpp"
#include "c_error.hpp"
#include "take.hpp"

namespace {

using nlmmap::detail::Held;
using nlmmap::detail::Origin;

struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

// struct nl_cb's cb_recv_ow: one datagram, in memory that libnl frees, or a negative libnl error.
// It is called for every socket that shares these callbacks, attached or not.
int receive_for_libnl(nl_sock* socket, sockaddr_nl* address, unsigned char** buffer,
                      ucred** credentials) {
    const int fd = nl_socket_get_fd(socket);
    const Held held(fd);
    if (!held) return nl_recv(socket, address, buffer, credentials);

    Origin origin{};
    std::unique_ptr<unsigned char, Free> copied;
    std::size_t bytes = 0;
    int errnum = 0;
    do {
        errnum = nlmmap::detail::take(
            *held, fd, 0, origin, [&](const std::byte* datagram, std::size_t length) {
                // The length is checked here, because another thread may have taken the first one.
                if (!copied || length > bytes)
                    copied.reset(
                        static_cast<unsigned char*>(std::malloc(length != 0 ? length : 1)));
                if (!copied) return false;
                std::memcpy(copied.get(), datagram, length);
                bytes = length;
                return true;
            });
        // As nl_recv() does.
    } while (errnum == EINTR);
    if (errnum == nlmmap::detail::kStale) {
        nlmmap::detail::forget_stale(fd);
        return nl_recv(socket, address, buffer, credentials);
    }
    if (errnum != 0) return -nl_syserr2nlerr(errnum);
    // libnl frees nothing then.
    if (bytes == 0) return 0;

    if (credentials != nullptr && (origin.options & nlmmap::detail::kPassCredentials) != 0) {
        *credentials = static_cast<ucred*>(std::malloc(sizeof(ucred)));
        if (*credentials == nullptr) return -NLE_NOMEM;
        **credentials = {.pid = static_cast<pid_t>(origin.credentials.pid),
                         .uid = origin.credentials.uid,
                         .gid = origin.credentials.gid};
    }
    *address = nlmmap::detail::address_of(origin);
    *buffer = copied.release();
    return static_cast<int>(bytes);
}

}  // namespace

int nlmmap_nl_attach(nl_sock* socket, size_t ring_bytes) {
    const int fd = nl_socket_get_fd(socket);
    const int errnum = nlmmap::detail::tried(
        [&] { nlmmap::detail::attach(fd, {.ring_bytes = ring_bytes, .credentials = true}); });
    if (errnum != 0) {
        errno = errnum;
        return fd < 0 ? -NLE_BAD_SOCK : -nl_syserr2nlerr(errnum);
    }
    nl_cb* const callbacks = nl_socket_get_cb(socket);
    nl_cb_overwrite_recv(callbacks, receive_for_libnl);
    nl_cb_put(callbacks);
    return 0;
}

void nlmmap_nl_close(nl_sock* socket) {
    nlmmap::detail::forget(nl_socket_get_fd(socket));
    nl_close(socket);
}
