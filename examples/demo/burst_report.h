// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace demo {

// Adds to the listeners of what burst() returned what burst_instructions() returned.
nlohmann::json merge_bursts(const nlohmann::json& bursts, const nlohmann::json& instructions);

// The second table and its footnotes, for a terminal of 80 columns.
std::string bursts_to_table(const nlohmann::json& merged);

// Empty if every listener is there, the attached one received all that was sent, and plain ones
// with a default buffer lost something, without which the run shows nothing. Otherwise a sentence.
std::string broken_burst_promise(const nlohmann::json& merged);

}  // namespace demo
