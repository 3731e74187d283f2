// SPDX-License-Identifier: MIT
// nlmmap::Error: what set-up, join and wait throw.
#pragma once

#include <memory>
#include <nlmmap/export.hpp>
#include <string>
#include <system_error>

namespace nlmmap {

/// A failed operation: what was tried, errno, what the kernel said about it, and what to do.
///
/// code() is the errno in std::generic_category(), so `error.code() == std::errc::...` works.
/// what() has everything in one line:
///
///     join group "events": No such file or directory: no such group in this network namespace;
///     groups here: process_events
///
/// Copying never throws and shares the text. Any thread may read it.
class NLMMAP_EXPORT Error : public std::system_error {
  public:
    /// `errnum` is a positive errno; `operation` says what was tried, `sentence` what the kernel
    /// said (its extended acknowledgement), `advice` what to do; the last two may be empty.
    /// Allocates; throws std::bad_alloc.
    Error(int errnum, std::string operation, std::string sentence = {}, std::string advice = {});

    ~Error() override;
    Error(const Error&) noexcept = default;
    Error& operator=(const Error&) noexcept = default;

    /// What was tried, such as `join group "events"`.
    [[nodiscard]] const std::string& operation() const noexcept;

    /// The kernel's own sentence; empty if it said none.
    [[nodiscard]] const std::string& sentence() const noexcept;

    /// What to do about it; empty if there is nothing to add.
    [[nodiscard]] const std::string& advice() const noexcept;

    /// Operation, errno's text, sentence and advice, in one line.
    [[nodiscard]] const char* what() const noexcept override;

  private:
    struct Text;
    std::shared_ptr<const Text> text_;
};

}  // namespace nlmmap
