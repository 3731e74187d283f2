// SPDX-License-Identifier: MIT
// What `nlmmap record` is told: the same for nlmmap, which says what is wrong with it, and for
// nlmmap-record, which does it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nlmmap::tool {

struct RecordOptions {
    std::string file;  // "-": standard output
    std::vector<std::string> groups = {"route"};
    std::size_t ring_bytes = std::size_t{4} << 20;
    std::optional<std::uint64_t> count;
};

// Gives the command its options and its help; parsing fills `options`, which must live as long.
void add_record_options(CLI::App& command, RecordOptions& options);

// A command line that says the same.
std::vector<std::string> record_arguments(const RecordOptions& options);

}  // namespace nlmmap::tool
