// SPDX-License-Identifier: MIT
// Measures every row of the table in the guest; see tools/bench for what the rows mean.
//
// Writes one JSON object a row and line, then `pass ROWS` or `fail SENTENCE`, to --output.
#include <fmt/format.h>
#include <sys/utsname.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/guest/measurement.h"
#include "tests/bench/guest/transport.h"

namespace nlmmap_bench {
namespace {

struct Row {
    std::string transport;
    std::uint32_t payload_bytes;
    std::uint32_t batch;
    unsigned members;
    std::function<std::unique_ptr<Transport>()> make;
};

struct Options {
    bool quick = false;
    unsigned rounds = 31;
    int peer_family = 31;
    std::vector<std::string> transports;  // empty: all
    std::string output;
};

// Not counted: pages and caches are touched, the ring has armed and disarmed once.
constexpr unsigned kWarmUpRounds = 4;

std::vector<Row> make_rows(const Producer& producer, const Options& options) {
    std::vector<Row> rows;
    const auto add = [&](std::string name, std::uint32_t bytes, std::uint32_t batch,
                         unsigned members, std::function<std::unique_ptr<Transport>()> make) {
        const std::vector<std::string>& wanted = options.transports;
        if (wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end())
            rows.push_back({std::move(name), bytes, batch, members, std::move(make)});
    };
    const auto ring = [&](nlmmap_bench_path path, bool in_epoll, unsigned members) {
        return [&producer, use = RingUse{path, in_epoll, members}] {
            return make_ring(producer, use);
        };
    };
    const auto attached = [&] {
        return [&producer, use = RingUse{NLMMAP_BENCH_NETLINK, false, 1, options.peer_family}] {
            return make_ring(producer, use);
        };
    };
    const auto plain = [&](PlainGroup group, PlainRead read, unsigned members) {
        return [&producer, family = options.peer_family, use = PlainUse{group, read, members}] {
            return make_plain(producer, family, use);
        };
    };
    const std::vector<std::uint32_t> payloads =
        options.quick ? std::vector<std::uint32_t>{64}
                      : std::vector<std::uint32_t>{8, 64, 256, 1024, 4096};
    for (const std::uint32_t bytes : payloads) {
        for (const std::uint32_t batch : {1U, 16U, 256U}) {
            add("floor", bytes, batch, 1, make_floor);
            add("ring-copy", bytes, batch, 1, ring(NLMMAP_BENCH_COPY, false, 1));
            add("ring-inplace", bytes, batch, 1, ring(NLMMAP_BENCH_INPLACE, false, 1));
            add("ring-copy-epoll", bytes, batch, 1, ring(NLMMAP_BENCH_COPY, true, 1));
            add("ring-inplace-epoll", bytes, batch, 1, ring(NLMMAP_BENCH_INPLACE, true, 1));
            add("ring-attached", bytes, batch, 1, attached());
            add("netlink-recvmsg", bytes, batch, 1, plain(PlainGroup::peer, PlainRead::recvmsg, 1));
            add("netlink-recvmmsg", bytes, batch, 1,
                plain(PlainGroup::peer, PlainRead::recvmmsg, 1));
            add("netlink-libnl", bytes, batch, 1, plain(PlainGroup::peer, PlainRead::libnl, 1));
            add("netlink-libnl-nopeek", bytes, batch, 1,
                plain(PlainGroup::peer, PlainRead::libnl_no_peek, 1));
            add("nlmmap-plain-recvmsg", bytes, batch, 1,
                plain(PlainGroup::nlmmap, PlainRead::recvmsg, 1));
        }
    }
    for (const unsigned members : {8U, 64U}) {
        for (const std::uint32_t batch : {1U, 16U, 256U}) {
            add("ring-copy", 64, batch, members, ring(NLMMAP_BENCH_COPY, false, members));
            add("ring-inplace", 64, batch, members, ring(NLMMAP_BENCH_INPLACE, false, members));
            add("netlink-recvmsg", 64, batch, members,
                plain(PlainGroup::peer, PlainRead::recvmsg, members));
            add("nlmmap-plain-recvmsg", 64, batch, members,
                plain(PlainGroup::nlmmap, PlainRead::recvmsg, members));
        }
    }
    return rows;
}

// Instructions a message, to a tenth.
double per_message(const std::vector<std::uint64_t>& costs, std::uint32_t batch) {
    return std::round(static_cast<double>(median(costs)) * 10.0 / batch) / 10.0;
}

nlohmann::json measure_row(const Row& row, unsigned rounds) {
    const std::unique_ptr<Transport> transport = row.make();
    // No netlink message is smaller than its header.
    Load load{std::max<std::uint32_t>(row.payload_bytes, sizeof(nlmsghdr)), row.batch, 0};
    std::vector<std::uint64_t> produce, consume;
    for (unsigned round = 0; round < kWarmUpRounds + rounds; ++round) {
        load.seed = (std::uint64_t{round} + 1) << 40;
        const Cost cost = transport->round(load);
        if (round < kWarmUpRounds) continue;
        produce.push_back(cost.produce);
        consume.push_back(cost.consume);
    }
    const double produced = per_message(produce, row.batch);
    const double consumed = per_message(consume, row.batch);
    utsname system{};
    uname(&system);
    return {{"transport", row.transport},
            {"payload_bytes", row.payload_bytes},
            {"datagram_bytes", load.datagram_bytes},
            {"batch", row.batch},
            {"members", row.members},
            {"rounds", rounds},
            {"kernel", system.release},
            {"produce", produced},
            {"consume", consumed},
            {"total", std::round((produced + consumed) * 10.0) / 10.0}};
}

void run(const Options& options, std::ostream& output) {
    const Producer producer;
    const std::vector<Row> rows = make_rows(producer, options);
    if (rows.empty()) throw std::invalid_argument("no such transport");
    output << fmt::format("rows {}\n", rows.size()) << std::flush;
    for (const Row& row : rows) {
        try {
            output << measure_row(row, options.rounds) << '\n' << std::flush;
        } catch (const std::exception& error) {
            throw CheckFailed(fmt::format("{}, {} bytes, batch {}, {} members: {}", row.transport,
                                          row.payload_bytes, row.batch, row.members, error.what()));
        }
    }
    output << fmt::format("pass {}\n", rows.size());
}

}  // namespace
}  // namespace nlmmap_bench

int main(int argc, char** argv) {
    CLI::App app{"Counts the instructions that messages cost, in a guest under -icount"};
    nlmmap_bench::Options options;
    app.add_flag("--quick", options.quick, "payloads of 64 bytes alone");
    app.add_option("--transport", options.transports, "only these; may be repeated");
    app.add_option("--rounds", options.rounds, "measurements of each row")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--peer-family", options.peer_family, "netlink family of the peers")
        ->capture_default_str();
    app.add_option("--output", options.output, "where the rows go")->required();
    CLI11_PARSE(app, argc, argv);

    std::ofstream output(options.output);
    try {
        nlmmap_bench::run(options, output);
        return 0;
    } catch (const std::exception& error) {
        output << "fail " << error.what() << std::endl;
        return 1;
    }
}
