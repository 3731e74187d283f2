// SPDX-License-Identifier: MIT
//
// Messages that a family lays out twice: xfrm's, for 64-bit and for 32-bit programs
// (where the kernel has CONFIG_XFRM_USER_COMPAT). Whoever reads a ring gets what
// recvmsg() gives him. This program becomes a 32-bit one by the system calls that it
// makes: int 0x80.
#include <gtest/gtest.h>
#include <linux/net.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <system_error>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kPolicies = 5;

// Send and receive as a 32-bit program does.
class As32Bit {
  public:
    As32Bit()
        : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0)) {
        if (memory_ == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap below 4 GiB");
        }
    }
    As32Bit(const As32Bit&) = delete;
    As32Bit& operator=(const As32Bit&) = delete;
    ~As32Bit() { munmap(memory_, kBytes); }

    // The number of bytes, or -errno.
    int send(int fd, std::span<const std::byte> bytes) {
        std::memcpy(buffer(), bytes.data(), bytes.size());
        return call(SYS_SEND, fd, bytes.size(), 0);
    }
    int receive(int fd, Bytes& bytes, int flags) {
        const int got = call(SYS_RECV, fd, kBufferBytes, flags);
        bytes.assign(buffer(), buffer() + std::max(got, 0));
        return got;
    }

  private:
    static constexpr std::size_t kBytes = 1 << 17;
    static constexpr std::size_t kBufferBytes = 1 << 16;

    std::byte* buffer() { return static_cast<std::byte*>(memory_) + kBytes - kBufferBytes; }

    int call(int number, int fd, std::size_t bytes, int flags) {
        const auto low = [](const void* at) {
            return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(at));
        };
        const std::array<std::uint32_t, 4> arguments = {
            static_cast<std::uint32_t>(fd), low(buffer()), static_cast<std::uint32_t>(bytes),
            static_cast<std::uint32_t>(flags)};
        std::memcpy(memory_, arguments.data(), sizeof(arguments));
        constexpr long kSocketcall = 102;  // of i386
        long result = kSocketcall;
        asm volatile("int $0x80"
                     : "+a"(result)
                     : "b"(static_cast<long>(number)), "c"(memory_)
                     : "memory", "r8", "r9", "r10", "r11");
        return static_cast<int>(result);
    }

    void* memory_;
};

// A datagram, without what differs from socket to socket.
Bytes without_port(std::span<const std::byte> datagram) {
    Bytes bytes(datagram.begin(), datagram.end());
    int left = static_cast<int>(bytes.size());
    for (auto* message = reinterpret_cast<nlmsghdr*>(bytes.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
        message->nlmsg_pid = 0;
    }
    return bytes;
}

bool ends_dump(const Bytes& datagram) {
    int left = static_cast<int>(datagram.size());
    for (auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
         NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
            return true;
        }
    }
    return false;
}

using Datagrams = std::vector<Bytes>;

Request dump_policies() { return Request(XFRM_MSG_GETPOLICY, NLM_F_REQUEST | NLM_F_DUMP); }

void add_policies() {
    RawSocket admin = family_socket(NETLINK_XFRM);
    for (std::uint32_t number = 0; number < kPolicies; ++number) {
        xfrm_userpolicy_info policy{};
        policy.sel.family = AF_INET;
        policy.sel.daddr.a4 = htonl(0x0a000000 + number);
        policy.sel.prefixlen_d = 32;
        policy.lft.soft_byte_limit = policy.lft.hard_byte_limit = XFRM_INF;
        policy.lft.soft_packet_limit = policy.lft.hard_packet_limit = XFRM_INF;
        policy.dir = XFRM_POLICY_OUT;
        Request request(XFRM_MSG_NEWPOLICY);
        request.raw(std::as_bytes(std::span(&policy, 1)));
        ASSERT_TRUE(succeeded(admin.ask(request)));
    }
}

// What plain listeners get; the ring's reader is to get the same.
Datagrams heard(int fd, As32Bit* as_32_bit) {
    Datagrams datagrams;
    Bytes buffer(1 << 16);
    for (;;) {
        if (as_32_bit != nullptr) {
            if (as_32_bit->receive(fd, buffer, MSG_DONTWAIT) < 0) {
                return datagrams;
            }
            datagrams.push_back(without_port(buffer));
            continue;
        }
        const ssize_t got = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got < 0) {
            return datagrams;
        }
        datagrams.push_back(without_port(std::span(buffer).first(static_cast<std::size_t>(got))));
    }
}

// The next ones of a ring: so many, or up to the end of a dump.
Datagrams read(RawAttached& attached, std::size_t count) {
    const auto reader = Reader::make(Reading::mapped, attached);
    Datagrams datagrams;
    while (count == 0 || datagrams.size() < count) {
        const auto arrival = reader->next(30s * patience());
        if (!arrival) {
            ADD_FAILURE() << "nothing came after " << datagrams.size() << " datagrams";
            break;
        }
        EXPECT_EQ(arrival->lost, 0U);
        datagrams.push_back(without_port(arrival->datagram));
        if (count == 0 && ends_dump(datagrams.back())) {
            break;
        }
    }
    attached.ring.release();
    return datagrams;
}

void ask(int fd, As32Bit* as_32_bit) {
    const Request request = dump_policies();
    if (as_32_bit != nullptr) {
        ASSERT_GT(as_32_bit->send(fd, request.bytes()), 0);
    } else {
        ASSERT_GT(send(fd, request.bytes().data(), request.bytes().size(), 0), 0);
    }
}

Datagrams plainly_dumped(As32Bit* as_32_bit) {
    const RawSocket socket = family_socket(NETLINK_XFRM);
    ask(socket.fd(), as_32_bit);
    return heard(socket.fd(), as_32_bit);
}

// A socket that listens to changes of policies, plain or with a ring.
RawSocket listener() {
    RawSocket socket = family_socket(NETLINK_XFRM);
    EXPECT_EQ(socket.add_membership(XFRMNLGRP_POLICY), 0);
    return socket;
}

RawAttached attached_listener(As32Bit* as_32_bit) {
    RawSocket socket = listener();
    constexpr std::uint32_t kRingBytes = 1 << 17;
    if (as_32_bit != nullptr) {
        Request request(NLMMAP_MSG_ATTACH);
        request.u32(NLMMAP_A_FD, static_cast<std::uint32_t>(socket.fd()))
            .u32(NLMMAP_A_RX_BYTES, kRingBytes);
        RawSocket control;
        EXPECT_GT(as_32_bit->send(control.fd(), request.bytes()), 0);
        EXPECT_TRUE(succeeded(control.answer()));
    } else {
        EXPECT_TRUE(succeeded(attach(socket.fd(), kRingBytes)));
    }
    return {std::move(socket), kRingBytes};
}

// Does the kernel lay xfrm's messages out for 32-bit programs? Else it refuses theirs.
bool lays_out_for_32_bit(As32Bit& as_32_bit) {
    const Datagrams answer = plainly_dumped(&as_32_bit);
    nlmsghdr header{};
    if (answer.empty() || answer.front().size() < sizeof(header)) {
        ADD_FAILURE() << "no answer to a dump of policies";
        return false;
    }
    std::memcpy(&header, answer.front().data(), sizeof(header));
    return header.nlmsg_type != NLMSG_ERROR;
}

TEST(AttachedCompat, GivesMulticastsAsRecvmsgGivesThemToThatKindOfProgram) {
    in_new_network([] {
        As32Bit as_32_bit;
        const RawSocket plain = listener();
        const RawSocket plain_32 = listener();
        RawAttached attached = attached_listener(nullptr);
        RawAttached attached_32 = attached_listener(&as_32_bit);
        add_policies();

        const Datagrams native = heard(plain.fd(), nullptr);
        const Datagrams compat = heard(plain_32.fd(), &as_32_bit);
        ASSERT_EQ(native.size(), kPolicies);
        EXPECT_EQ(read(attached, kPolicies), native);
        EXPECT_EQ(read(attached_32, kPolicies), compat);
        EXPECT_EQ(native != compat, lays_out_for_32_bit(as_32_bit));
    });
}

TEST(AttachedCompat, GivesDumpsAsRecvmsgGivesThemToWhoAsked) {
    in_new_network([] {
        As32Bit as_32_bit;
        add_policies();
        const Datagrams native = plainly_dumped(nullptr);
        const Datagrams compat = plainly_dumped(&as_32_bit);
        ASSERT_FALSE(native.empty());
        EXPECT_NE(native, compat);

        // Whoever attached: the last who sent decides.
        RawAttached attached = attached_listener(&as_32_bit);
        for (int round = 0; round < 3; ++round) {
            ask(attached.socket.fd(), nullptr);
            EXPECT_EQ(read(attached, 0), native);
            ask(attached.socket.fd(), &as_32_bit);
            EXPECT_EQ(read(attached, 0), compat);
        }
    });
}

}  // namespace
}  // namespace guest
