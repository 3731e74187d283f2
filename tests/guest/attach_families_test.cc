// SPDX-License-Identifier: MIT
//
// Families as daemons use them, each with a ring under its socket: conntrack under
// load, audit, the proc connector; and netlink's own options and taps.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <future>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using namespace std::chrono_literals;

// One attribute.
Bytes attribute(std::uint16_t type, std::span<const std::byte> payload) {
    nlattr header{};
    header.nla_len = static_cast<std::uint16_t>(sizeof(header) + payload.size());
    header.nla_type = type;
    Bytes bytes(NLA_ALIGN(header.nla_len));
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
    return bytes;
}

Bytes attribute(std::uint16_t type, std::string_view text) {
    const std::string terminated(text);
    return attribute(type, std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)));
}

Bytes big_endian(std::uint16_t type, std::uint32_t value) {
    const std::uint32_t swapped = htonl(value);
    return attribute(type, std::as_bytes(std::span(&swapped, 1)));
}

Bytes nested(std::uint16_t type, const std::vector<Bytes>& inside) {
    Bytes all;
    for (const Bytes& one : inside) {
        all.insert(all.end(), one.begin(), one.end());
    }
    return attribute(type | NLA_F_NESTED, all);
}

void bring_lo_up() {
    RawSocket socket = family_socket(NETLINK_ROUTE);
    ifinfomsg fixed{};
    fixed.ifi_index = 1;
    fixed.ifi_flags = IFF_UP;
    fixed.ifi_change = IFF_UP;
    Request request(RTM_NEWLINK);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    ASSERT_TRUE(succeeded(socket.ask(request)));
}

// A rule that looks at connections, so that the kernel tracks them here.
void track_connections() {
    const auto message = [](std::uint16_t type, std::uint16_t flags, std::uint8_t family,
                            std::uint16_t resource, const std::vector<Bytes>& attributes) {
        nfgenmsg fixed{};
        fixed.nfgen_family = family;
        fixed.res_id = htons(resource);
        Request request(type, static_cast<std::uint16_t>(NLM_F_REQUEST | flags));
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        for (const Bytes& one : attributes) {
            request.raw(one);
        }
        return request.bytes();
    };
    const auto of_tables = [&](std::uint16_t type, std::uint16_t flags,
                               const std::vector<Bytes>& attributes) {
        return message(static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type),
                       static_cast<std::uint16_t>(flags | NLM_F_CREATE), NFPROTO_IPV4, 0,
                       attributes);
    };
    Bytes batch;
    for (const Bytes& one :
         {message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {}),
          of_tables(NFT_MSG_NEWTABLE, 0, {attribute(NFTA_TABLE_NAME, "t")}),
          of_tables(NFT_MSG_NEWCHAIN, 0,
                    {attribute(NFTA_CHAIN_TABLE, "t"), attribute(NFTA_CHAIN_NAME, "c"),
                     nested(NFTA_CHAIN_HOOK, {big_endian(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN),
                                              big_endian(NFTA_HOOK_PRIORITY, 0)}),
                     attribute(NFTA_CHAIN_TYPE, "filter")}),
          of_tables(NFT_MSG_NEWRULE, NLM_F_ACK | NLM_F_APPEND,
                    {attribute(NFTA_RULE_TABLE, "t"), attribute(NFTA_RULE_CHAIN, "c"),
                     nested(NFTA_RULE_EXPRESSIONS,
                            {nested(NFTA_LIST_ELEM,
                                    {attribute(NFTA_EXPR_NAME, "ct"),
                                     nested(NFTA_EXPR_DATA,
                                            {big_endian(NFTA_CT_DREG, NFT_REG_1),
                                             big_endian(NFTA_CT_KEY, NFT_CT_STATE)})})})}),
          message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {})}) {
        batch.insert(batch.end(), one.begin(), one.end());
    }
    RawSocket socket = family_socket(NETLINK_NETFILTER);
    ASSERT_TRUE(succeeded(socket.ask_bytes(batch))) << "are nf_tables and nft_ct loaded?";
}

// One datagram to each of so many addresses: a new connection each, seen in softirq.
void make_connections(std::uint32_t first, std::uint32_t count) {
    const RawSocket socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_GE(socket.fd(), 0);
    for (std::uint32_t number = first; number < first + count; ++number) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(9999);
        to.sin_addr.s_addr = htonl(0x7f000001 + number);
        ASSERT_EQ(
            sendto(socket.fd(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 1)
            << "errno " << errno;
    }
}

TEST(AttachedConntrack, EveryNewConnectionUnderLoadIsInTheRing) {
    in_new_network([] {
        const std::uint32_t count = patience() > 1 ? 2000 : 10000;
        bring_lo_up();
        track_connections();
        RawSocket sink(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_port = htons(9999);
        ASSERT_EQ(bind(sink.fd(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);

        RawAttached attached(NETLINK_NETFILTER, 1 << 23);
        attached.listen(NFNLGRP_CONNTRACK_NEW);
        // A plain socket, to see that this is more than one holds.
        RawSocket plain = family_socket(NETLINK_NETFILTER);
        ASSERT_EQ(plain.add_membership(NFNLGRP_CONNTRACK_NEW), 0);
        // Two CPUs at once; the threads belong to this network namespace.
        auto half = std::async(std::launch::async, [&] { make_connections(0, count / 2); });
        make_connections(count / 2, count / 2);
        half.get();

        const auto reader = Reader::make(Reading::mapped, attached);
        for (std::uint32_t seen = 0; seen < count; ++seen) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << "nothing more came after " << seen << " of " << count;
            ASSERT_EQ(arrival->lost, 0U) << "after " << seen;
            const auto* message = reinterpret_cast<const nlmsghdr*>(arrival->datagram.data());
            ASSERT_EQ(message->nlmsg_type, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW);
        }
        EXPECT_EQ(socket_drops(attached.socket.inode()), 0);
        EXPECT_GT(socket_drops(plain.inode()), 0) << "a plain socket would have held it all";
    });
}

void set_audit(RawSocket& socket, const audit_status& status) {
    Request request(AUDIT_SET);
    request.raw(std::as_bytes(std::span(&status, 1)));
    ASSERT_TRUE(succeeded(socket.ask(request)));
}

TEST(AttachedAudit, EveryRecordReachesTheDaemonsRing) {
    const std::uint32_t count = patience() > 1 ? 100 : 500;
    RawSocket control = family_socket(NETLINK_AUDIT);
    audit_status status{};
    status.mask = AUDIT_STATUS_ENABLED | AUDIT_STATUS_BACKLOG_LIMIT;
    status.enabled = 1;
    status.backlog_limit = 8192;
    set_audit(control, status);

    RawAttached daemon(NETLINK_AUDIT, 1 << 20);
    RawAttached monitor(NETLINK_AUDIT, 1 << 20);
    monitor.listen(AUDIT_NLGRP_READLOG);
    audit_status mine{};
    mine.mask = AUDIT_STATUS_PID;
    mine.pid = static_cast<std::uint32_t>(getpid());
    Request request(AUDIT_SET);
    request.raw(std::as_bytes(std::span(&mine, 1)));
    ASSERT_GT(send(daemon.socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);

    for (std::uint32_t number = 0; number < count; ++number) {
        std::string text = "nlmmap-number=" + std::to_string(number) + ".";
        Request one(AUDIT_USER);
        one.raw(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
        ASSERT_TRUE(succeeded(control.ask(one)));
    }
    for (RawAttached* attached : {&daemon, &monitor}) {
        const auto reader = Reader::make(Reading::mapped, *attached);
        std::uint32_t seen = 0;
        while (seen < count) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << "nothing more came after " << seen << " of " << count;
            ASSERT_EQ(arrival->lost, 0U);
            const std::string_view text(reinterpret_cast<const char*>(arrival->datagram.data()),
                                        arrival->datagram.size());
            if (text.find("nlmmap-number=") != text.npos) {
                EXPECT_NE(text.find("nlmmap-number=" + std::to_string(seen) + "."), text.npos)
                    << "where " << seen << " was due";
                ++seen;
            }
        }
        EXPECT_EQ(socket_drops(attached->socket.inode()), 0);
    }
    status.enabled = 0;
    set_audit(control, status);
}

void say_to_connector(int fd, std::uint32_t op) {
    cn_msg fixed{};
    fixed.id.idx = CN_IDX_PROC;
    fixed.id.val = CN_VAL_PROC;
    fixed.len = sizeof(op);
    Request request(NLMSG_DONE, 0);
    request.raw({reinterpret_cast<const std::byte*>(&fixed), sizeof(fixed)});
    request.raw(std::as_bytes(std::span(&op, 1)));
    ASSERT_GT(send(fd, request.bytes().data(), request.bytes().size(), 0), 0) << "errno " << errno;
}

TEST(AttachedConnector, EveryExitOfAProcessIsInTheRing) {
    const int count = patience() > 1 ? 50 : 300;
    RawAttached attached(NETLINK_CONNECTOR, 1 << 20);
    attached.listen(CN_IDX_PROC);
    say_to_connector(attached.socket.fd(), PROC_CN_MCAST_LISTEN);
    std::set<pid_t> ended;
    for (int at = 0; at < count; ++at) {
        const pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        ASSERT_GT(child, 0);
        ASSERT_EQ(waitpid(child, nullptr, 0), child);
        ended.insert(child);
    }
    const auto reader = Reader::make(Reading::mapped, attached);
    while (!ended.empty()) {
        const auto arrival = reader->next(30s * patience());
        ASSERT_TRUE(arrival) << ended.size() << " exits were not told";
        ASSERT_EQ(arrival->lost, 0U);
        proc_event event{};
        constexpr std::size_t kBefore = sizeof(nlmsghdr) + sizeof(cn_msg);
        ASSERT_GT(arrival->datagram.size(), kBefore);
        std::memcpy(&event, arrival->datagram.data() + kBefore,
                    std::min(sizeof(event), arrival->datagram.size() - kBefore));
        if (static_cast<std::uint32_t>(event.what) == 0x80000000) {  // PROC_EVENT_EXIT
            ended.erase(event.event_data.exit.process_pid);
        }
    }
    say_to_connector(attached.socket.fd(), PROC_CN_MCAST_IGNORE);
}

TEST(AttachedOptions, TapSeesAllThatGoesToTheRing) {
    in_new_network([] {
        const std::string name = "tap0";
        ifinfomsg fixed{};
        fixed.ifi_flags = IFF_UP;
        fixed.ifi_change = IFF_UP;
        Request request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        request.raw(attribute(IFLA_IFNAME, name));
        request.raw(nested(IFLA_LINKINFO, {attribute(IFLA_INFO_KIND, "nlmon")}));
        RawSocket control = family_socket(NETLINK_ROUTE);
        ASSERT_TRUE(succeeded(control.ask(request))) << "is nlmon loaded?";
        const RawSocket tap(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
        const int large = 8 << 20;
        setsockopt(tap.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));

        RawAttached attached(NETLINK_ROUTE, 1 << 20);
        attached.listen(RTNLGRP_IPV4_IFADDR);
        Addresses addresses;
        addresses.add(0, 200);
        const auto reader = Reader::make(Reading::mapped, attached);
        for (std::uint32_t seen = 0; seen < 200; ++seen) {
            const auto arrival = reader->next(30s * patience());
            ASSERT_TRUE(arrival) << seen;
            EXPECT_EQ(address_number(reinterpret_cast<const nlmsghdr*>(arrival->datagram.data())),
                      seen);
        }
        std::uint32_t tapped = 0;
        EXPECT_TRUE(eventually([&] {
            std::array<std::byte, 8192> buffer{};
            while (recv(tap.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
                const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
                // The requests are tapped, too.
                if (message->nlmsg_type == RTM_NEWADDR &&
                    (message->nlmsg_flags & NLM_F_REQUEST) == 0) {
                    EXPECT_EQ(address_number(message), tapped);
                    ++tapped;
                }
            }
            return tapped == 200;
        })) << tapped;
    });
}

TEST(AttachedOptions, BroadcastErrorTellsTheSenderThatARingAndItsBufferAreFull) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14, 0, 1 << 14);
    attached.listen(2);
    const int on = 1;
    ASSERT_EQ(
        setsockopt(attached.socket.fd(), SOL_NETLINK, NETLINK_BROADCAST_ERROR, &on, sizeof(on)), 0);
    Senders senders;
    EXPECT_EQ(senders.send({.group = 2, .count = 100}).refused, 0U);
    const Sent sent = senders.send({.group = 2, .first = 100, .count = 1000});
    EXPECT_GT(sent.refused, 0U);
    EXPECT_EQ(sent.error, ENOBUFS);
    EXPECT_EQ(socket_drops(attached.socket.inode()), static_cast<std::int64_t>(sent.refused));
}

TEST(AttachedOptions, ExtendedAcknowledgementIsInTheRing) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
    const int on = 1;
    ASSERT_EQ(setsockopt(attached.socket.fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)), 0);
    const Request request(NLMMAP_SENDER_DATA);
    ASSERT_GT(send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
    const auto record = attached.ring.next();
    ASSERT_TRUE(record);
    const std::string_view answer(reinterpret_cast<const char*>(record->datagram.data()),
                                  record->datagram.size());
    EXPECT_NE(answer.find("unknown request"), answer.npos);
    EXPECT_EQ(record->message()->nlmsg_type, NLMSG_ERROR);
}

TEST(AttachedOptions, StrictCheckingIsAsWithoutARing) {
    for (const int strict : {0, 1}) {
        RawAttached attached(NETLINK_ROUTE, 1 << 16);
        ASSERT_EQ(setsockopt(attached.socket.fd(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &strict,
                             sizeof(strict)),
                  0);
        ifaddrmsg fixed{};
        fixed.ifa_family = AF_INET;
        fixed.ifa_prefixlen = 1;  // means nothing in a question
        Request request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP);
        request.raw(std::as_bytes(std::span(&fixed, 1)));
        ASSERT_GT(send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
        const auto record = attached.ring.next();
        ASSERT_TRUE(record);
        std::int32_t error = 0;
        if (record->message()->nlmsg_type == NLMSG_ERROR ||
            record->message()->nlmsg_type == NLMSG_DONE) {
            std::memcpy(&error, NLMSG_DATA(record->message()), sizeof(error));
        }
        EXPECT_EQ(error, strict ? -EINVAL : 0);
    }
}

TEST(AttachedOptions, EveryWayToSleepIsWokenByTheRing) {
    RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
    attached.listen(2);
    std::uint64_t sent = 0;
    for (const Way way : all_ways()) {
        SCOPED_TRACE(name_of(way));
        const auto sleeper = Sleeper::make(way, attached.socket.fd());
        for (int round = 0; round < 3; ++round) {
            ASSERT_FALSE(attached.ring.readable());
            EXPECT_EQ(poll_now(attached.socket.fd(), POLLIN | POLLRDNORM), 0);
            // The sleeper stays in this thread: what io_uring was asked for ends with who asked.
            auto waking = std::async(std::launch::async, [&] {
                std::this_thread::sleep_for(10ms * patience());
                Senders().send({.group = 2, .first = sent++});
            });
            EXPECT_TRUE(sleeper->sleep(30s * patience()));
            waking.get();
            EXPECT_EQ(poll_now(attached.socket.fd(), POLLIN | POLLRDNORM), POLLIN | POLLRDNORM);
            EXPECT_TRUE(attached.ring.next());
            attached.ring.release();
        }
    }
}

}  // namespace
}  // namespace guest
