// SPDX-License-Identifier: MIT
// nlmmap: looks at groups, messages and rings. See nlmmap(1).
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tools/nlmmap/arguments.h"
#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/output.h"
#include "tools/nlmmap/record_options.h"
#include "tools/nlmmap/recorder.h"
#include "tools/nlmmap/run.h"
#include "tools/nlmmap/stop.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

constexpr const char* kVersion = "nlmmap 0.1";

constexpr const char* kDescription =
    "Looks at kernel messages that stream through mapped netlink rings.";

constexpr const char* kFooter = R"(Examples:
  nlmmap list                          which groups there are
  nlmmap watch process_events          print a group's messages as they come
  nlmmap watch --json GROUP | jq .     the same for a program
  sudo nlmmap watch route:link         the kernel's own groups, and nothing is lost
  sudo nlmmap record -w FILE.pcap      what rtnetlink says, for Wireshark
  sudo nlmmap stat -i 1                is anybody losing messages?

Exit status: 0 success, 1 failure (one line says why), 2 wrong command line,
3 the watched group was deleted. `nlmmap COMMAND --help` tells more; so does nlmmap(1).)";

constexpr const char* kListFooter =
    R"(Anybody may see the groups of the network namespace. The sockets that have a ring
are shown to who has CAP_NET_ADMIN.

Examples:
  nlmmap list
  nlmmap list --json | jq -r '.groups[].name')";

constexpr const char* kWatchFooter =
    R"(GROUP is one that `nlmmap list` shows, or a group of one of the kernel's own netlink
families, which takes CAP_NET_ADMIN: FAMILY:GROUP[,GROUP]..., where FAMILY is

  route        with link, neigh, ipv4-ifaddr, ipv6-route... (RTNLGRP_*)
  netfilter    with conntrack-new, conntrack-destroy, nftables... (NFNLGRP_*)
  genl         with a generic netlink family, all its groups, or FAMILY/GROUP
  xfrm, audit  and others, with their groups by name or number

SIZE is a number of bytes, or one with k (1,024), M or G.
Attributes are shown as TYPE=VALUE: numbers also in hexadecimal, "strings" quoted,
{nested attributes}, other bytes in [brackets]. What was lost is told where it was lost.

Examples:
  nlmmap watch process_events
  nlmmap watch --time --ring-bytes 16M process_events
  nlmmap watch --json --count 10 process_events | jq .
  nlmmap watch --hex --count 1 process_events
  sudo nlmmap watch route:link,ipv4-ifaddr
  sudo nlmmap watch netfilter:conntrack-new genl:nlctrl)";

constexpr const char* kStatFooter =
    R"(MESSAGES counts the records meant for a ring, LOST those that found it full;
WAITING and HIGH WATER are the bytes that wait now and the most that ever waited.

Examples:
  sudo nlmmap stat
  sudo nlmmap stat -i 1                     rates, every second
  sudo nlmmap stat --json | jq '.sockets[] | select(.lost > 0)')";

// "list, watch or stat"
std::string command_names(const CLI::App& app) {
    const auto all = app.get_subcommands([](const CLI::App*) { return true; });
    std::string names;
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (i != 0) names += i + 1 == all.size() ? " or " : ", ";
        names += all[i]->get_name();
    }
    return names;
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
    const auto commands = app.get_subcommands();  // those that the command line names
    const std::vector<std::string> others = app.remaining();
    if (commands.empty() && !others.empty()) {
        fmt::print(stderr, "nlmmap: there is no command `{}`: say {}.\n", printable(others.front()),
                   command_names(app));
    } else {
        fmt::print(stderr, "nlmmap: {}\n", error.what());
    }
    fmt::print(stderr, "Try `nlmmap {}--help`.\n",
               commands.empty() ? "" : commands.front()->get_name() + " ");
    return kUsage;
}

int run(int argc, char** argv) {
    CLI::App app(kDescription, "nlmmap");
    app.set_version_flag("--version", kVersion);
    app.require_subcommand(1);
    app.footer(kFooter);
    app.get_formatter()->column_width(32);

    ListOptions list_options;
    CLI::App* list_command =
        app.add_subcommand("list", "Show the groups and the sockets with rings");
    list_command->add_flag("--json", list_options.json, "Print one JSON object");
    list_command->footer(kListFooter);

    WatchOptions watch_options;
    CLI::App* watch_command =
        app.add_subcommand("watch", "Print the messages of groups as they come");
    watch_command->add_option("GROUP", watch_options.groups, "Groups; see below")->required();
    watch_command->add_flag("--json", watch_options.json, "Print one JSON object for each line");
    watch_command->add_flag("--hex", watch_options.hex, "Dump each message's bytes instead");
    watch_command->add_flag("--time", watch_options.time,
                            "Print when the kernel published each message");
    watch_command->add_option("--count", watch_options.count, "End after this many messages")
        ->check(positive_count())
        ->option_text("N");
    watch_command
        ->add_option("--ring-bytes", watch_options.ring_bytes,
                     "Size of the ring, a power of two; 1M if not said")
        ->transform(size_up_to())
        ->option_text("SIZE");
    watch_command
        ->add_option("--watermark", watch_options.watermark_bytes,
                     "Sleep until so many bytes wait, or a quarter of a second has passed")
        ->transform(size_up_to(UINT32_MAX))
        ->option_text("SIZE");
    watch_command
        ->add_option("--fixed-header", watch_options.fixed_header_bytes,
                     "Bytes of a fixed header before the attributes; 0 if not said")
        ->transform(size_up_to())
        ->option_text("SIZE");
    watch_command->footer(kWatchFooter);

    RecordOptions record_options;
    CLI::App* record_command =
        app.add_subcommand("record", "Write messages of the kernel's families to a pcap file");
    add_record_options(*record_command, record_options);

    StatOptions stat_options;
    double interval_seconds = 0;
    CLI::App* stat_command =
        app.add_subcommand("stat", "Show positions, losses and wake-ups of every ring");
    stat_command->add_flag("--json", stat_options.json, "Print one JSON object for each look");
    CLI::Option* interval =
        stat_command
            ->add_option("-i,--interval", interval_seconds, "Look again each time, and show rates")
            ->check(seconds_between_looks())
            ->option_text("SECONDS");
    stat_command->add_option("--count", stat_options.count, "End after this many looks")
        ->check(positive_count())
        ->needs(interval)
        ->option_text("N");
    stat_command->footer(kStatFooter);

    add_run(app);

    if (argc <= 1) {
        fmt::print(stderr, "{}", app.help());
        return kUsage;
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& answer) {  // --help, --version
        return app.exit(answer);
    } catch (const CLI::ParseError& error) {
        return usage_error(app, error);
    }
    if (interval->count() != 0)
        stat_options.interval = std::chrono::duration<double>(interval_seconds);
    if (record_command->parsed()) become_recorder(record_options);

    StopSignal stop;
    Output output(STDOUT_FILENO, StopSignal::flag());
    int status = kSuccess;
    if (list_command->parsed()) status = list(list_options, output);
    if (watch_command->parsed()) status = watch(watch_options, output, stop);
    if (stat_command->parsed()) status = stat(stat_options, output, stop);
    output.flush();
    return status;
}

}  // namespace
}  // namespace nlmmap::tool

int main(int argc, char** argv) {
    // A reader that goes away is EPIPE, and Output tells it from an error.
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return nlmmap::tool::run(argc, argv);
    } catch (const nlmmap::tool::OutputClosed&) {
        return nlmmap::tool::kSuccess;
    } catch (const std::exception& error) {  // nlmmap::Error says what to do
        fmt::print(stderr, "nlmmap: {}\n", error.what());
        return nlmmap::tool::kFailure;
    }
}
