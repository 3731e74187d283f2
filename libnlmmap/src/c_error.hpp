// SPDX-License-Identifier: MIT
// From the library's exceptions to errno. Internal to the library.
#pragma once

#include <functional>

namespace nlmmap::detail {

// Runs the action: 0, or the errno of the Error that it threw, whose text is nlmmap_error() then.
[[nodiscard]] int tried(const std::function<void()>& action);

}  // namespace nlmmap::detail
