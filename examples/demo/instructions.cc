// SPDX-License-Identifier: MIT
#include "examples/demo/instructions.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlmmap/nlmmap.hpp>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "examples/demo/connector.h"
#include "examples/demo/instruction_counter.h"

namespace demo {
namespace {

using namespace std::chrono_literals;

// Large enough that a round loses nothing anywhere.
constexpr std::size_t kRingBytes = 4 << 20;
constexpr std::size_t kReceiveBufferBytes = 32 << 20;

void run_workload(const InstructionOptions& options) {
    const std::string processes = fmt::format("--processes={}", options.processes);
    const char* const arguments[] = {options.workload.c_str(), processes.c_str(), "--workers=1",
                                     options.leaf.c_str(), nullptr};
    pid_t child = 0;
    if (const int error = posix_spawn(&child, options.workload.c_str(), nullptr, nullptr,
                                      const_cast<char* const*>(arguments), environ))
        throw std::system_error(error, std::generic_category(), "run " + options.workload);
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0)
        throw std::runtime_error("the workload failed");
    // The last exits, and whatever else is at work: the reader is to be alone.
    std::this_thread::sleep_for(200ms);
}

double per_message(std::uint64_t instructions, std::uint64_t messages) {
    if (messages == 0) throw std::runtime_error("no message came");
    return static_cast<double>(instructions) / static_cast<double>(messages);
}

double read_ring(nlmmap::Receiver& receiver, InstructionCounter& counter, Tally& tally) {
    const std::uint64_t before = tally.counts.total();
    const std::uint64_t start = counter.now();
    if (receiver.wait(0ns) == nlmmap::Wait::readable) {
        for (const nlmmap::Record& record : receiver.read())
            for (const nlmmap::Message& message : record) tally.add(message);
    }
    return per_message(counter.now() - start, tally.counts.total() - before);
}

// The socket would sleep when it is empty, so exactly as many are read as there are.
double read_connector(Connector& connector, InstructionCounter& counter, Tally& tally,
                      std::uint64_t messages) {
    const std::uint64_t start = counter.now();
    for (std::uint64_t i = 0; i < messages; ++i) {
        if (connector.receive(tally) != Connector::Result::message) break;
    }
    return per_message(counter.now() - start, messages);
}

// What happened since the last round.
void discard_all(nlmmap::Receiver& receiver, Connector& connector) {
    Tally unused;
    connector.set_timeout(1ms);
    while (connector.receive(unused) != Connector::Result::timed_out) {
    }
    connector.set_timeout(1000ms);
    for (const nlmmap::Record& record : receiver.read()) static_cast<void>(record);
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.at(values.size() / 2);
}

}  // namespace

nlohmann::json instructions(const InstructionOptions& options) {
    const std::unique_ptr<InstructionCounter> counter = InstructionCounter::open();
    if (!counter) return {{"method", nullptr}, {"ring", nullptr}, {"proc_connector_recv", nullptr}};

    nlmmap::Receiver receiver =
        nlmmap::Receiver::join(PROCESS_EVENTS_GROUP, {.ring_bytes = kRingBytes});
    Connector connector(kReceiveBufferBytes);
    std::vector<double> ring;
    std::vector<double> plain;
    // A round in which something else happened meanwhile is done again.
    for (unsigned tries = 0; ring.size() < options.rounds; ++tries) {
        if (tries == 4 * options.rounds)
            throw std::runtime_error("other processes do not rest: nothing can be measured");
        discard_all(receiver, connector);
        run_workload(options);
        Tally from_ring;
        Tally from_connector;
        const double ring_cost = read_ring(receiver, *counter, from_ring);
        const double plain_cost =
            read_connector(connector, *counter, from_connector, from_ring.counts.total());
        if (receiver.lost() != 0) throw std::runtime_error("the ring was too small");
        // Both were told of the same events, so they did the same work.
        if (from_ring.counts != from_connector.counts ||
            from_ring.tid_sum != from_connector.tid_sum)
            continue;
        ring.push_back(ring_cost);
        plain.push_back(plain_cost);
    }
    return {{"method", counter->method()},
            {"messages", 3 * options.processes},
            {"rounds", options.rounds},
            {"ring", median(ring)},
            {"proc_connector_recv", median(plain)}};
}

}  // namespace demo
