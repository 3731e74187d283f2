// SPDX-License-Identifier: MIT
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "examples/demo/burst.h"
#include "examples/demo/burst_item.h"
#include "examples/demo/burst_sender.h"
#include "examples/demo/instruction_counter.h"
#include "examples/demo/listener.h"

namespace demo {
namespace {

using namespace std::chrono_literals;

// Large enough that a round loses nothing.
constexpr std::size_t kRingBytes = 4 << 20;

struct Measured {
    std::unique_ptr<Listener> listener;
    SeenItems seen;
    std::vector<double> costs;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.at(values.size() / 2);
}

}  // namespace

nlohmann::json burst_instructions(const BurstInstructionOptions& options) {
    nlohmann::json result = {{"method", nullptr},
                             {"messages", options.messages},
                             {"rounds", options.rounds},
                             {"listeners", nlohmann::json::object()}};
    const std::unique_ptr<InstructionCounter> counter = InstructionCounter::open();
    if (!counter) return result;
    result["method"] = counter->method();
    if (unshare(CLONE_NEWNET) == -1)
        throw std::system_error(errno, std::generic_category(), "make a network namespace");

    BurstSender sender;
    std::map<ListenerKind, Measured> measured;
    // Those whose buffers take a round: the others cost the same for what they do not lose.
    for (const ListenerKind kind : {ListenerKind::plain_forced, ListenerKind::attached})
        measured[kind].listener = std::make_unique<Listener>(
            kind, NETLINK_ROUTE, std::vector<int>{RTNLGRP_IPV4_ROUTE}, kRingBytes);
    for (unsigned round = 0; round < options.rounds; ++round) {
        for (const bool add : {true, false}) {
            // The first time each number is new, so that seen() does the same work in each round.
            const std::uint32_t first = round * options.messages;
            if (add) {
                sender.add_routes(first, options.messages);
            } else {
                sender.remove_routes(first, options.messages);
            }
            // Whatever else is at work: the reader is to be alone.
            std::this_thread::sleep_for(100ms);
            for (auto& [kind, one] : measured) {
                const std::uint64_t start = counter->now();
                one.listener->wait(0ms);
                const std::uint64_t messages = one.listener->read(one.seen);
                const std::uint64_t cost = counter->now() - start;
                if (messages != options.messages)
                    throw std::runtime_error("a listener did not get what was sent");
                one.costs.push_back(static_cast<double>(cost) / static_cast<double>(messages));
            }
        }
    }
    for (const auto& [kind, one] : measured) {
        if (one.seen.count(ItemKind::route_added) != options.rounds * options.messages ||
            one.seen.count(ItemKind::route_removed) != options.rounds * options.messages)
            throw std::runtime_error("a listener got other messages than were sent");
        result["listeners"][std::string(to_text(kind))] = median(one.costs);
    }
    return result;
}

}  // namespace demo
