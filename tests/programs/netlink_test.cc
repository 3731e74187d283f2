// SPDX-License-Identifier: MIT
// Names of the kernel's multicast groups, and its messages in words, well-formed and hostile.
#include <gtest/gtest.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/nlmmap/netlink_decode.h"
#include "tools/nlmmap/netlink_groups.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

std::string refusal(const std::vector<std::string>& texts) {
    try {
        static_cast<void>(netlink_families(texts));
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "it was taken";
}

TEST(NetlinkGroups, HaveTheKernelsNames) {
    const auto families =
        netlink_families({"route:link,ipv4-ifaddr", "netfilter:conntrack-new", "route:ipv6-route"});
    ASSERT_EQ(families.size(), 2U) << "a socket for each family";
    EXPECT_EQ(families[0].protocol, NETLINK_ROUTE);
    ASSERT_EQ(families[0].groups.size(), 3U);
    EXPECT_EQ(families[0].groups[0].number, RTNLGRP_LINK);
    EXPECT_EQ(families[0].groups[1].number, RTNLGRP_IPV4_IFADDR);
    EXPECT_EQ(families[0].groups[1].name, "route:ipv4-ifaddr");
    EXPECT_EQ(families[0].groups[2].number, RTNLGRP_IPV6_ROUTE);
    EXPECT_EQ(families[1].protocol, NETLINK_NETFILTER);
    ASSERT_EQ(families[1].groups.size(), 1U);
    EXPECT_EQ(families[1].groups[0].number, NFNLGRP_CONNTRACK_NEW);
}

TEST(NetlinkGroups, AreTakenByNumberToo) {
    const auto families = netlink_families({"route:1,200", "kobject_uevent:1"});
    ASSERT_EQ(families.size(), 2U);
    ASSERT_EQ(families[0].groups.size(), 2U);
    EXPECT_EQ(families[0].groups[0].name, "route:link");
    EXPECT_EQ(families[0].groups[1].name, "route:200") << "newer than this program";
    EXPECT_EQ(families[1].protocol, NETLINK_KOBJECT_UEVENT);
    EXPECT_EQ(families[1].groups[0].number, 1U);
}

TEST(NetlinkGroups, AreAllOfTheFamilyWithoutAName) {
    const auto families = netlink_families({"route"});
    ASSERT_EQ(families.size(), 1U);
    EXPECT_GE(families[0].groups.size(), 30U);
}

TEST(NetlinkGroups, SaidTwiceAreJoinedOnce) {
    const auto families = netlink_families({"route:link,link", "route:1"});
    ASSERT_EQ(families.size(), 1U);
    EXPECT_EQ(families[0].groups.size(), 1U);
}

TEST(NetlinkGroups, OfGenericFamiliesAreAskedOfTheKernel) {
    const auto families = netlink_families({"genl:nlctrl/notify"});
    ASSERT_EQ(families.size(), 1U);
    EXPECT_EQ(families[0].protocol, NETLINK_GENERIC);
    ASSERT_EQ(families[0].groups.size(), 1U);
    EXPECT_NE(families[0].groups[0].number, 0U);
    EXPECT_EQ(netlink_families({"genl:nlctrl"})[0].groups[0].number, families[0].groups[0].number);
}

TEST(NetlinkGroups, ThatAreNotThereAreRefusedWithThoseThatAre) {
    EXPECT_NE(refusal({"route:link,lnk"}).find("`lnk` is no group of route: say link, "),
              std::string::npos);
    EXPECT_NE(refusal({"rout:link"}).find("no netlink family `rout`"), std::string::npos);
    EXPECT_NE(refusal({"0:1"}).find("no netlink family `0`"), std::string::npos);
    EXPECT_NE(refusal({"route:"}).find("lacks the name of a group"), std::string::npos);
    EXPECT_NE(refusal({"route:link,"}).find("lacks the name of a group"), std::string::npos);
    EXPECT_NE(refusal({"usersock:x"}).find("say a number"), std::string::npos);
    EXPECT_NE(refusal({"genl:nlctrl/x"}).find("say nlctrl/notify"), std::string::npos);
    EXPECT_NE(refusal({"genl:no_such_family"}).find("no_such_family"), std::string::npos);
}

TEST(NetlinkGroups, AreToldFromGroupsOfNlmmap) {
    EXPECT_TRUE(is_netlink_group("route:link"));
    EXPECT_TRUE(is_netlink_group("genl:x"));
    EXPECT_FALSE(is_netlink_group("route"));
    EXPECT_FALSE(is_netlink_group("disk:errors"));
    EXPECT_FALSE(is_netlink_group("1:1"));
    EXPECT_FALSE(is_netlink_group(":1"));
}

// A message of its own memory, as a ring would hold it.
std::vector<std::byte> message(std::uint16_t type, std::uint16_t flags,
                               std::span<const std::byte> payload) {
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_HDRLEN + payload.size());
    header.nlmsg_type = type;
    header.nlmsg_flags = flags;
    std::vector<std::byte> bytes(NLMSG_ALIGN(header.nlmsg_len));
    std::memcpy(bytes.data(), &header, sizeof(header));
    if (!payload.empty()) std::memcpy(bytes.data() + NLMSG_HDRLEN, payload.data(), payload.size());
    return bytes;
}

Decoded decode(NetlinkDecoder& decoder, std::span<const std::byte> bytes) {
    return decoder.decode(*MessageIterator(bytes));
}

std::vector<std::byte> new_address(const std::string& label) {
    std::vector<std::byte> payload(sizeof(ifaddrmsg));
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_INET;
    fixed.ifa_prefixlen = 24;
    fixed.ifa_index = 1;
    std::memcpy(payload.data(), &fixed, sizeof(fixed));
    const auto put = [&](std::uint16_t type, const void* data, std::size_t bytes) {
        const nlattr attribute{static_cast<std::uint16_t>(NLA_HDRLEN + bytes), type};
        const std::size_t at = payload.size();
        payload.resize(at + NLA_ALIGN(attribute.nla_len));
        std::memcpy(payload.data() + at, &attribute, sizeof(attribute));
        std::memcpy(payload.data() + at + NLA_HDRLEN, data, bytes);
    };
    const unsigned char address[] = {10, 1, 2, 3};
    put(IFA_ADDRESS, address, sizeof(address));
    put(IFA_LOCAL, address, sizeof(address));
    put(IFA_LABEL, label.c_str(), label.size() + 1);
    return payload;
}

TEST(NetlinkDecoder, SaysWhatLibnlKnowsWithTheNameOfTheLink) {
    NetlinkDecoder decoder(NETLINK_ROUTE);
    const Decoded added = decode(decoder, message(RTM_NEWADDR, 0, new_address("lo")));
    EXPECT_EQ(added.action, "new");
    EXPECT_EQ(added.object, "route/addr");
    EXPECT_NE(added.text.find("10.1.2.3/24 inet dev lo"), std::string::npos) << added.text;
    EXPECT_EQ(added.fixed_header_bytes, sizeof(ifaddrmsg));
    EXPECT_EQ(decode(decoder, message(RTM_DELADDR, 0, new_address("lo"))).action, "del");
}

TEST(NetlinkDecoder, LeavesToTheAttributesWhatLibnlDoesNotKnow) {
    NetlinkDecoder decoder(NETLINK_ROUTE);
    const std::vector<std::byte> payload(sizeof(rtgenmsg) + 3);
    const Decoded decoded = decode(decoder, message(RTM_NEWNSID, 0, payload));
    EXPECT_EQ(decoded.action, "new");
    EXPECT_TRUE(decoded.text.empty()) << decoded.text;
    EXPECT_EQ(decoded.fixed_header_bytes, sizeof(rtgenmsg));
    EXPECT_TRUE(decode(decoder, message(NLMSG_DONE, 0, {})).action.empty());
}

TEST(NetlinkDecoder, TellsANewConnectionFromAChange) {
    NetlinkDecoder decoder(NETLINK_NETFILTER);
    nfgenmsg fixed{};
    fixed.nfgen_family = AF_INET;
    const auto payload = std::as_bytes(std::span(&fixed, 1));
    constexpr std::uint16_t kNew = NFNL_SUBSYS_CTNETLINK << 8;
    EXPECT_EQ(decode(decoder, message(kNew, NLM_F_CREATE, payload)).action, "new");
    EXPECT_EQ(decode(decoder, message(kNew, 0, payload)).action, "change");
    EXPECT_EQ(decode(decoder, message(kNew | 2, 0, payload)).action, "del");
    EXPECT_EQ(decode(decoder, message(kNew, 0, payload)).fixed_header_bytes, sizeof(nfgenmsg));
}

// Whatever the bytes are, the words are safe to show, and nothing outside of them is touched.
TEST(NetlinkDecoder, StandsAnyBytes) {
    std::mt19937 random(20);
    NetlinkDecoder route(NETLINK_ROUTE);
    NetlinkDecoder netfilter(NETLINK_NETFILTER);
    NetlinkDecoder generic(NETLINK_GENERIC);
    for (int i = 0; i < 20'000; ++i) {
        std::vector<std::byte> payload = new_address("a\x1b[2Jb");
        payload.resize(random() % (payload.size() + 1));
        for (unsigned flips = random() % 8; flips != 0 && !payload.empty(); --flips)
            payload[random() % payload.size()] = static_cast<std::byte>(random());
        const auto kind = static_cast<std::uint16_t>(random());
        const auto route_type = static_cast<std::uint16_t>(16 + kind % 110);
        for (const Decoded& decoded :
             {decode(route, message(route_type, 0, payload)),
              decode(netfilter, message(static_cast<std::uint16_t>(kind % 3072), kind, payload)),
              decode(generic, message(kind % 2 == 0 ? 16 : kind, 0, payload))}) {
            ASSERT_TRUE(is_printable(decoded.text)) << hex(payload);
            ASSERT_TRUE(is_printable(decoded.object));
        }
    }
}

}  // namespace
}  // namespace nlmmap::tool
