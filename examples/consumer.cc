// SPDX-License-Identifier: MIT
//
// The smallest useful reader: joins a group, prints what it hears.
//
//     consumer GROUP [COUNT]
//
// A message is read where the kernel wrote it, in memory that both sides map. There is one system
// call for each time that the program has nothing to do and sleeps, and none for a message.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <nlmmap/nlmmap.hpp>
#include <string_view>

namespace {

constexpr char kUsage[] =
    "usage: consumer GROUP [COUNT]\n"
    "Prints the messages of a group, COUNT of them or until it is interrupted.\n"
    "`nlmmap list` shows the groups that there are.\n";

// What a real program does with a message goes here.
void handle(const nlmmap::Message& message) {
    std::printf("  type %u, %zu bytes\n", message.type(), message.payload().size());

    // The payload is a list of netlink attributes: a type, and bytes that the producer defines.
    for (const nlmmap::Attribute& attribute : message.attributes()) {
        if (const auto number = attribute.as<std::uint32_t>()) {
            std::printf("    attribute %u: %u\n", attribute.type(), *number);
        } else {
            std::printf("    attribute %u: %zu bytes\n", attribute.type(),
                        attribute.payload().size());
        }
    }
}

// Messages were lost because the ring was full. What a program must do now depends on what it
// keeps: usually it asks the source for its whole state again, and goes on from there.
void resync(std::uint64_t lost) {
    std::printf("  lost %llu records: a larger ring_bytes takes longer bursts\n",
                static_cast<unsigned long long>(lost));
}

void consume(const char* group, std::uint64_t count) {
    // One call makes the ring, maps it and joins. Choose ring_bytes for the longest burst that the
    // program must survive without reading: a power of two.
    nlmmap::Receiver receiver = nlmmap::Receiver::join(group, {.ring_bytes = 1 << 20});

    for (;;) {
        // Sleeps until there is something to read; no system call if there already is.
        if (receiver.wait() == nlmmap::Wait::group_gone) {
            std::printf("the group is gone: its producer unregistered it\n");
            return;
        }
        // A record is one datagram, and says what was lost before it. A datagram is usually one
        // message; it may be several.
        for (const nlmmap::Record& record : receiver.read()) {
            std::printf("record %llu\n", static_cast<unsigned long long>(record.seq()));
            if (record.lost_before() != 0) resync(record.lost_before());
            if (record.is_notice()) continue;  // nlmmap's own word, not the producer's
            for (const nlmmap::Message& message : record) {
                handle(message);
                if (--count == 0) return;
            }
        }
        std::fflush(stdout);  // so that a pipe sees the messages before the program sleeps again
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view first = argc > 1 ? argv[1] : "";
    if (argc == 2 && (first == "-h" || first == "--help")) {
        std::fputs(kUsage, stdout);
        return EXIT_SUCCESS;
    }
    std::uint64_t count = std::numeric_limits<std::uint64_t>::max();
    bool usable = argc == 2 || argc == 3;
    if (argc == 3) {
        const char* end = argv[2] + std::strlen(argv[2]);
        const auto [rest, error] = std::from_chars(argv[2], end, count);
        usable = error == std::errc() && rest == end && count != 0;
    }
    if (!usable) {
        std::fputs(kUsage, stderr);
        return 2;
    }
    try {
        consume(argv[1], count);
    } catch (const nlmmap::Error& error) {
        // Says which operation failed, the kernel's reason, and what to do about it.
        std::fprintf(stderr, "consumer: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
