// SPDX-License-Identifier: MIT
// Makes process events: PROCESSES children, each one fork, one exec of PROGRAM and one exit, from
// WORKERS processes at once.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

// Returns 0, or the status for _exit() after saying why.
int spawn_and_wait(const std::string& program, unsigned count) {
    std::string argument = program;
    char* const arguments[] = {argument.data(), nullptr};
    char* const environment[] = {nullptr};
    for (unsigned i = 0; i < count; ++i) {
        pid_t child = 0;
        if (const int error =
                posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environment)) {
            std::fprintf(stderr, "workload: cannot run %s: %s\n", program.c_str(),
                         std::strerror(error));
            return 1;
        }
        int status = 0;
        while (waitpid(child, &status, 0) == -1) {
            if (errno != EINTR) {
                std::perror("workload: waitpid");
                return 1;
            }
        }
        if (status != 0) {
            std::fprintf(stderr, "workload: %s ended with the status %#x\n", program.c_str(),
                         static_cast<unsigned>(status));
            return 1;
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Makes process events: many short-lived processes."};
    unsigned processes = 12'000;
    unsigned workers = 2;
    std::string program;
    app.add_option("--processes", processes, "How many children in all")->capture_default_str();
    app.add_option("--workers", workers, "How many processes make them at once")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    app.add_option("PROGRAM", program, "What each child executes; it must end with status 0")
        ->required();
    CLI11_PARSE(app, argc, argv);

    std::vector<pid_t> children;
    int result = 0;
    for (unsigned worker = 0; worker < workers && result == 0; ++worker) {
        const unsigned share = processes / workers + (worker < processes % workers ? 1 : 0);
        const pid_t child = fork();
        if (child == 0) _exit(spawn_and_wait(program, share));
        if (child == -1) {
            std::perror("workload: fork");
            result = 1;
        } else {
            children.push_back(child);
        }
    }
    for (const pid_t child : children) {
        int status = 0;
        if (waitpid(child, &status, 0) != child || status != 0) result = 1;
    }
    return result;
}
