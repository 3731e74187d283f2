// SPDX-License-Identifier: MIT
//
// One call of recvmsg() or its kin, with everything that it is given and everything that it leaves
// behind: for comparing nlmmap_recvmsg() with the kernel's.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace drop_in {

// How to receive.
struct Functions {
    ssize_t (*recvmsg)(int, msghdr*, int);
    ssize_t (*recvfrom)(int, void*, std::size_t, int, sockaddr*, socklen_t*);
    ssize_t (*recv)(int, void*, std::size_t, int);
};
extern const Functions kKernel;
extern const Functions kLibrary;

struct Call {
    enum class By { recvmsg, recvfrom, recv } by = By::recvmsg;
    int flags = 0;
    std::vector<std::size_t> parts;             // bytes of each iovec; the first alone for recv()
    std::optional<socklen_t> name_bytes;        // nothing: no address is asked for
    std::optional<std::size_t> control_bytes;   // nothing: a null pointer,
    std::size_t control_bytes_of_nothing = 0;   // with this length beside it
    std::optional<std::size_t> claimed_parts;   // msg_iovlen, if it is not the number of parts
    std::optional<std::size_t> claimed_length;  // iov_len of the first part, likewise
};

// All that a call leaves behind; what was not written keeps what stood there before.
struct Outcome {
    ssize_t result = 0;
    int errnum = 0;
    int flags = 0;
    socklen_t name_bytes = 0;
    std::size_t control_bytes = 0;
    std::vector<std::uint8_t> data;
    std::vector<std::uint8_t> name;
    std::vector<std::uint8_t> control;

    bool operator==(const Outcome&) const = default;
};

Outcome perform(const Call& call, int fd, const Functions& functions);

// Any call that makes sense, and some that do not; it never waits longer than SO_RCVTIMEO says if
// `may_wait`, and not at all otherwise.
Call any_call(std::mt19937_64& random, bool may_wait);

std::string to_string(const Call& call);
std::string to_string(const Outcome& outcome);

}  // namespace drop_in
