// SPDX-License-Identifier: MIT
//
// Every allocation and user copy of an attach failing once in turn, and of a dump
// that goes through the ring. What fails says so, leaves the socket as it was, and
// works the next time.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/faults.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::attach;
using guest::attached_info;
using guest::family_socket;
using guest::RawAttached;
using guest::RawSocket;
using guest::Reader;
using guest::Reading;
using guest::Request;

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kRing = 4 * kPage;

class AttachFaults : public testing::Test {
  protected:
    void SetUp() override {
        std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "Y";
    }
    void TearDown() override {
        std::ofstream("/sys/module/nlmmap/parameters/attach_unprivileged") << "N";
    }

    FaultInjection injection_;
    NthFault fault_;
};

TEST_F(AttachFaults, SocketIsAttachedOrNot) {
    // Room for exactly one ring: a page that stays charged makes all that follows fail.
    const guest::MemlockLimit limit(kRing + 2 * kPage);
    std::optional<RawSocket> socket;
    std::optional<RawSocket> control;
    std::unique_ptr<Exchange> exchange;
    const auto again = [&] {
        socket.reset();
        socket.emplace(family_socket(NLMMAP_SENDER_FAMILY));
        exchange = std::make_unique<Exchange>(
            Request(NLMMAP_MSG_ATTACH)
                .u32(NLMMAP_A_FD, static_cast<std::uint32_t>(socket->fd()))
                .u32(NLMMAP_A_RX_BYTES, kRing)
                .u32(NLMMAP_A_FLAGS, NLMMAP_SETUP_CREDENTIALS));
    };
    const Somebody somebody;
    control.emplace();
    again();
    fail_each_in_turn(
        fault_, "attach", 10, [&] { exchange->send(control->fd()); },
        [&](bool) {
            exchange->receive(control->fd(), false);
            const Came came = exchange->came();
            if (came == Came::failed) {
                EXPECT_TRUE(is_fault_error(exchange->said())) << strerrorname_np(exchange->said());
            }
            const bool attached = attached_info(socket->fd()).error == 0;
            if (came != Came::unknown) {
                EXPECT_EQ(attached, came == Came::worked) << "it is not as it was told";
            }
            char byte;
            EXPECT_EQ(recv(socket->fd(), &byte, 1, MSG_DONTWAIT), -1);
            EXPECT_EQ(errno, attached ? EBUSY : EAGAIN);
            if (attached) {
                EXPECT_TRUE(guest::refused(attach(socket->fd(), kRing), EBUSY));
            } else {
                EXPECT_TRUE(guest::succeeded(attach(socket->fd(), kRing))) << "on the same socket";
            }
            EXPECT_NO_THROW(guest::RawRing(*socket, kRing));
            again();
            return came;
        });
}

// A part of a dump that cannot be made is an error of the socket, as by recvmsg();
// and the socket hears what is sent afterwards.
TEST_F(AttachFaults, DumpGoesOnOrSaysWhatFailed) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 17);
    attached.listen(9);
    const nlmmap_sender_dump fixed{.messages = 200, .bytes = 96, .flags = 0, .min_dump_alloc = 0};
    Request request(NLMMAP_SENDER_DUMP, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    const auto reader = Reader::make(Reading::mapped, attached);
    guest::Senders senders;
    ssize_t sent = 0;
    int error = 0;
    fail_each_in_turn(
        fault_, "dump", 3,
        [&] {
            sent = send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0);
            error = sent < 0 ? errno : 0;
        },
        [&](bool) {
            if (sent < 0) {
                EXPECT_TRUE(is_fault_error(error)) << strerrorname_np(error);
            }
            bool done = false;
            bool said = sent < 0;
            bool heard = false;
            EXPECT_TRUE(guest::eventually([&] {
                heard = false;
                senders.send({.group = 9});
                while (const auto arrival = reader->next(50ms)) {
                    said |= arrival->lost_unknown || arrival->lost != 0;
                    if (arrival->datagram.size() < sizeof(nlmsghdr)) {
                        said = true;  // an error of the socket
                        continue;
                    }
                    const auto* message =
                        reinterpret_cast<const nlmsghdr*>(arrival->datagram.data());
                    int left = static_cast<int>(arrival->datagram.size());
                    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
                        done |= message->nlmsg_type == NLMSG_DONE;
                        said |= message->nlmsg_type == NLMSG_ERROR;
                        heard |= message->nlmsg_type >= NLMMAP_SENDER_DATA;
                    }
                }
                return heard && (done || said);
            })) << (heard ? "the dump ended without a word" : "the socket is deaf");
            EXPECT_TRUE(done || said) << "the dump ended without a word";
            return done && sent >= 0 ? Came::worked : Came::failed;
        });
}

}  // namespace
}  // namespace hostile
