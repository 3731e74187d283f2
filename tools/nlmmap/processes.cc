// SPDX-License-Identifier: MIT
#include "tools/nlmmap/processes.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

namespace fs = std::filesystem;

template <typename Number>
std::optional<Number> parse(std::string_view text) {
    Number number{};
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
    return number;
}

// The inode in "socket:[1234]".
std::optional<std::uint64_t> socket_inode(std::string_view link) {
    constexpr std::string_view kPrefix = "socket:[";
    if (!link.starts_with(kPrefix) || !link.ends_with("]")) return std::nullopt;
    link.remove_prefix(kPrefix.size());
    link.remove_suffix(1);
    return parse<std::uint64_t>(link);
}

std::string process_name(const fs::path& directory) {
    std::ifstream file(directory / "comm");
    std::string name;
    std::getline(file, name);
    return name;
}

// Calls `visit` for each entry; a directory that cannot be read or vanishes has no more entries.
template <typename Visit>
void for_each_entry(const fs::path& directory, Visit visit) {
    std::error_code error;
    fs::directory_iterator entry(directory, error);
    for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
        visit(entry->path());
    }
}

}  // namespace

std::map<std::uint64_t, std::vector<Process>> processes_by_socket() {
    std::map<std::uint64_t, std::vector<Process>> result;
    for_each_entry("/proc", [&](const fs::path& directory) {
        const auto pid = parse<pid_t>(directory.filename().native());
        if (!pid) return;
        for_each_entry(directory / "fd", [&](const fs::path& descriptor) {
            std::error_code error;
            const fs::path link = fs::read_symlink(descriptor, error);
            const auto inode = error ? std::nullopt : socket_inode(link.native());
            if (!inode) return;
            std::vector<Process>& holders = result[*inode];
            // A process may have several descriptors of one socket.
            if (holders.empty() || holders.back().pid != *pid) {
                holders.push_back({*pid, process_name(directory)});
            }
        });
    });
    return result;
}

std::string process_names(const std::vector<Process>& processes) {
    std::string text;
    for (const Process& process : processes) {
        if (!text.empty()) text += ", ";
        text += fmt::format("{}/{}", printable(process.name), process.pid);
    }
    return text;
}

}  // namespace nlmmap::tool
