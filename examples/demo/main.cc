// SPDX-License-Identifier: MIT
// The demo's program: streams process events from the ring and from the proc connector at once,
// measures, and prints the table. tools/demo runs it; README.md beside this file describes it.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

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

int run_report(const std::string& streamed, const std::string& instructions,
               const std::string& out) {
    const json merged = demo::merge(read_json(streamed), read_json(instructions));
    fmt::print("{}", demo::to_table(merged));
    if (!out.empty()) {
        std::ofstream file(out);
        file << merged.dump(2) << '\n';
        if (!file) throw std::runtime_error("cannot write " + out);
    }
    const std::string broken = demo::broken_promise(merged);
    if (broken.empty()) return 0;
    fmt::print(stderr, "nlmmap-demo: {}\n", broken);
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Streams process events through a mapped ring and through the proc connector."};
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

    std::string streamed_path;
    std::string instructions_path;
    CLI::App* report = app.add_subcommand("report", "Print the table of what was measured");
    report->add_option("--stream", streamed_path, "What 'stream' wrote")->required();
    report->add_option("--instructions", instructions_path, "What 'instructions' wrote")
        ->required();
    report->add_option("--json", out, "Write the table here as JSON");

    CLI11_PARSE(app, argc, argv);
    try {
        if (*stream) {
            streaming.latency = std::chrono::milliseconds(latency_ms);
            write_json(out, demo::stream(streaming));
        } else if (*instructions) {
            write_json(out, demo::instructions(measuring));
        } else {
            return run_report(streamed_path, instructions_path, out);
        }
    } catch (const std::exception& error) {
        fmt::print(stderr, "nlmmap-demo: {}\n", error.what());
        return 1;
    }
    return 0;
}
