// SPDX-License-Identifier: MIT
// Turns what the guest measured into a table, JSON, and data for a plot.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/bench/report/report.h"

namespace {

// Throws std::ios_base::failure, whose text names no file: main() does.
template <typename Write>
void write_file(const std::string& name, Write write) {
    std::ofstream file;
    file.exceptions(std::ios::failbit | std::ios::badbit);
    try {
        file.open(name);
        write(file);
        file.close();
    } catch (const std::ios_base::failure& error) {
        throw std::runtime_error("cannot write " + name + ": " + error.code().message());
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Checks and tells what bench_guest measured"};
    std::string measured, json, plot_data;
    app.add_option("MEASURED", measured, "the file that bench_guest wrote")->required();
    app.add_option("--json", json, "write the rows to this file, as an array of objects");
    app.add_option("--plot-data", plot_data, "write columns for tests/bench/plot.gp to this file");
    bool goals = false;
    app.add_flag("--goals", goals, "fail if a goal is missed, or its row is not there");
    CLI11_PARSE(app, argc, argv);
    try {
        std::ifstream input(measured);
        if (!input) throw std::runtime_error("cannot read " + measured);
        const std::vector<nlmmap_bench::Row> rows = nlmmap_bench::read_rows(input);
        if (!json.empty())
            write_file(json, [&](std::ostream& file) {
                file << nlmmap_bench::to_json(rows).dump(2) << '\n';
            });
        if (!plot_data.empty())
            write_file(plot_data,
                       [&](std::ostream& file) { nlmmap_bench::print_plot_data(rows, file); });
        nlmmap_bench::print_table(rows, std::cout);
        if (!goals) return 0;
        const std::vector<std::string> missed = nlmmap_bench::missed_goals(rows);
        for (const std::string& sentence : missed) std::cerr << "bench: " << sentence << '\n';
        return missed.empty() ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << "bench: " << error.what() << '\n';
        return 1;
    }
}
