// SPDX-License-Identifier: MIT
#include "tests/drop_in/receiving.h"

#include <nlmmap/nlmmap.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <numeric>
#include <span>

namespace drop_in {
namespace {

constexpr std::uint8_t kUntouched = 0xa5;
constexpr std::size_t kManyParts = 1100;

template <typename T, std::size_t N>
T one_of(std::mt19937_64& random, const std::array<T, N>& choices) {
    return choices.at(random() % N);
}

bool one_in(std::mt19937_64& random, unsigned count) { return random() % count == 0; }

std::string in_hex(std::span<const std::uint8_t> bytes, std::size_t most) {
    std::string text;
    for (const std::uint8_t byte : bytes.first(std::min(bytes.size(), most))) {
        std::array<char, 4> two{};
        std::snprintf(two.data(), two.size(), "%02x", byte);
        text += two.data();
    }
    return text;
}

}  // namespace

const Functions kKernel = {
    .recvmsg = ::recvmsg,
    .recvfrom =
        [](int fd, void* buffer, std::size_t bytes, int flags, sockaddr* address,
           socklen_t* address_bytes) {
            return ::recvfrom(fd, buffer, bytes, flags, address, address_bytes);
        },
    .recv = [](int fd, void* buffer, std::size_t bytes,
               int flags) { return ::recv(fd, buffer, bytes, flags); },
};
const Functions kLibrary = {
    .recvmsg = nlmmap_recvmsg, .recvfrom = nlmmap_recvfrom, .recv = nlmmap_recv};

Outcome perform(const Call& call, int fd, const Functions& functions) {
    Outcome outcome;
    outcome.data.assign(std::accumulate(call.parts.begin(), call.parts.end(), std::size_t{0}) + 1,
                        kUntouched);
    outcome.name.assign(sizeof(sockaddr_storage), kUntouched);
    outcome.control.assign(call.control_bytes.value_or(0) + 1, kUntouched);

    if (call.by != Call::By::recvmsg) {
        const std::size_t bytes =
            call.claimed_length.value_or(call.parts.empty() ? 0 : call.parts.front());
        outcome.name_bytes = call.name_bytes.value_or(0);
        errno = 0;
        if (call.by == Call::By::recv) {
            outcome.result = functions.recv(fd, outcome.data.data(), bytes, call.flags);
        } else {
            outcome.result = functions.recvfrom(
                fd, outcome.data.data(), bytes, call.flags,
                call.name_bytes ? reinterpret_cast<sockaddr*>(outcome.name.data()) : nullptr,
                call.name_bytes ? &outcome.name_bytes : nullptr);
        }
        outcome.errnum = errno;
        return outcome;
    }

    std::vector<iovec> parts;
    std::size_t offset = 0;
    for (const std::size_t bytes : call.parts) {
        // Nothing need not be anywhere.
        parts.push_back(
            {.iov_base = bytes != 0 ? outcome.data.data() + offset : nullptr, .iov_len = bytes});
        offset += bytes;
    }
    if (!parts.empty() && call.claimed_length) {
        parts.front().iov_len = *call.claimed_length;
    }
    parts.resize(std::max(parts.size(), kManyParts));
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = call.claimed_parts.value_or(call.parts.size());
    if (call.name_bytes) {
        message.msg_name = outcome.name.data();
        message.msg_namelen = *call.name_bytes;
    } else {
        message.msg_namelen = 77;  // must stay
    }
    if (call.control_bytes) {
        message.msg_control = outcome.control.data();
        message.msg_controllen = *call.control_bytes;
    } else {
        message.msg_controllen = call.control_bytes_of_nothing;
    }
    message.msg_flags = 0x5a5a;
    errno = 0;
    outcome.result = functions.recvmsg(fd, &message, call.flags);
    outcome.errnum = errno;
    outcome.flags = message.msg_flags;
    outcome.name_bytes = message.msg_namelen;
    outcome.control_bytes = message.msg_controllen;
    return outcome;
}

Call any_call(std::mt19937_64& random, bool may_wait) {
    Call call;
    call.by = one_of(random, std::array{Call::By::recvmsg, Call::By::recvmsg, Call::By::recvmsg,
                                        Call::By::recvfrom, Call::By::recv});
    if (!may_wait) call.flags |= MSG_DONTWAIT;
    for (const int flag : {MSG_PEEK, MSG_TRUNC, MSG_CMSG_CLOEXEC}) {
        if (one_in(random, 3)) call.flags |= flag;
    }
    for (const int flag : {MSG_WAITALL, MSG_NOSIGNAL, MSG_ERRQUEUE, MSG_DONTROUTE, MSG_CTRUNC}) {
        if (one_in(random, 12)) call.flags |= flag;
    }
    if (one_in(random, 40)) call.flags |= MSG_OOB;
    // The entry for recvmsg() alone refuses it; recvfrom() would take us for a 32-bit program.
    if (call.by == Call::By::recvmsg && one_in(random, 60)) call.flags |= INT_MIN;

    const std::size_t count = one_in(random, 3) ? random() % 5 : 1;
    for (std::size_t i = 0; i < count; ++i) {
        call.parts.push_back(one_of(
            random,
            std::array<std::size_t, 10>{0, 1, 8, 16, 20, 64, 100, 2000, 40000, random() % 3000}));
    }
    if (one_in(random, 4)) call.parts.assign(1, 65536);
    if (one_in(random, 80)) {
        call.claimed_parts =
            one_of(random, std::array<std::size_t, 3>{1024, 1025, std::size_t{1} << 40});
    }
    if (call.by == Call::By::recvmsg && one_in(random, 80)) {
        call.claimed_length = static_cast<std::size_t>(-1) - random() % 100;
    }

    if (!one_in(random, 3)) {
        call.name_bytes = one_of(
            random, std::array<socklen_t, 8>{0, 1, 4, 11, 12, 13, sizeof(sockaddr_storage), 1000});
        if (one_in(random, 40)) call.name_bytes = static_cast<socklen_t>(-1);
    }
    if (!one_in(random, 4)) {
        call.control_bytes = one_of(
            random, std::array<std::size_t, 10>{0, 1, 15, 16, 17, 20, 24, 56, 200, random() % 100});
    } else if (one_in(random, 2)) {
        call.control_bytes_of_nothing = 64;
    }
    return call;
}

std::string to_string(const Call& call) {
    std::string text = call.by == Call::By::recvmsg    ? "recvmsg"
                       : call.by == Call::By::recvfrom ? "recvfrom"
                                                       : "recv";
    std::array<char, 24> flags{};
    std::snprintf(flags.data(), flags.size(), "%#x", static_cast<unsigned>(call.flags));
    text += std::string("(flags ") + flags.data() + ", parts";
    for (const std::size_t bytes : call.parts) text += " " + std::to_string(bytes);
    if (call.claimed_parts) text += " claimed " + std::to_string(*call.claimed_parts);
    if (call.claimed_length) text += " claimed length " + std::to_string(*call.claimed_length);
    if (call.name_bytes) text += ", name " + std::to_string(static_cast<int>(*call.name_bytes));
    if (call.control_bytes) text += ", control " + std::to_string(*call.control_bytes);
    return text + ")";
}

std::string to_string(const Outcome& outcome) {
    std::array<char, 24> flags{};
    std::snprintf(flags.data(), flags.size(), "%#x", static_cast<unsigned>(outcome.flags));
    return std::to_string(outcome.result) + " errno " + std::to_string(outcome.errnum) + " flags " +
           flags.data() + " namelen " + std::to_string(outcome.name_bytes) + " name " +
           in_hex(outcome.name, 16) + " controllen " + std::to_string(outcome.control_bytes) +
           " control " + in_hex(outcome.control, 100) + " data " + in_hex(outcome.data, 48);
}

}  // namespace drop_in
