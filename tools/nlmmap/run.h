// SPDX-License-Identifier: MIT
// The subcommand that gives rings to a program that knows nothing of them.
#pragma once

#include <CLI/CLI.hpp>

namespace nlmmap::tool {

// Adds `run`. When the command line names it, parse() does not return: the process becomes the
// program. It throws std::system_error if that fails.
void add_run(CLI::App& app);

}  // namespace nlmmap::tool
