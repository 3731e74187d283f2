// SPDX-License-Identifier: MIT
#include "tools/nlmmap/output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace nlmmap::tool {

Output::Output(int fd, const volatile std::sig_atomic_t* stop)
    : fd_(fd), terminal_(::isatty(fd) == 1), stop_(stop) {}

void Output::line(std::string_view text) {
    buffer_.append(text);
    buffer_.push_back('\n');
    if (terminal_ || buffer_.size() >= kFlushBytes) flush();
}

void Output::flush() {
    std::size_t done = 0;
    while (done < buffer_.size()) {
        const ssize_t written = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
        if (written >= 0) {
            done += static_cast<std::size_t>(written);
            continue;
        }
        const int error = errno;
        if (error == EINTR && (stop_ == nullptr || *stop_ == 0)) continue;
        if (error == EAGAIN) {
            // Somebody who shares the descriptor made it non-blocking.
            pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
            ::poll(&ready, 1, -1);
            if (stop_ == nullptr || *stop_ == 0) continue;
        }
        buffer_.clear();
        if (error == EPIPE || error == EINTR || error == EAGAIN) throw OutputClosed();
        throw std::system_error(error, std::generic_category(), "cannot write the output");
    }
    buffer_.clear();
}

}  // namespace nlmmap::tool
