// SPDX-License-Identifier: MIT
// SIGINT and SIGTERM as a request to end, which can be waited for together with descriptors.
#pragma once

#include <csignal>

namespace nlmmap::tool {

// One per program. The second signal of a kind does what it does by default: it ends the program
// even where the first one could not.
class StopSignal {
  public:
    // Throws std::system_error.
    StopSignal();
    ~StopSignal();
    StopSignal(const StopSignal&) = delete;
    StopSignal& operator=(const StopSignal&) = delete;

    // Readable once a signal came.
    int fd() const noexcept;
    bool stopped() const noexcept { return *flag() != 0; }

    // Set by the handler.
    static const volatile std::sig_atomic_t* flag() noexcept;
};

}  // namespace nlmmap::tool
