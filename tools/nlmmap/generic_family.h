// SPDX-License-Identifier: MIT
// Generic netlink families, as the kernel's nlctrl tells them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace nlmmap::tool {

struct GenericGroup {
    std::uint32_t number;
    std::string name;
};

struct GenericFamily {
    std::uint16_t id = 0;                // the type of its messages
    std::size_t fixed_header_bytes = 0;  // the family's own, after struct genlmsghdr
    std::vector<GenericGroup> groups;
};

// Asks the kernel, which loads the family's module if it knows which. Throws std::runtime_error
// with a sentence: there is none of that name, or no generic netlink at all.
GenericFamily generic_family(const std::string& name);

}  // namespace nlmmap::tool
