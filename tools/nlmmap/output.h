// SPDX-License-Identifier: MIT
// Standard output of a program that streams: whole lines, never stuck in a buffer while the
// program sleeps, quiet when the reader at the other end of a pipe has gone.
#pragma once

#include <fmt/format.h>

#include <csignal>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace nlmmap::tool {

// Nobody reads standard output any more (EPIPE). Not an error: `nlmmap watch GROUP | head`.
class OutputClosed : public std::exception {};

class Output {
  public:
    // Writes to the descriptor, which it does not own. `stop`, where given, is a flag that a signal
    // handler sets: a write that blocks is given up when it is set.
    explicit Output(int fd = 1, const volatile std::sig_atomic_t* stop = nullptr);
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    // Adds the text and a newline. To a terminal it is written at once, to a file or a pipe when
    // 64 KiB are together or flush() is called.
    // Throws OutputClosed, or std::system_error if the descriptor cannot be written to.
    void line(std::string_view text);

    // What to poll for the end of whoever reads it: POLLERR, with no events asked for.
    int fd() const noexcept { return fd_; }

    // Writes what is there. Call before sleeping and at the end. Throws as line().
    void flush();

    template <typename... Args>
    void print_line(fmt::format_string<Args...> format, Args&&... args) {
        line(fmt::format(format, std::forward<Args>(args)...));
    }

  private:
    static constexpr std::size_t kFlushBytes = 64 * 1024;

    int fd_;
    bool terminal_;
    const volatile std::sig_atomic_t* stop_;
    std::string buffer_;
};

}  // namespace nlmmap::tool
