// SPDX-License-Identifier: MIT
//
// Bursts of rtnetlink's and conntrack's own events, 50,000 of each, to a plain libnl listener with
// its default buffer, to one with a ring that has room for a burst, and to one with a ring that has
// not. All of them hear the same; each reads when a burst is over.
#include <gtest/gtest.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <vector>

#include "examples/demo/burst_item.h"
#include "examples/demo/burst_sender.h"
#include "examples/demo/listener.h"
#include "tests/guest/surroundings.h"

namespace demo {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kRingBytes = 16 << 20;
constexpr std::size_t kSmallRingBytes = 64 << 10;
// What a small ring and a receive buffer have room for, whatever the messages are.
constexpr std::uint32_t kFewEvents = 20;

struct Hearing {
    Hearing(ListenerKind kind, int protocol, const std::vector<int>& groups, std::size_t ring_bytes)
        : listener(kind, protocol, groups, ring_bytes) {}

    // All that is there, of which it is known when that was all. False: it took too long.
    bool read_until(const std::function<bool()>& all) {
        const auto end = std::chrono::steady_clock::now() + 30s * guest::patience();
        while (!all()) {
            listener.wait(100ms);
            listener.read(seen);
            if (std::chrono::steady_clock::now() > end) return false;
        }
        return true;
    }

    // What it read, and what it says that it lost.
    std::uint64_t accounted() const { return seen.messages() + listener.reported_lost(); }

    Listener listener;
    SeenItems seen;
};

class Listeners {
  public:
    Listeners(int protocol, const std::vector<int>& groups)
        : plain_(ListenerKind::plain_default, protocol, groups, 0),
          attached_(ListenerKind::attached, protocol, groups, kRingBytes),
          overrun_(ListenerKind::attached, protocol, groups, kSmallRingBytes) {}

    // Nobody reads while it is sent.
    void burst(ItemKind kind, std::uint32_t count, const std::function<void()>& send) {
        SCOPED_TRACE(to_text(kind));
        const std::uint64_t before = attached_.seen.count(kind);
        const auto begun = std::chrono::steady_clock::now();
        send();
        const auto sent = std::chrono::steady_clock::now();
        sent_ += count;
        EXPECT_TRUE(attached_.read_until([&] {
            return attached_.seen.count(kind) >= before + count;
        })) << "of "
            << count << " events " << attached_.seen.count(kind) - before
            << " arrived; the ring says that it lost " << attached_.listener.reported_lost();
        EXPECT_EQ(attached_.seen.count(kind), before + count);
        EXPECT_TRUE(overrun_.read_until([&] {
            return overrun_.accounted() >= attached_.seen.messages();
        })) << "of "
            << attached_.seen.messages() << " messages it accounts for " << overrun_.accounted();
        plain_.listener.read(plain_.seen);
        const auto milliseconds = [](auto duration) {
            return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
        };
        std::cout << to_text(kind) << ": " << count << " in " << milliseconds(sent - begun)
                  << " ms, read in " << milliseconds(std::chrono::steady_clock::now() - sent)
                  << " ms\n";
    }

    // A burst that every ring has room for.
    void burst_that_fits(ItemKind kind, const std::function<void()>& send) {
        const std::uint64_t before = overrun_.seen.count(kind);
        const std::uint64_t lost = overrun_.listener.reported_lost();
        burst(kind, kFewEvents, send);
        EXPECT_EQ(overrun_.seen.count(kind), before + kFewEvents);
        EXPECT_EQ(overrun_.listener.reported_lost(), lost);
    }

    void check(const std::vector<ItemKind>& kinds) {
        // A link says some things of itself a second or two later.
        EXPECT_TRUE(guest::eventually([&] {
            for (Hearing* one : {&attached_, &overrun_, &plain_}) {
                one->listener.wait(10ms);
                one->listener.read(one->seen);
            }
            // The kernel's count is what it says it is: by the messages that nobody else lost.
            return overrun_.accounted() == attached_.seen.messages() &&
                   plain_.seen.messages() + plain_.listener.drops() == attached_.seen.messages();
        })) << "of "
            << attached_.seen.messages() << " messages the small ring accounts for "
            << overrun_.accounted() << "; the plain socket had " << plain_.seen.messages()
            << ", and the kernel dropped " << plain_.listener.drops() << " for it";
        EXPECT_GE(sent_, 50'000U);
        std::uint64_t attached = 0;
        std::uint64_t plain = 0;
        for (const ItemKind kind : kinds) {
            attached += attached_.seen.count(kind);
            plain += plain_.seen.count(kind);
        }
        EXPECT_EQ(attached, sent_);
        EXPECT_EQ(attached_.listener.reported_lost(), 0U);
        EXPECT_EQ(attached_.listener.drops(), 0U);
        EXPECT_EQ(attached_.listener.overflows(), 0U);

        EXPECT_LT(plain, sent_ / 2) << "the bursts are too small to show anything";
        EXPECT_GE(plain_.listener.overflows(), 1U);

        EXPECT_GT(overrun_.listener.reported_lost(), 0U);
        EXPECT_EQ(overrun_.listener.reported_lost(), overrun_.listener.drops());
        EXPECT_EQ(overrun_.listener.located_lost(), overrun_.listener.drops());
        std::cout << sent_ << " events sent: " << plain << " to the plain listener, " << attached
                  << " to the attached one\n";
    }

  private:
    std::uint64_t sent_ = 0;
    Hearing plain_;
    Hearing attached_;
    Hearing overrun_;
};

TEST(FamiliesBurst, OfRtnetlinkIsLostByThePlainListenerAndNotByTheAttachedOne) {
    guest::in_new_network([] {
        // Nothing is said before all of them listen.
        Listeners listeners(NETLINK_ROUTE, {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE});
        BurstSender sender;
        // What takes a checking kernel least is done most: a flap takes it ten times as long as the
        // end of a route with its interface.
        constexpr std::uint32_t kFlaps = 1'000;
        constexpr std::uint32_t kRoutes = 4'500;
        constexpr std::uint32_t kIpv6Routes = 5'000;
        listeners.burst(ItemKind::link_change, kFlaps, [&] { sender.flap_link(0, kFlaps); });
        listeners.burst(ItemKind::route_added, kRoutes, [&] { sender.add_routes(0, kRoutes); });
        listeners.burst(ItemKind::route_removed, kRoutes,
                        [&] { sender.remove_routes(0, kRoutes); });
        for (std::uint32_t i = 0; i < 4; ++i) {
            listeners.burst(ItemKind::ipv6_route_added, kIpv6Routes,
                            [&] { sender.add_ipv6_routes(i * kIpv6Routes, kIpv6Routes); });
            listeners.burst(ItemKind::ipv6_route_removed, kIpv6Routes,
                            [&] { sender.take_interface_down(); });
        }
        listeners.burst_that_fits(ItemKind::route_added,
                                  [&] { sender.add_routes(kRoutes, kFewEvents); });
        listeners.check({ItemKind::link_change, ItemKind::route_added, ItemKind::route_removed,
                         ItemKind::ipv6_route_added, ItemKind::ipv6_route_removed});
    });
}

TEST(FamiliesBurst, OfConntrackIsLostByThePlainListenerAndNotByTheAttachedOne) {
    // The limit of all network namespaces, which a guest of this size has a lower one of.
    std::ofstream("/proc/sys/net/netfilter/nf_conntrack_max") << 65536;
    guest::in_new_network([] {
        Listeners listeners(NETLINK_NETFILTER, {NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY});
        BurstSender sender;
        constexpr std::uint32_t kEntries = 25'000;
        listeners.burst(ItemKind::conntrack_new, kEntries,
                        [&] { sender.add_conntrack(0, kEntries); });
        listeners.burst(ItemKind::conntrack_ended, kEntries, [&] { sender.flush_conntrack(); });
        listeners.burst_that_fits(ItemKind::conntrack_new,
                                  [&] { sender.add_conntrack(kEntries, kFewEvents); });
        listeners.check({ItemKind::conntrack_new, ItemKind::conntrack_ended});
    });
}

}  // namespace
}  // namespace demo
