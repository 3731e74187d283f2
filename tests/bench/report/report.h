// SPDX-License-Identifier: MIT
// What the guest measured: read, checked, and told.
#ifndef NLMMAP_TESTS_BENCH_REPORT_REPORT_H_
#define NLMMAP_TESTS_BENCH_REPORT_REPORT_H_

#include <cstdint>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace nlmmap_bench {

// The guest failed, or what it wrote is not whole.
class BadMeasurement : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// One row of the table; instructions per message.
struct Row {
    std::string transport;
    std::uint32_t payload_bytes = 0;   // as asked for
    std::uint32_t datagram_bytes = 0;  // what was sent: at least a netlink header
    std::uint32_t batch = 0;
    std::uint32_t members = 0;
    std::uint32_t rounds = 0;  // what the medians are over
    std::string kernel;
    double produce = 0;
    double consume = 0;  // of all members together
    double total = 0;
};

// Reads what bench_guest wrote: `rows N`, a JSON object a line, and `pass N` at the very end.
// Throws BadMeasurement for anything else, with the guest's own sentence if it has one.
std::vector<Row> read_rows(std::istream& input);

// An array of objects.
nlohmann::json to_json(const std::vector<Row>& rows);

// For people: a table a payload, the publishing to many members, the goals.
void print_table(const std::vector<Row>& rows, std::ostream& output);

// A sentence for each goal that is not met, or whose row is not there. The goals are bounds in
// instructions, of messages of 64 bytes, 256 at a time, with one member.
std::vector<std::string> missed_goals(const std::vector<Row>& rows);

// Columns for gnuplot: two blocks, batch 16, with payload_bytes and each transport's total.
void print_plot_data(const std::vector<Row>& rows, std::ostream& output);

}  // namespace nlmmap_bench

#endif  // NLMMAP_TESTS_BENCH_REPORT_REPORT_H_
