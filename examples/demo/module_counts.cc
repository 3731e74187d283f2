// SPDX-License-Identifier: MIT
#include "examples/demo/module_counts.h"

#include <fmt/format.h>

#include <fstream>
#include <stdexcept>

namespace demo {
namespace {

std::uint64_t read_count(const char* name) {
    const std::string path = fmt::format("/sys/module/process_events/parameters/{}", name);
    std::ifstream file(path);
    std::uint64_t count = 0;
    if (!(file >> count))
        throw std::runtime_error(fmt::format("cannot read {}: is process_events.ko loaded?", path));
    return count;
}

}  // namespace

Counts module_counts() { return {read_count("forks"), read_count("execs"), read_count("exits")}; }

}  // namespace demo
