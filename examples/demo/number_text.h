// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

namespace demo {

// 12,345
std::string grouped(std::int64_t number);

}  // namespace demo
