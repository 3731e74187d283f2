// SPDX-License-Identifier: MIT
// What the subcommands take and answer. Each writes to `output`, warnings to standard error, and
// returns the program's exit status; errors are exceptions (nlmmap::Error, std::system_error).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/nlmmap/output.h"
#include "tools/nlmmap/stop.h"

namespace nlmmap::tool {

// Exit status. Documented in nlmmap(1).
enum ExitStatus : int {
    kSuccess = 0,
    kFailure = 1,      // a request failed; standard error says which and what to do
    kUsage = 2,        // the command line is wrong
    kGroupDeleted = 3  // watch: every watched group was deleted
};

struct ListOptions {
    bool json = false;
};

struct WatchOptions {
    std::vector<std::string> groups;
    std::size_t ring_bytes = std::size_t{1} << 20;
    std::uint32_t watermark_bytes = 0;
    std::optional<std::uint64_t> count;
    std::size_t fixed_header_bytes = 0;
    bool time = false;
    bool hex = false;
    bool json = false;
};

struct StatOptions {
    std::optional<std::chrono::duration<double>> interval;
    std::optional<std::uint64_t> count;
    bool json = false;
};

int list(const ListOptions& options, Output& output);
// Of groups of nlmmap's own family, or all of other families.
int watch(const WatchOptions& options, Output& output, StopSignal& stop);
// The same for groups of other families.
int watch_attached(const WatchOptions& options, Output& output, StopSignal& stop);
int stat(const StatOptions& options, Output& output, StopSignal& stop);

}  // namespace nlmmap::tool
