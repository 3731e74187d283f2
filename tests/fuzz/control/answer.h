// SPDX-License-Identifier: MIT
//
// What stands in the kernel's answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz/control/program.h"

namespace fuzz {

// The payloads of all attributes of that type, in the attributes that begin there.
std::vector<Bytes> attributes_of(const Bytes& bytes, std::size_t at, std::uint16_t type);

// NLMSGERR_ATTR_MSG in what follows an NLMSG_ERROR's header; empty if there is none.
std::string sentence_of(const Bytes& payload, std::uint16_t flags);

// The first attribute of that type, in the attributes that this is; 0 if there is none.
std::uint32_t u32_of(const Bytes& payload, std::uint16_t type);

}  // namespace fuzz
