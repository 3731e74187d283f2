// SPDX-License-Identifier: MIT
#include "examples/demo/burst.h"

#include <fmt/format.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "examples/demo/burst_item.h"
#include "examples/demo/burst_sender.h"
#include "examples/demo/listener.h"
#include "examples/demo/readers.h"
#include "examples/demo/syscall_counter.h"

namespace demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Longer than any burst takes to be read, also under an emulator on a busy machine.
constexpr std::chrono::seconds kPatience{120};

const std::vector<int> kRouteGroups = {RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
const std::vector<int> kConntrackGroups = {NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY};

// A listener in a thread of its own, which can be busy elsewhere: Progress::hold().
class ListenerThread {
  public:
    ListenerThread(ListenerKind kind, int protocol, const std::vector<int>& groups,
                   const BurstOptions& options)
        : kind_(kind),
          listener_(kind, protocol, groups, options.ring_bytes),
          thread_([this, latency = options.latency](std::stop_token stop) { run(stop, latency); }) {
        await_ready(progress);
    }
    // A thread that is held would not see that it is to stop.
    ~ListenerThread() { progress.release(); }
    ListenerThread(const ListenerThread&) = delete;
    ListenerThread& operator=(const ListenerThread&) = delete;

    Progress progress;

    ListenerKind kind() const noexcept { return kind_; }
    // Times that it found nothing to read for as long as it looks.
    std::uint64_t quiet() const noexcept { return quiet_.load(std::memory_order_acquire); }

    // What follows is for another thread while this one is held.
    const Listener& listener() const noexcept { return listener_; }
    const SeenItems& seen() const noexcept { return seen_; }

  private:
    void run(const std::stop_token& stop, milliseconds latency) {
        progress.tid = gettid();
        try {
            while (!stop.stop_requested()) {
                progress.wait_while_held();
                // Pairs with the acquire in quiet().
                if (!listener_.wait(latency) || listener_.read(seen_) == 0)
                    quiet_.fetch_add(1, std::memory_order_release);
            }
        } catch (const std::exception& error) {
            progress.error = error.what();
            // Pairs with the acquire in check().
            progress.failed.store(true, std::memory_order_release);
        }
    }

    const ListenerKind kind_;
    Listener listener_;
    SeenItems seen_;
    std::atomic<std::uint64_t> quiet_ = 0;
    std::jthread thread_;  // ends before what it uses does
};

struct Totals {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t messages = 0;  // all, items or not
    std::uint64_t overflows = 0;
    std::uint64_t reported_lost = 0;
    std::uint64_t system_calls = 0;
    std::uint64_t queued_messages = 0;  // that waited when a burst was over
    std::uint64_t queued_bytes = 0;     // what the kernel held for them
    std::size_t room_bytes = 0;
    nlohmann::json bursts = nlohmann::json::array();
};

void check(const std::vector<std::unique_ptr<ListenerThread>>& threads) {
    for (const auto& thread : threads)
        // Pairs with the release in run().
        if (thread->progress.failed.load(std::memory_order_acquire))
            throw std::runtime_error(thread->progress.error);
}

template <typename Done>
void await(const std::vector<std::unique_ptr<ListenerThread>>& threads, const char* what,
           Done done) {
    const auto give_up = steady_clock::now() + kPatience;
    for (const auto& thread : threads) {
        while (!done(*thread)) {
            check(threads);
            if (steady_clock::now() > give_up)
                throw std::runtime_error(
                    fmt::format("the listener {} does not {}", to_text(thread->kind()), what));
            std::this_thread::sleep_for(milliseconds(2));
        }
    }
}

class Bursts {
  public:
    explicit Bursts(const BurstOptions& options) : options_(options) {}

    void run() {
        listen(NETLINK_ROUTE, kRouteGroups, [this] {
            for (unsigned i = 0; i < options_.link_bursts; ++i)
                burst(ItemKind::link_change, options_.link_changes, [this, i] {
                    sender_.flap_link(i * options_.link_changes, options_.link_changes);
                });
            burst(ItemKind::route_added, options_.routes,
                  [this] { sender_.add_routes(0, options_.routes); });
            burst(ItemKind::route_removed, options_.routes,
                  [this] { sender_.remove_routes(0, options_.routes); });
            for (unsigned i = 0; i < options_.ipv6_bursts; ++i) {
                burst(ItemKind::ipv6_route_added, options_.ipv6_routes, [this, i] {
                    sender_.add_ipv6_routes(i * options_.ipv6_routes, options_.ipv6_routes);
                });
                burst(ItemKind::ipv6_route_removed, options_.ipv6_routes,
                      [this] { sender_.take_interface_down(); });
            }
        });
        const std::uint32_t entries = conntrack_entries();
        listen(NETLINK_NETFILTER, kConntrackGroups, [this, entries] {
            burst(ItemKind::conntrack_new, entries,
                  [this, entries] { sender_.add_conntrack(0, entries); });
            burst(ItemKind::conntrack_ended, entries, [this] { sender_.flush_conntrack(); });
        });
    }

    nlohmann::json result() const {
        auto listeners = nlohmann::json::array();
        for (const auto& [kind, totals] : totals_) {
            nlohmann::json held = nullptr;
            if (totals.queued_messages != 0)
                held = static_cast<double>(totals.queued_bytes) /
                       static_cast<double>(totals.queued_messages);
            listeners.push_back({
                {"listener", to_text(kind)},
                {"sent", totals.sent},
                {"received", totals.received},
                {"lost", totals.sent - totals.received},
                {"messages", totals.messages},
                {"enobufs", kind == ListenerKind::attached ? 0 : totals.overflows},
                {"reported_lost", kind == ListenerKind::attached
                                      ? nlohmann::json(totals.reported_lost)
                                      : nlohmann::json(nullptr)},
                {"system_calls", totals.system_calls},
                {"room_bytes", totals.room_bytes},
                {"held_bytes_per_message", held},
                {"bursts", totals.bursts},
            });
        }
        return listeners;
    }

  private:
    // The table of the network namespace has this limit, and is to have room for others.
    std::uint32_t conntrack_entries() const {
        std::ifstream file("/proc/sys/net/netfilter/nf_conntrack_max");
        std::uint32_t most = 0;
        if (!(file >> most) || most == 0) return options_.conntrack_entries;
        return std::min(options_.conntrack_entries, most / 4 * 3);
    }

    template <typename SendAll>
    void listen(int protocol, const std::vector<int>& groups, SendAll send_all) {
        std::vector<pid_t> tids;
        for (const ListenerKind kind : kListenerKinds) {
            threads_.push_back(std::make_unique<ListenerThread>(kind, protocol, groups, options_));
            tids.push_back(threads_.back()->progress.tid);
        }
        {
            // Every system call of the listeners from here on.
            const SyscallCounter system_calls(tids);
            send_all();
            add_system_calls(system_calls.read());
        }
        for (const auto& thread : threads_) {
            Totals& totals = totals_[thread->kind()];
            totals.messages += thread->seen().messages();
            totals.overflows += thread->listener().overflows();
            totals.reported_lost += thread->listener().reported_lost();
            totals.room_bytes = thread->listener().room_bytes();
        }
        threads_.clear();
    }

    void add_system_calls(const SyscallCounter::Result& result) {
        for (const auto& thread : threads_) {
            const auto found = result.find(thread->progress.tid);
            if (found == result.end()) continue;
            for (const auto& [number, calls] : found->second)
                totals_[thread->kind()].system_calls += calls;
        }
    }

    // While nobody reads, sends; then everybody reads until there is nothing more.
    void burst(ItemKind kind, std::uint32_t count, const std::function<void()>& send) {
        hold();
        std::vector<std::uint64_t> items_before;
        std::vector<std::uint64_t> messages_before;
        items_before.reserve(threads_.size());
        messages_before.reserve(threads_.size());
        for (const auto& thread : threads_) {
            items_before.push_back(thread->seen().count(kind));
            messages_before.push_back(thread->seen().messages());
        }
        const auto start = steady_clock::now();
        send();
        const std::chrono::duration<double> seconds = steady_clock::now() - start;
        std::vector<std::uint64_t> held;
        held.reserve(threads_.size());
        for (const auto& thread : threads_) held.push_back(thread->listener().held_bytes());
        let_read();

        std::string line;
        for (std::size_t i = 0; i < threads_.size(); ++i) {
            const ListenerThread& thread = *threads_[i];
            Totals& totals = totals_[thread.kind()];
            const std::uint64_t received = thread.seen().count(kind) - items_before[i];
            totals.sent += count;
            totals.received += received;
            totals.queued_messages += thread.seen().messages() - messages_before[i];
            totals.queued_bytes += held[i];
            totals.bursts.push_back({{"burst", to_text(kind)},
                                     {"sent", count},
                                     {"received", received},
                                     {"lost", count - received}});
            line += fmt::format("  {} {}", to_text(thread.kind()), received);
        }
        fmt::print("  {:>6} {:<26} in {:4.1f} s:{}\n", count, to_text(kind), seconds.count(), line);
        std::fflush(stdout);
    }

    void hold() {
        for (const auto& thread : threads_)
            if (!thread->progress.is_held()) thread->progress.hold();
        await(threads_, "stop reading",
              [](const ListenerThread& thread) { return thread.progress.is_held(); });
    }

    // Twice quiet: all that there was is read, and counted. Who is there is held at once, so that
    // he does not look again and again while another one is still reading.
    void let_read() {
        std::map<const ListenerThread*, std::uint64_t> before;
        for (const auto& thread : threads_) before[thread.get()] = thread->quiet();
        for (const auto& thread : threads_) thread->progress.release();
        const auto hold_if_quiet = [&](ListenerThread& thread) {
            const auto found = before.find(&thread);
            if (found == before.end() || thread.quiet() < found->second + 2) return;
            thread.progress.hold();
            before.erase(found);
        };
        // Everybody's turn comes each time that somebody is waited for.
        await(threads_, "come to an end of reading", [&](const ListenerThread& waited_for) {
            for (const auto& thread : threads_) hold_if_quiet(*thread);
            return !before.contains(&waited_for);
        });
        await(threads_, "stop reading",
              [](const ListenerThread& thread) { return thread.progress.is_held(); });
    }

    const BurstOptions options_;
    BurstSender sender_;
    std::vector<std::unique_ptr<ListenerThread>> threads_;
    std::map<ListenerKind, Totals> totals_;
};

void enter_network_namespace() {
    if (unshare(CLONE_NEWNET) == -1)
        throw std::system_error(errno, std::generic_category(), "make a network namespace");
}

}  // namespace

nlohmann::json burst(const BurstOptions& options) {
    enter_network_namespace();
    Bursts bursts(options);
    const auto start = steady_clock::now();
    bursts.run();
    const std::chrono::duration<double> seconds = steady_clock::now() - start;
    utsname name{};
    uname(&name);
    return {{"kernel", name.release},
            {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
            {"seconds", seconds.count()},
            {"latency_ms", options.latency.count()},
            {"listeners", bursts.result()}};
}

}  // namespace demo
