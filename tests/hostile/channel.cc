// SPDX-License-Identifier: MIT
#include "tests/hostile/channel.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "tests/hostile/attacker.h"

namespace hostile {

Channel::Channel() {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_.data()) != 0) {
        throw std::system_error(errno, std::system_category(), "socketpair");
    }
    // Who waits for one that was killed must not wait for ever.
    const timeval limit{.tv_sec = 60 * patience(), .tv_usec = 0};
    for (const int end : ends_) {
        setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
}

Channel::~Channel() {
    close(ends_[0]);
    close(ends_[1]);
}

void put(int end, std::uint64_t number, int descriptor) {
    iovec part{.iov_base = &number, .iov_len = sizeof(number)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    if (sendmsg(end, &message, 0) < 0) {
        throw std::system_error(errno, std::system_category(), "sendmsg");
    }
}

std::uint64_t take(int end, int* descriptor) {
    std::uint64_t number = 0;
    iovec part{.iov_base = &number, .iov_len = sizeof(number)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (recvmsg(end, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof(number))) {
        throw std::runtime_error("the other end says nothing");
    }
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (descriptor != nullptr && header != nullptr) {
        std::memcpy(descriptor, CMSG_DATA(header), sizeof(int));
    }
    return number;
}

int take_descriptor(int end) {
    int descriptor = -1;
    take(end, &descriptor);
    if (descriptor < 0) {
        throw std::runtime_error("the other end says a number without a descriptor");
    }
    return descriptor;
}

}  // namespace hostile
