// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace demo {

struct InstructionOptions {
    std::string workload;
    std::string leaf;
    unsigned processes = 400;
    unsigned rounds = 5;
};

// What one message costs its reader: in each round the workload runs while nobody reads, and then
// this thread alone reads what has gathered, first from the ring, then from the proc connector.
// Returns {"method", "ring", "proc_connector_recv"} with the median of the rounds, instructions per
// message; null where this machine cannot count instructions. Throws std::exception.
nlohmann::json instructions(const InstructionOptions& options);

}  // namespace demo
