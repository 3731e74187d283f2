// SPDX-License-Identifier: MIT
//
// A ring tells what plain recvmsg() would tell, no more and no less, whoever opened
// the descriptor and whoever uses it: dumps ask the running task for its rights,
// and behind a ring that is a kernel thread.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

// Runs code as that user: 0 stays root.
void as(unsigned uid, const std::function<void()>& code) {
    if (uid == 0) {
        code();
    } else {
        as_user(uid, code);
    }
}

RawSocket opened_by(unsigned uid, int protocol) {
    std::optional<RawSocket> socket;
    as(uid, [&] { socket.emplace(family_socket(protocol)); });
    return std::move(*socket);
}

// The messages of a dump, copied.
using Messages = std::vector<Reply>;

// Splits one datagram; true at the dump's end.
bool take(std::span<const std::byte> datagram, Messages& messages) {
    bool done = false;
    int left = static_cast<int>(datagram.size());
    for (auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
         NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        done |= message->nlmsg_type == NLMSG_DONE;
        if (message->nlmsg_type != NLMSG_DONE && message->nlmsg_type != NLMSG_ERROR) {
            const auto* payload = static_cast<const std::byte*>(NLMSG_DATA(message));
            messages.push_back({.header = *message,
                                .payload = Bytes(payload, payload + NLMSG_PAYLOAD(message, 0))});
        }
    }
    return done;
}

void ask(int fd, const Request& request) {
    ASSERT_GT(send(fd, request.bytes().data(), request.bytes().size(), 0), 0) << "errno " << errno;
}

Messages dump_plainly(int fd, const Request& request) {
    Messages messages;
    Bytes buffer(65536);
    ask(fd, request);
    for (bool done = false; !done;) {
        const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
        if (got < 0) {
            ADD_FAILURE() << "recv: errno " << errno;
            break;
        }
        done = take(std::span(buffer).first(static_cast<std::size_t>(got)), messages);
    }
    return messages;
}

// Reads on until the dump's end.
void read_dump(Reader& reader, Messages& messages) {
    for (bool done = false; !done;) {
        const auto arrival = reader.next(30s * patience());
        ASSERT_TRUE(arrival) << "the dump stopped after " << messages.size();
        done = take(arrival->datagram, messages);
    }
}

// Root puts the ring under it; who uses it asks and reads.
Messages dump_through_ring(RawSocket socket, unsigned used_by, const Request& request) {
    constexpr std::uint32_t kRingBytes = 1 << 17;
    EXPECT_TRUE(succeeded(attach(socket.fd(), kRingBytes)));
    RawAttached attached(std::move(socket), kRingBytes);
    const auto reader = Reader::make(Reading::mapped, attached);
    Messages messages;
    as(used_by, [&] {
        ask(attached.socket.fd(), request);
        read_dump(*reader, messages);
    });
    return messages;
}

Request sender_dump(std::uint32_t messages, std::uint32_t bytes = 64) {
    const nlmmap_sender_dump fixed{
        .messages = messages, .bytes = bytes, .flags = 0, .min_dump_alloc = 0};
    Request request(NLMMAP_SENDER_DUMP, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    return request;
}

// As whom each message of nlmmap_sender's dump was made: uid, capable, net_capable.
std::vector<std::array<std::uint32_t, 3>> makers(const Messages& messages) {
    std::vector<std::array<std::uint32_t, 3>> makers;
    for (const Reply& message : messages) {
        nlmmap_sender_part part{};
        std::memcpy(&part, message.payload.data(), sizeof(part));
        makers.push_back({part.uid, part.capable, part.net_capable});
    }
    return makers;
}

constexpr std::array<std::array<unsigned, 2>, 4> kOpenerAndUser = {
    {{0, 0}, {0, kSomebody}, {kSomebody, 0}, {kSomebody, kSomebody}}};

TEST(AttachedRights, OfADumpAreThoseOfWhoAskedForIt) {
    const Request request = sender_dump(4000);
    for (const auto& [opener, user] : kOpenerAndUser) {
        SCOPED_TRACE("opened by " + std::to_string(opener) + ", used by " + std::to_string(user));
        Messages plain;
        {
            const RawSocket socket = opened_by(opener, NLMMAP_SENDER_FAMILY);
            as(user, [&] { plain = dump_plainly(socket.fd(), request); });
        }
        ASSERT_EQ(plain.size(), 4000U);
        const Messages ring =
            dump_through_ring(opened_by(opener, NLMMAP_SENDER_FAMILY), user, request);
        EXPECT_EQ(makers(ring), makers(plain));
    }
}

// A dump of all TCP sockets that listen; those with the mark of each.
Request tcp_dump() {
    inet_diag_req_v2 fixed{};
    fixed.sdiag_family = AF_INET;
    fixed.sdiag_protocol = IPPROTO_TCP;
    fixed.idiag_states = ~0U;
    Request request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    return request;
}

std::size_t marked(const Messages& messages) {
    std::size_t count = 0;
    for (const Reply& message : messages) {
        std::size_t at = sizeof(inet_diag_msg);
        while (at + sizeof(nlattr) <= message.payload.size()) {
            nlattr attribute{};
            std::memcpy(&attribute, message.payload.data() + at, sizeof(attribute));
            count += attribute.nla_type == INET_DIAG_MARK;
            at += NLA_ALIGN(std::max<std::size_t>(attribute.nla_len, sizeof(attribute)));
        }
    }
    return count;
}

TEST(AttachedRights, DecideWhoSeesTheMarksOfOthersSockets) {
    in_new_network([] {
        std::vector<RawSocket> listeners;
        for (int at = 0; at < 300; ++at) {
            const RawSocket& one =
                listeners.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            const int mark = 4711;
            ASSERT_EQ(setsockopt(one.fd(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0) << errno;
            ASSERT_EQ(listen(one.fd(), 1), 0) << errno;
        }
        for (const auto& [opener, user] : kOpenerAndUser) {
            SCOPED_TRACE("opened by " + std::to_string(opener) + ", used by " +
                         std::to_string(user));
            Messages plain;
            {
                const RawSocket socket = opened_by(opener, NETLINK_SOCK_DIAG);
                as(user, [&] { plain = dump_plainly(socket.fd(), tcp_dump()); });
            }
            ASSERT_EQ(plain.size(), 300U) << "is tcp_diag loaded?";
            const Messages ring =
                dump_through_ring(opened_by(opener, NETLINK_SOCK_DIAG), user, tcp_dump());
            EXPECT_EQ(ring.size(), plain.size());
            EXPECT_EQ(marked(ring), marked(plain));
            EXPECT_EQ(marked(ring), opener == 0 && user == 0 ? 300U : 0U);
        }
    });
}

// How many messages of a dump were made by one who is capable.
std::size_t capable(const Messages& messages) {
    const auto made_by = makers(messages);
    return static_cast<std::size_t>(
        std::ranges::count_if(made_by, [](const auto& maker) { return maker[1] != 0; }));
}

TEST(AttachedRights, AreTheLeastOfAllWhoEverSent) {
    RawSocket socket = opened_by(0, NLMMAP_SENDER_FAMILY);
    ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 17)));
    RawAttached attached(std::move(socket), 1 << 17);
    const auto reader = Reader::make(Reading::mapped, attached);
    bool somebody_sent = false;
    for (const unsigned user : {0U, 0U, kSomebody, 0U, kSomebody, 0U}) {
        somebody_sent |= user != 0;
        Messages messages;
        as(user, [&] {
            ask(attached.socket.fd(), sender_dump(2000));
            read_dump(*reader, messages);
        });
        ASSERT_EQ(messages.size(), 2000U);
        if (!somebody_sent) {
            EXPECT_EQ(capable(messages), 2000U);
            continue;
        }
        // The first part is made in the time of whoever asks.
        EXPECT_LT(capable(messages), user == 0 ? 100U : 1U);
        EXPECT_EQ(makers(messages).back()[0], kSomebody);
    }
    // Another user's are not the first one's.
    Messages messages;
    as(kSomebody + 1, [&] {
        ask(attached.socket.fd(), sender_dump(2000));
        read_dump(*reader, messages);
    });
    EXPECT_EQ(capable(messages), 0U);
    EXPECT_NE(makers(messages).back()[0], kSomebody);
    EXPECT_NE(makers(messages).back()[0], kSomebody + 1);
}

TEST(AttachedRights, OfWhoAttachesDoNotServeADumpThatWasBegunBefore) {
    const RawSocket socket = opened_by(0, NLMMAP_SENDER_FAMILY);
    as(kSomebody, [&] { ask(socket.fd(), sender_dump(2000)); });
    // He has it still.
    RawSocket handed_over(fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0));
    ASSERT_TRUE(succeeded(attach(handed_over.fd(), 1 << 17)));
    RawAttached attached(std::move(handed_over), 1 << 17);
    const auto reader = Reader::make(Reading::mapped, attached);
    Messages messages;
    read_dump(*reader, messages);
    EXPECT_EQ(messages.size(), 2000U);
    EXPECT_EQ(capable(messages), 0U);
    // Nor any later one.
    for (const unsigned user : {0U, kSomebody}) {
        messages.clear();
        as(user, [&] { ask(attached.socket.fd(), sender_dump(2000)); });
        read_dump(*reader, messages);
        EXPECT_EQ(messages.size(), 2000U);
        EXPECT_LT(capable(messages), user == 0 ? 100U : 1U);
    }
}

// A filter lets nothing through while the dump is asked for: nobody sees that one is under way.
TEST(AttachedRights, DoNotServeADumpThatWaitsUnseen) {
    RawSocket socket = opened_by(0, NLMMAP_SENDER_FAMILY);
    ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 17)));
    RawAttached attached(std::move(socket), 1 << 17);
    const int fd = attached.socket.fd();
    const auto reader = Reader::make(Reading::mapped, attached);
    sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const sock_fprog filter{.len = 1, .filter = &nothing};
    as(kSomebody, [&] {
        ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), 0);
        ask(fd, sender_dump(2000));
        const int off = 0;
        ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &off, sizeof(off)), 0);
    });
    EXPECT_FALSE(attached.ring.next());
    ask(fd, Request(NLMMAP_SENDER_ERROR));
    Messages messages;
    read_dump(*reader, messages);
    EXPECT_GT(messages.size(), 1000U) << "only the first part is missing";
    EXPECT_EQ(capable(messages), 0U);
}

TEST(AttachedRights, AreNotMixedWhenTwoAskAtOnce) {
    RawSocket socket = opened_by(0, NLMMAP_SENDER_FAMILY);
    ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 20)));
    RawAttached attached(std::move(socket), 1 << 20);
    const int fd = attached.socket.fd();
    const auto reader = Reader::make(Reading::mapped, attached);
    // His messages are told from root's by their length. Root's dumps are long, because netlink
    // makes a part in the time of whoever asked, after somebody else may have made all others.
    constexpr std::uint32_t kHisBytes = 72;
    std::atomic<bool> stop = false;
    // Asks on; what is refused because another dump is under way is asked again.
    const auto asking = [&](unsigned user) {
        return std::async(std::launch::async, [&, user] {
            as(user, [&] {
                const Request request = user == 0 ? sender_dump(3000) : sender_dump(150, kHisBytes);
                while (!stop) {
                    send(fd, request.bytes().data(), request.bytes().size(), 0);
                }
            });
        });
    };
    std::vector<std::future<void>> all;
    all.push_back(asking(0));
    all.push_back(asking(kSomebody));
    int dumps = 0;
    std::size_t lent = 0;
    while (dumps < 50) {
        const auto arrival = reader->next(30s * patience());
        if (!arrival) {
            ADD_FAILURE() << "after " << dumps << " dumps nothing comes";
            break;
        }
        Messages messages;
        take(arrival->datagram, messages);
        std::erase_if(messages,
                      [](const Reply& message) { return message.payload.size() != kHisBytes; });
        lent += capable(messages);
        for (const Reply& message : messages) {
            nlmmap_sender_part part{};
            std::memcpy(&part, message.payload.data(), sizeof(part));
            dumps += part.number == 0 ? 1 : 0;
        }
    }
    EXPECT_EQ(lent, 0U);
    stop = true;
    for (auto& one : all) one.get();
}

TEST(AttachedRights, AreNotLentByAPrivilegedProgramThatSendsDuringADump) {
    RawSocket socket = opened_by(0, NLMMAP_SENDER_FAMILY);
    ASSERT_TRUE(succeeded(attach(socket.fd(), 1 << 16)));
    RawAttached attached(std::move(socket), 1 << 16);
    const auto reader = Reader::make(Reading::mapped, attached);
    as(kSomebody, [&] { ask(attached.socket.fd(), sender_dump(4000)); });
    // The ring is full, and most of the dump not made yet.
    ASSERT_TRUE(
        eventually([&] { return (attached.ring.producer().state & NLMMAP_STATE_STALLED) != 0; }));
    Messages messages;
    for (int round = 0; round < 5; ++round) {
        ask(attached.socket.fd(), Request(NLMMAP_SENDER_ERROR));
        for (int at = 0; at < 2; ++at) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival);
            take(arrival->datagram, messages);
        }
    }
    read_dump(*reader, messages);
    ASSERT_EQ(messages.size(), 4000U);
    std::size_t number = 0;
    for (const auto& maker : makers(messages)) {
        ASSERT_EQ(maker[0], kSomebody) << "message " << number;
        ASSERT_EQ(maker[1], 0U) << "message " << number;
        ++number;
    }
}

// A bool of the module while it lives.
class Switch {
  public:
    explicit Switch(const std::string& name) : path_("/sys/module/nlmmap/parameters/" + name) {
        set("Y");
    }
    Switch(const Switch&) = delete;
    Switch& operator=(const Switch&) = delete;
    ~Switch() { set("N"); }

  private:
    void set(const std::string& value) const {
        FILE* file = fopen(path_.c_str(), "we");
        if (file == nullptr || fputs(value.c_str(), file) < 0 || fclose(file) != 0) {
            ADD_FAILURE() << path_ << ": errno " << errno;
        }
    }
    std::string path_;
};

TEST(AttachedRights, ToAttachAreForTheAdministratorUnlessTheModuleIsToldOtherwise) {
    as_user(kSomebody, [] {
        const RawSocket socket = family_socket(NETLINK_ROUTE);
        EXPECT_TRUE(refused(attach(socket.fd(), 4096), EPERM));
        char byte;
        EXPECT_EQ(recv(socket.fd(), &byte, 1, MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, EAGAIN) << "a refused attach changes nothing";
    });
    // Root of a user namespace of its own is nobody here.
    EXPECT_EQ(in_child([]() -> std::string {
                  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
                      return "unshare: errno " + std::to_string(errno);
                  }
                  const RawSocket socket = family_socket(NETLINK_ROUTE);
                  const Outcome outcome = attach(socket.fd(), 4096);
                  return outcome.error == EPERM ? "" : "errno " + std::to_string(outcome.error);
              }),
              "");
    const Switch unprivileged("attach_unprivileged");
    as_user(kSomebody, [] {
        const RawSocket socket = family_socket(NETLINK_ROUTE);
        EXPECT_TRUE(succeeded(attach(socket.fd(), 4096)));
    });
}

}  // namespace
}  // namespace guest
