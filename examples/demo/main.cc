// SPDX-License-Identifier: MIT
// The demo's program: streams process events from the ring and from the proc connector at once,
// sends bursts of rtnetlink's and conntrack's events to listeners with and without a ring,
// measures, and prints the tables. tools/demo runs it; README.md beside this file describes it.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "examples/demo/burst.h"
#include "examples/demo/burst_report.h"
#include "examples/demo/instructions.h"
#include "examples/demo/report.h"
#include "examples/demo/stream.h"

namespace {

using nlohmann::json;

void write_json(const std::string& path, const json& document) {
    std::ofstream file(path);
    // One line: that is what comes whole through a serial port.
    file << document.dump() << '\n';
    file.flush();
    if (!file) throw std::runtime_error("cannot write " + path);
}

json read_json(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    return json::parse(file);
}

struct Measured {
    std::string streamed;  // empty: that half was not run
    std::string instructions;
    std::string bursts;  // likewise
    std::string burst_instructions;
};

int run_report(const Measured& measured, const std::string& out) {
    json merged = json::object();
    std::string broken;
    if (!measured.streamed.empty()) {
        merged = demo::merge(read_json(measured.streamed), read_json(measured.instructions));
        fmt::print("{}", demo::to_table(merged));
        broken = demo::broken_promise(merged);
    }
    if (!measured.bursts.empty()) {
        const json bursts =
            demo::merge_bursts(read_json(measured.bursts), read_json(measured.burst_instructions));
        fmt::print("{}", demo::bursts_to_table(bursts));
        merged["bursts"] = bursts;
        if (broken.empty()) broken = demo::broken_burst_promise(bursts);
    }
    if (!out.empty()) {
        std::ofstream file(out);
        file << merged.dump(2) << '\n';
        if (!file) throw std::runtime_error("cannot write " + out);
    }
    if (broken.empty()) return 0;
    fmt::print(stderr, "nlmmap-demo: {}\n", broken);
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Streams kernel events through mapped rings and through plain sockets."};
    app.require_subcommand(1);

    demo::StreamOptions streaming;
    std::string out;
    CLI::App* stream = app.add_subcommand("stream", "Run the workload while both readers listen");
    stream->add_option("--workload", streaming.workload, "The program that makes processes")
        ->required();
    stream->add_option("--leaf", streaming.leaf, "The program that it executes")->required();
    stream->add_option("--processes", streaming.processes, "How many")->capture_default_str();
    stream->add_option("--workers", streaming.workers, "Made by how many processes at once")
        ->capture_default_str();
    stream->add_option("--ring-bytes", streaming.ring_bytes, "The ring's size")
        ->capture_default_str();
    stream
        ->add_option("--watermark-bytes", streaming.watermark_bytes,
                     "The ring's reader is woken when so much waits, or after the latency")
        ->capture_default_str();
    unsigned latency_ms = static_cast<unsigned>(streaming.latency.count());
    stream->add_option("--latency-ms", latency_ms, "How long an event waits to be seen at most")
        ->check(CLI::Range(1, 60'000))
        ->capture_default_str();
    stream
        ->add_option("--receive-buffer-bytes", streaming.receive_buffer_bytes,
                     "The proc connector's socket buffer; 0: the system's default")
        ->capture_default_str();
    stream
        ->add_option("--hold-events", streaming.hold_events,
                     "Half-way both readers are held up for so many events; 0: never")
        ->capture_default_str();
    stream->add_option("--json", out, "Where the figures go")->required();

    demo::InstructionOptions measuring;
    CLI::App* instructions =
        app.add_subcommand("instructions", "Measure what a message costs its reader");
    instructions->add_option("--workload", measuring.workload, "As above")->required();
    instructions->add_option("--leaf", measuring.leaf, "As above")->required();
    instructions->add_option("--processes", measuring.processes, "How many in each round")
        ->capture_default_str();
    instructions->add_option("--rounds", measuring.rounds, "How many rounds")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();
    instructions->add_option("--json", out, "Where the figures go")->required();

    demo::BurstOptions bursting;
    CLI::App* burst =
        app.add_subcommand("burst", "Send bursts of kernel events to listeners of four kinds");
    burst->add_option("--link-changes", bursting.link_changes, "Of a burst")->capture_default_str();
    burst->add_option("--routes", bursting.routes, "Of a burst")->capture_default_str();
    burst->add_option("--ipv6-routes", bursting.ipv6_routes, "Of a burst")->capture_default_str();
    burst->add_option("--conntrack-entries", bursting.conntrack_entries, "Of a burst")
        ->capture_default_str();
    burst->add_option("--ring-bytes", bursting.ring_bytes, "The ring's size")
        ->capture_default_str();
    burst->add_option("--json", out, "Where the figures go")->required();

    demo::BurstInstructionOptions burst_measuring;
    CLI::App* burst_instructions = app.add_subcommand(
        "burst-instructions", "Measure what a message of a burst costs its reader");
    burst_instructions->add_option("--messages", burst_measuring.messages, "How many in each round")
        ->capture_default_str();
    burst_instructions->add_option("--rounds", burst_measuring.rounds, "How many rounds")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();
    burst_instructions->add_option("--json", out, "Where the figures go")->required();

    Measured measured;
    CLI::App* report = app.add_subcommand("report", "Print the table of what was measured");
    CLI::Option* streamed =
        report->add_option("--stream", measured.streamed, "What 'stream' wrote");
    CLI::Option* counted =
        report->add_option("--instructions", measured.instructions, "What 'instructions' wrote");
    CLI::Option* bursts = report->add_option("--burst", measured.bursts, "What 'burst' wrote");
    CLI::Option* bursts_counted = report->add_option(
        "--burst-instructions", measured.burst_instructions, "What 'burst-instructions' wrote");
    // Each half is two files; at least one half.
    streamed->needs(counted);
    counted->needs(streamed);
    bursts->needs(bursts_counted);
    bursts_counted->needs(bursts);
    report->require_option(2, 5);
    report->add_option("--json", out, "Write the table here as JSON");

    CLI11_PARSE(app, argc, argv);
    try {
        if (*stream) {
            streaming.latency = std::chrono::milliseconds(latency_ms);
            write_json(out, demo::stream(streaming));
        } else if (*instructions) {
            write_json(out, demo::instructions(measuring));
        } else if (*burst) {
            write_json(out, demo::burst(bursting));
        } else if (*burst_instructions) {
            write_json(out, demo::burst_instructions(burst_measuring));
        } else {
            return run_report(measured, out);
        }
    } catch (const std::exception& error) {
        fmt::print(stderr, "nlmmap-demo: {}\n", error.what());
        return 1;
    }
    return 0;
}
