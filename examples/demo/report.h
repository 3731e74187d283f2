// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace demo {

// One document of what stream() and instructions() returned.
nlohmann::json merge(const nlohmann::json& streamed, const nlohmann::json& instructions);

// The table and its footnotes, for a terminal of 80 columns.
std::string to_table(const nlohmann::json& merged);

// Empty if the ring kept its promises in this run: everything that was published was received, and
// its reader made less than one system call for 100 messages, which only a run of some thousand
// messages can tell. Otherwise a sentence.
std::string broken_promise(const nlohmann::json& merged);

}  // namespace demo
