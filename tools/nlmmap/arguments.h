// SPDX-License-Identifier: MIT
// What the options of the command line accept, with errors that say what would do.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace nlmmap::tool {

// Replaces a size by its number of bytes.
CLI::Validator size_up_to(std::uint64_t most = std::numeric_limits<std::int64_t>::max());

// Seconds between two looks: 0.01 to 86,400.
CLI::Validator seconds_between_looks();

// A whole number from 1 on.
CLI::Validator positive_count();

}  // namespace nlmmap::tool
