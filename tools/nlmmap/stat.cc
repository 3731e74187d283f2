// SPDX-License-Identifier: MIT
// nlmmap stat: every ring's positions, losses and wake-ups, once or again and again.
#include <fmt/format.h>
#include <poll.h>

#include <chrono>
#include <cmath>
#include <map>
#include <nlmmap/nlmmap.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/nlmmap/clock.h"
#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/sockets.h"
#include "tools/nlmmap/table.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

using Clock = std::chrono::steady_clock;

// What the rates are made from. A socket's inode may be used again, its port too; both at once by a
// ring that counted further is not worth more.
using Key = std::pair<std::uint32_t, std::uint64_t>;

struct Look {
    Clock::time_point when;
    std::vector<NamedSocket> sockets;
};

struct Rates {
    double records;
    double lost;
    double bytes;
    double wakeups;
};

Key key(const SocketInfo& info) { return {info.portid, info.inode}; }

class RateBook {
  public:
    // Nothing for a ring that the last look did not see.
    std::optional<Rates> rates(const SocketInfo& info, Clock::time_point when) const {
        const auto found = last_.find(key(info));
        if (found == last_.end()) return std::nullopt;
        const SocketInfo& before = found->second;
        const double seconds = std::chrono::duration<double>(when - when_).count();
        if (seconds <= 0 || info.seq < before.seq || info.produced < before.produced) {
            return std::nullopt;
        }
        const auto per_second = [&](std::uint64_t now, std::uint64_t then) {
            return static_cast<double>(now - then) / seconds;
        };
        return Rates{per_second(info.seq, before.seq), per_second(info.lost, before.lost),
                     per_second(info.produced, before.produced),
                     per_second(info.wakeups, before.wakeups)};
    }

    void remember(const Look& look) {
        last_.clear();
        for (const NamedSocket& socket : look.sockets) last_[key(socket.info)] = socket.info;
        when_ = look.when;
    }

  private:
    std::map<Key, SocketInfo> last_;
    Clock::time_point when_;
};

Look look_now(Socket& socket) {
    const std::vector<GroupInfo> groups = socket.groups();
    Look look;
    look.sockets = named_sockets(socket, groups);
    look.when = Clock::now();
    return look;
}

std::string rate_text(const std::optional<Rates>& rates, double Rates::* member) {
    return rates ? fmt::format("{:.0f}", (*rates).*member) : std::string();
}

void print_table(const Look& look, const RateBook* book, Output& output) {
    if (book != nullptr) output.print_line("{}", local_text(wall_time_now()));
    if (look.sockets.empty()) {
        output.line("No sockets with rings.");
        return;
    }
    std::vector<Column> columns = {{"PROCESS"},
                                   {"FAMILY"},
                                   {"PORT", Align::right},
                                   {"RING", Align::right},
                                   {"WAITING", Align::right},
                                   {"HIGH WATER", Align::right},
                                   {"PRODUCED", Align::right},
                                   {"MESSAGES", Align::right},
                                   {"LOST", Align::right},
                                   {"WAKE-UPS", Align::right},
                                   {"FORGED", Align::right}};
    if (book != nullptr) {
        columns.push_back({"MESSAGES/S", Align::right});
        columns.push_back({"LOST/S", Align::right});
        columns.push_back({"BYTES/S", Align::right});
        columns.push_back({"WAKE-UPS/S", Align::right});
    }
    columns.push_back({"GROUPS"});
    Table table(std::move(columns));
    for (const NamedSocket& socket : look.sockets) {
        const SocketInfo& info = socket.info;
        std::vector<std::string> cells = {process_names(socket.processes),
                                          socket.family,
                                          fmt::format("{}", info.portid),
                                          size_text(info.rx_bytes),
                                          fmt::format("{}", info.produced - info.consumed),
                                          size_text(info.high_water),
                                          fmt::format("{}", info.produced),
                                          fmt::format("{}", info.seq),
                                          fmt::format("{}", info.lost),
                                          fmt::format("{}", info.wakeups),
                                          fmt::format("{}", info.forged)};
        if (book != nullptr) {
            const std::optional<Rates> rates = book->rates(info, look.when);
            cells.push_back(rate_text(rates, &Rates::records));
            cells.push_back(rate_text(rates, &Rates::lost));
            cells.push_back(rate_text(rates, &Rates::bytes));
            cells.push_back(rate_text(rates, &Rates::wakeups));
        }
        cells.push_back(group_names(socket));
        table.add(std::move(cells));
    }
    table.print(output);
}

double rounded(double rate) { return std::round(rate * 10) / 10; }

void print_json(const Look& look, const RateBook* book, Output& output) {
    nlohmann::ordered_json answer = {{"time", utc_text(wall_time_now())}};
    answer["sockets"] = nlohmann::ordered_json::array();
    for (const NamedSocket& named : look.sockets) {
        nlohmann::ordered_json socket = to_json(named);
        socket["waiting"] = named.info.produced - named.info.consumed;
        if (const auto rates =
                book != nullptr ? book->rates(named.info, look.when) : std::nullopt) {
            socket["rates"] = {{"messages_per_second", rounded(rates->records)},
                               {"lost_per_second", rounded(rates->lost)},
                               {"bytes_per_second", rounded(rates->bytes)},
                               {"wakeups_per_second", rounded(rates->wakeups)}};
        }
        answer["sockets"].push_back(std::move(socket));
    }
    output.line(answer.dump());
}

// False if the program is to end.
bool sleep_until(Clock::time_point when, const StopSignal& stop) {
    while (!stop.stopped()) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - Clock::now());
        if (left.count() <= 0) return true;
        pollfd ready{.fd = stop.fd(), .events = POLLIN, .revents = 0};
        ::poll(&ready, 1, static_cast<int>(left.count()));
    }
    return false;
}

}  // namespace

int stat(const StatOptions& options, Output& output, StopSignal& stop) {
    Socket socket;
    RateBook book;
    const RateBook* rates = options.interval ? &book : nullptr;
    Clock::time_point next = Clock::now();
    for (std::uint64_t looks = 1;; ++looks) {
        const Look look = look_now(socket);
        if (options.json) {
            print_json(look, rates, output);
        } else {
            if (looks > 1) output.line("");
            print_table(look, rates, output);
        }
        output.flush();
        if (!options.interval || looks == options.count) return kSuccess;
        book.remember(look);
        next += std::chrono::duration_cast<Clock::duration>(*options.interval);
        // A reader that was stopped for a while does not get all the looks that it missed at once.
        next = std::max(next, Clock::now());
        if (!sleep_until(next, stop)) return kSuccess;
    }
}

}  // namespace nlmmap::tool
