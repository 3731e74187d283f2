// SPDX-License-Identifier: MIT
//
// Where the kernel has been on behalf of one task: KCOV, where the kernel has it.
// See Documentation/dev-tools/kcov.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace fuzz {

class Coverage {
  public:
    // Opens and maps; throws std::system_error if the kernel has no KCOV, or debugfs is not
    // mounted.
    Coverage();
    Coverage(const Coverage&) = delete;
    Coverage& operator=(const Coverage&) = delete;
    ~Coverage();

    // The calling task is traced until it ends: the task that made this, or its child.
    void trace_me();
    // Forgets what was reached.
    void reset();
    // The addresses that were reached since, in order, as the kernel tells them: less what it was
    // moved by at boot.
    std::span<const std::uint64_t> reached() const;

  private:
    int fd_;
    std::uint64_t* words_;
};

// Whether there is KCOV.
bool has_kcov();

// Where a module's code lies, in the addresses that KCOV tells.
struct TextRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool contains(std::uint64_t at) const { return at >= begin && at < end; }
};
TextRange module_text(const std::string& module);

}  // namespace fuzz
