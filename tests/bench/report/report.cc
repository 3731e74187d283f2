// SPDX-License-Identifier: MIT
#include "tests/bench/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <istream>
#include <optional>
#include <ostream>
#include <set>
#include <string_view>
#include <tuple>

namespace nlmmap_bench {
namespace {

Row parse_row(const std::string& line) {
    try {
        const nlohmann::json object = nlohmann::json::parse(line);
        Row row;
        object.at("transport").get_to(row.transport);
        object.at("payload_bytes").get_to(row.payload_bytes);
        object.at("datagram_bytes").get_to(row.datagram_bytes);
        object.at("batch").get_to(row.batch);
        object.at("members").get_to(row.members);
        object.at("rounds").get_to(row.rounds);
        object.at("kernel").get_to(row.kernel);
        object.at("produce").get_to(row.produce);
        object.at("consume").get_to(row.consume);
        object.at("total").get_to(row.total);
        return row;
    } catch (const nlohmann::json::exception& error) {
        throw BadMeasurement(fmt::format("the guest wrote '{}': {}", line, error.what()));
    }
}

void check_row(const Row& row) {
    const auto refuse = [&row](std::string_view what) {
        throw BadMeasurement(fmt::format("{}, {} bytes, batch {}, {} members: {}", row.transport,
                                         row.payload_bytes, row.batch, row.members, what));
    };
    if (row.batch == 0 || row.members == 0 || row.rounds == 0) refuse("a count is zero");
    if (row.datagram_bytes < row.payload_bytes) refuse("less was sent than asked for");
    // Nothing moves a message in less: the measurement went wrong.
    if (!(row.produce > 1) || !(row.consume > 1)) refuse("it seems to cost nothing");
    if (std::abs(row.produce + row.consume - row.total) > 0.11) refuse("the sum is wrong");
}

template <typename Value, typename Get>
std::vector<Value> distinct(const std::vector<Row>& rows, Get get) {
    std::vector<Value> values;
    for (const Row& row : rows)
        if (std::find(values.begin(), values.end(), get(row)) == values.end())
            values.push_back(get(row));
    return values;
}

const Row* find(const std::vector<Row>& rows, std::string_view transport, std::uint32_t payload,
                std::uint32_t batch, std::uint32_t members) {
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) {
        return row.transport == transport && row.payload_bytes == payload && row.batch == batch &&
               row.members == members;
    });
    return found == rows.end() ? nullptr : &*found;
}

std::string cell(const Row* row) {
    if (row == nullptr) return "-";
    return fmt::format("{:.0f} + {:.0f}", row->produce, row->consume);
}

void print_block(const std::vector<Row>& rows, std::uint32_t payload, std::uint32_t members,
                 std::string_view title, std::ostream& output) {
    const auto batches = distinct<std::uint32_t>(rows, [](const Row& row) { return row.batch; });
    const auto transports =
        distinct<std::string>(rows, [](const Row& row) { return row.transport; });
    output << fmt::format("\n{:<24}", title);
    for (const std::uint32_t batch : batches)
        output << fmt::format("{:>18}", fmt::format("batch {}", batch));
    output << '\n';
    for (const std::string& transport : transports) {
        std::string line = fmt::format("{:<24}", transport);
        bool any = false;
        for (const std::uint32_t batch : batches) {
            const Row* const row = find(rows, transport, payload, batch, members);
            any = any || row != nullptr;
            line += fmt::format("{:>18}", cell(row));
        }
        if (any) output << line << '\n';
    }
}

struct Goal {
    const char* what;
    const char* transport;
    double Row::* cost;
    double at_most;
};

// For messages of 64 bytes, 256 at a time, one member.
constexpr Goal kGoals[] = {
    {"publish, copied in", "ring-copy", &Row::produce, 150},
    {"publish, filled in place", "ring-inplace", &Row::produce, 120},
    {"consume, through the library's iterator", "ring-copy", &Row::consume, 15},
    {"consume, from an attached ring", "ring-attached", &Row::consume, 25},
};

const Row* goal_row(const std::vector<Row>& rows, std::string_view transport) {
    return find(rows, transport, 64, 256, 1);
}

// What is measured has one decimal.
bool met(double is, double at_most) { return is <= at_most + 0.05; }

void print_goals(const std::vector<Row>& rows, std::ostream& output) {
    const auto line = [&output](std::string_view what, double is, double at_most) {
        output << fmt::format("  {:<42}{:>8.1f}{:>8.0f}  {}\n", what, is, at_most,
                              met(is, at_most) ? "met" : "MISSED");
    };
    output << fmt::format("\n{:<44}{:>8}{:>8}\n", "Goals (64 bytes, batch 256)", "is", "at most");
    for (const Goal& goal : kGoals)
        if (const Row* const row = goal_row(rows, goal.transport))
            line(goal.what, row->*goal.cost, goal.at_most);
    const Row* const alone = goal_row(rows, "ring-copy");
    const Row* const in_epoll = goal_row(rows, "ring-copy-epoll");
    if (alone != nullptr && in_epoll != nullptr)
        line("more with the socket in an epoll set", in_epoll->total - alone->total, 0);
    const Row* const attached = goal_row(rows, "ring-attached");
    const Row* const plain = goal_row(rows, "netlink-recvmsg");
    if (attached != nullptr && plain != nullptr)
        line("attached, all of it, beside netlink-recvmsg", attached->total, plain->total);
}

}  // namespace

std::vector<Row> read_rows(std::istream& input) {
    std::vector<Row> rows;
    std::set<std::tuple<std::string, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
    std::optional<std::size_t> promised;
    bool passed = false;
    std::string line;
    while (std::getline(input, line)) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) continue;
        if (passed) throw BadMeasurement("after its verdict the guest wrote: " + line);
        if (line.rfind("fail ", 0) == 0)
            throw BadMeasurement("the guest failed: " + line.substr(5));
        if (!promised) {
            std::size_t count = 0;
            if (std::sscanf(line.c_str(), "rows %zu", &count) != 1)
                throw BadMeasurement("the guest began with: " + line);
            promised = count;
        } else if (line == fmt::format("pass {}", *promised)) {
            passed = true;
        } else {
            rows.push_back(parse_row(line));
            const Row& row = rows.back();
            check_row(row);
            if (!seen.emplace(row.transport, row.payload_bytes, row.batch, row.members).second)
                throw BadMeasurement("a row came twice: " + line);
        }
    }
    if (!passed) throw BadMeasurement("the guest did not come to its end");
    if (rows.empty() || rows.size() != *promised)
        throw BadMeasurement(fmt::format("{} rows of {} are there", rows.size(), *promised));
    return rows;
}

nlohmann::json to_json(const std::vector<Row>& rows) {
    nlohmann::json array = nlohmann::json::array();
    for (const Row& row : rows)
        array.push_back({{"transport", row.transport},
                         {"payload_bytes", row.payload_bytes},
                         {"datagram_bytes", row.datagram_bytes},
                         {"batch", row.batch},
                         {"members", row.members},
                         {"rounds", row.rounds},
                         {"kernel", row.kernel},
                         {"produce", row.produce},
                         {"consume", row.consume},
                         {"total", row.total}});
    return array;
}

void print_table(const std::vector<Row>& rows, std::ostream& output) {
    if (rows.empty()) return;
    output << fmt::format("Instructions per message, produce + consume; medians of {}; kernel {}\n",
                          rows.front().rounds, rows.front().kernel);
    for (const std::uint32_t payload :
         distinct<std::uint32_t>(rows, [](const Row& row) { return row.payload_bytes; })) {
        const auto sent = std::find_if(rows.begin(), rows.end(), [payload](const Row& row) {
            return row.payload_bytes == payload;
        });
        print_block(rows, payload, 1,
                    sent->datagram_bytes == payload
                        ? fmt::format("{} bytes", payload)
                        : fmt::format("{} bytes (sent: {})", payload, sent->datagram_bytes),
                    output);
    }
    for (const std::uint32_t members :
         distinct<std::uint32_t>(rows, [](const Row& row) { return row.members; }))
        if (members != 1)
            print_block(rows, 64, members, fmt::format("64 bytes, {} members", members), output);
    print_goals(rows, output);
    output << "\n"
              "Payloads include struct nlmsghdr: the smallest datagram has 16 bytes. With several\n"
              "members, consume is that of all of them together. nlmmap-plain-recvmsg is a member\n"
              "without a ring: produce includes the work item that serves it. ring-attached is a\n"
              "netlink-* socket with a ring under it: produce includes what moves each message\n"
              "from the socket's queue into the ring. Instructions hide cache misses, traffic\n"
              "between CPUs and what a wake-up really costs.\n";
}

std::vector<std::string> missed_goals(const std::vector<Row>& rows) {
    std::vector<std::string> missed;
    for (const Goal& goal : kGoals) {
        const Row* const row = goal_row(rows, goal.transport);
        if (row == nullptr) {
            missed.push_back(fmt::format("{}: {} was not measured with 64 bytes, batch 256",
                                         goal.what, goal.transport));
        } else if (!met(row->*goal.cost, goal.at_most)) {
            missed.push_back(fmt::format("{}: {:.1f} instructions per message, not {:.0f} at most",
                                         goal.what, row->*goal.cost, goal.at_most));
        }
    }
    return missed;
}

void print_plot_data(const std::vector<Row>& rows, std::ostream& output) {
    const auto transports =
        distinct<std::string>(rows, [](const Row& row) { return row.transport; });
    output << "payload_bytes";
    for (const std::string& transport : transports) output << ' ' << transport;
    output << '\n';
    for (const std::uint32_t payload :
         distinct<std::uint32_t>(rows, [](const Row& row) { return row.payload_bytes; })) {
        output << payload;
        for (const std::string& transport : transports) {
            const Row* const row = find(rows, transport, payload, 16, 1);
            output << ' ' << (row == nullptr ? "NaN" : fmt::format("{}", row->total));
        }
        output << '\n';
    }
}

}  // namespace nlmmap_bench
