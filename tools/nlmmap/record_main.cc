// SPDX-License-Identifier: MIT
// nlmmap-record: what other families say, into a capture file. `nlmmap record` becomes it, see
// nlmmap(1); it speaks in that name.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlmmap/error.hpp>
#include <string>
#include <system_error>

#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/output.h"
#include "tools/nlmmap/record.h"
#include "tools/nlmmap/record_options.h"
#include "tools/nlmmap/stop.h"

namespace nlmmap::tool {
namespace {

int run(int argc, char** argv) {
    CLI::App app("Writes messages of the kernel's families to a pcap file", "nlmmap record");
    app.get_formatter()->column_width(32);
    RecordOptions options;
    add_record_options(app, options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& answer) {  // --help
        return app.exit(answer);
    } catch (const CLI::ParseError& error) {
        fmt::print(stderr, "nlmmap: {}\nTry `nlmmap record --help`.\n", error.what());
        return kUsage;
    }
    StopSignal stop;
    record(options, stop);
    return kSuccess;
}

// What to do about a lack of rights may be to give some to the program's file, and that is not the
// one whose name stands in the command line.
std::string whose_rights(const Error& error) {
    if (error.code() != std::errc::operation_not_permitted &&
        error.code() != std::errc::not_enough_memory)
        return {};
    std::error_code none;
    return fmt::format("; rights that a file has (setcap) are for record those of {}, not nlmmap's",
                       std::filesystem::read_symlink("/proc/self/exe", none).string());
}

}  // namespace
}  // namespace nlmmap::tool

int main(int argc, char** argv) {
    // A reader that goes away is EPIPE, and CaptureFile tells it from an error.
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return nlmmap::tool::run(argc, argv);
    } catch (const nlmmap::tool::OutputClosed&) {
        return nlmmap::tool::kSuccess;
    } catch (const nlmmap::Error& error) {  // says what to do
        fmt::print(stderr, "nlmmap: {}{}\n", error.what(), nlmmap::tool::whose_rights(error));
        return nlmmap::tool::kFailure;
    } catch (const std::exception& error) {
        fmt::print(stderr, "nlmmap: {}\n", error.what());
        return nlmmap::tool::kFailure;
    }
}
