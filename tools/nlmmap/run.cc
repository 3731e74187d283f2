// SPDX-License-Identifier: MIT
#include "tools/nlmmap/run.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "tools/nlmmap/arguments.h"

namespace nlmmap::tool {
namespace {

constexpr const char* kPreload = "libnlmmap-preload.so";

constexpr const char* kFooter =
    R"(PROGRAM and what it starts read the groups of rtnetlink, conntrack, audit and all other netlink
families from rings: what finds room there is not lost, however slow the reader is. A socket gets
its ring when it joins its first group; those that only ask and are answered stay as they are.
Takes CAP_NET_ADMIN. Where a ring cannot be had the program goes on without, after one line on
standard error. Programs that are linked statically or do not use libc's recvmsg(), recv() or
read(), as those in Go, are not changed; nor are those with more rights than their caller has.

SIZE is a number of bytes, or one with k (1,024), M or G. Each socket gets a ring of that size.

Examples:
  sudo nlmmap run ip monitor
  sudo nlmmap run --ring-bytes 64M -- conntrack -E -o timestamp
  sudo nlmmap run --all -- ulogd             NFLOG: no group is joined there)";

struct Options {
    std::size_t ring_bytes = std::size_t{4} << 20;
    bool quiet = false;
    bool all = false;
    std::vector<std::string> command;
};

// Beside this program, where it was built or where it is installed; else by NLMMAP_PRELOAD.
std::string preload_path() {
    namespace fs = std::filesystem;
    if (const char* const said = std::getenv("NLMMAP_PRELOAD")) return fs::canonical(said).string();
    const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
    std::vector<fs::path> tried;
    for (const char* const folder : {".", "../lib/nlmmap", "../lib/x86_64-linux-gnu/nlmmap",
                                     "../lib64/nlmmap", "../libnlmmap", "../../libnlmmap"}) {
        const fs::path path = here / folder / kPreload;
        std::error_code none;
        if (fs::exists(path, none)) return fs::canonical(path).string();
    }
    throw std::system_error(ENOENT, std::generic_category(),
                            std::string(kPreload) + " is neither beside " + here.string() +
                                "/nlmmap nor in ../lib/nlmmap; NLMMAP_PRELOAD may name it");
}

void put_environment(const char* name, const std::string& value) {
    if (::setenv(name, value.c_str(), 1) != 0)
        throw std::system_error(errno, std::generic_category(), std::string("setting ") + name);
}

[[noreturn]] void become(const Options& options) {
    if (!std::has_single_bit(options.ring_bytes))
        throw std::system_error(EINVAL, std::generic_category(),
                                "a ring's size is a power of two: " +
                                    std::to_string(std::bit_ceil(options.ring_bytes)) +
                                    " would do");
    const std::string path = preload_path();
    // The loader takes both for ends of names.
    if (path.find_first_of(" :") != std::string::npos)
        throw std::system_error(EINVAL, std::generic_category(),
                                path + ": the loader takes no library with a space or colon in it");
    const char* const before = std::getenv("LD_PRELOAD");
    put_environment("LD_PRELOAD",
                    before != nullptr && *before != '\0' ? path + ":" + before : path);
    put_environment("NLMMAP_RUN", std::to_string(options.ring_bytes) +
                                      (options.quiet ? ",quiet" : "") +
                                      (options.all ? ",all" : ""));

    std::vector<char*> arguments;
    arguments.reserve(options.command.size() + 1);
    for (const std::string& argument : options.command)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    // What this program does with signals is not the other's.
    std::signal(SIGPIPE, SIG_DFL);
    ::execvp(arguments.front(), arguments.data());
    throw std::system_error(errno, std::generic_category(), options.command.front());
}

}  // namespace

void add_run(CLI::App& app) {
    const auto options = std::make_shared<Options>();
    CLI::App* const command =
        app.add_subcommand("run", "Run another program with rings under its netlink sockets");
    command
        ->add_option("--ring-bytes", options->ring_bytes,
                     "Size of each ring, a power of two; 4M if not said")
        ->transform(size_up_to(std::size_t{1} << 30))
        ->option_text("SIZE");
    command->add_flag("--all", options->all, "Also sockets that join no group");
    command->add_flag("--quiet", options->quiet, "Do not say where a ring could not be had");
    command->add_option("PROGRAM", options->command, "The program, and its arguments")->required();
    // From the program's name on all is the program's, its options too.
    command->positionals_at_end();
    command->footer(kFooter);
    command->callback([options] { become(*options); });
}

}  // namespace nlmmap::tool
