// SPDX-License-Identifier: MIT
// conntrack_entries COUNT: makes so many conntrack entries, from 10.0.0.0 on to 192.0.2.1, UDP,
// port 53, and flushes the table.
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include "examples/demo/burst_sender.h"

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: conntrack_entries COUNT\n";
        return 2;
    }
    try {
        demo::BurstSender sender;
        sender.add_conntrack(0, static_cast<std::uint32_t>(std::stoul(argv[1])));
        sender.flush_conntrack();
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "conntrack_entries: " << error.what() << '\n';
        return 1;
    }
}
