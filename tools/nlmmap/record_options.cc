// SPDX-License-Identifier: MIT
#include "tools/nlmmap/record_options.h"

#include "tools/nlmmap/arguments.h"

namespace nlmmap::tool {
namespace {

constexpr const char* kFooter =
    R"(GROUP is FAMILY:GROUP[,GROUP]... as for `nlmmap watch`, or FAMILY alone for all its groups
that have names; `route` if none is said. The file is pcap, link type NETLINK (253), with
nanoseconds: Wireshark and tshark read it. A packet is one datagram. What was lost is told on
standard error, in its place. Ends with Ctrl-C, and whatever came until then is in the file.

Examples:
  sudo nlmmap record -w route.pcap
  sudo nlmmap record -w links.pcap -c 100 route:link,ipv4-ifaddr
  sudo nlmmap record -w - netfilter:conntrack-new | tshark -r -)";

}  // namespace

void add_record_options(CLI::App& command, RecordOptions& options) {
    command.add_option("GROUP", options.groups, "What to record; `route` if not said");
    command.add_option("-w,--write", options.file, "The file; `-` is standard output")
        ->required()
        ->check([](const std::string& file) {
            return file.empty() ? std::string("a file without a name cannot be written") : "";
        })
        ->option_text("FILE");
    command.add_option("-c,--count", options.count, "End after this many packets")
        ->check(positive_count())
        ->option_text("N");
    command
        .add_option("--ring-bytes", options.ring_bytes,
                    "Size of each ring, a power of two; 4M if not said")
        ->transform(size_up_to())
        ->option_text("SIZE");
    command.footer(kFooter);
}

std::vector<std::string> record_arguments(const RecordOptions& options) {
    std::vector<std::string> arguments = {"--write=" + options.file,
                                          "--ring-bytes=" + std::to_string(options.ring_bytes)};
    if (options.count) arguments.push_back("--count=" + std::to_string(*options.count));
    arguments.emplace_back("--");
    arguments.insert(arguments.end(), options.groups.begin(), options.groups.end());
    return arguments;
}

}  // namespace nlmmap::tool
