// SPDX-License-Identifier: MIT
#include "examples/demo/burst_report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "examples/demo/number_text.h"

namespace demo {
namespace {

using nlohmann::json;

constexpr std::int64_t kMessagesPerCall = 100;
constexpr std::string_view kListeners[] = {"plain-default", "plain-max", "plain-forced",
                                           "attached"};

const json& listener(const json& merged, std::string_view name) {
    for (const json& one : merged.at("listeners"))
        if (one.at("listener") == name) return one;
    throw std::runtime_error(fmt::format("there is no listener {}", name));
}

std::string row(std::string_view label, const json& merged,
                const std::function<std::string(const json&)>& cell) {
    std::string line = fmt::format("  {:<27}", label);
    for (const std::string_view name : kListeners)
        line += fmt::format(" {:>12}", cell(listener(merged, name)));
    return line + "\n";
}

std::string number_of(const json& object, const char* key) {
    return grouped(object.at(key).get<std::int64_t>());
}

std::string rounded(const json& value) {
    return value.is_null() ? "-" : grouped(std::llround(value.get<double>()));
}

std::string mebibytes(const json& bytes) {
    const auto value = bytes.get<std::int64_t>();
    if (value < 1 << 20) return grouped(value / 1024) + " KiB";
    return grouped(value / (1 << 20)) + " MiB";
}

std::string per_call(const json& one) {
    const double calls = one.at("system_calls").get<double>();
    const double messages = one.at("messages").get<double>();
    if (calls == 0) return "-";
    return messages / calls < 10 ? fmt::format("{:.2f}", messages / calls)
                                 : grouped(std::llround(messages / calls));
}

// The bursts of one name together.
std::string lost_in(const json& one, const std::string& name) {
    std::int64_t lost = 0;
    for (const json& burst : one.at("bursts"))
        if (burst.at("burst") == name) lost += burst.at("lost").get<std::int64_t>();
    return grouped(lost);
}

}  // namespace

json merge_bursts(const json& bursts, const json& instructions) {
    json merged = bursts;
    merged["instructions"] = instructions;
    for (json& one : merged.at("listeners")) {
        const std::string name = one.at("listener");
        // Reading costs the same whatever the buffer's size is.
        const std::string measured = name == "attached" ? name : "plain-forced";
        const json& costs = instructions.at("listeners");
        one["instructions_per_message"] =
            costs.contains(measured) ? costs.at(measured) : json(nullptr);
    }
    return merged;
}

std::string bursts_to_table(const json& merged) {
    const json& first = merged.at("listeners").at(0);
    std::string text = fmt::format(
        "\n  The same bursts of rtnetlink's and conntrack's events to four listeners, which all\n"
        "  were busy elsewhere during each burst, and read after it. Linux {}\n\n",
        merged.at("kernel").get<std::string>());
    text += fmt::format("  {:<27} {:>12} {:>12} {:>12} {:>12}\n", "", "libnl,", "SO_RCVBUF,",
                        "SO_RCVBUF-", "ring");
    text += fmt::format("  {:<27} {:>12} {:>12} {:>12} {:>12}\n", "", "its default", "rmem_max",
                        "FORCE", "attached");
    text += row("sent [1]", merged, [](const json& one) { return number_of(one, "sent"); });
    text += row("received", merged, [](const json& one) { return number_of(one, "received"); });
    text += row("lost", merged, [](const json& one) { return number_of(one, "lost"); });
    std::string last;
    for (const json& burst : first.at("bursts")) {
        const std::string name = burst.at("burst");
        if (name == last || text.find("  " + name + " ") != std::string::npos) continue;
        last = name;
        text += row("  " + name, merged, [&](const json& one) { return lost_in(one, name); });
    }
    text += row("ENOBUFS", merged, [](const json& one) {
        return one.at("reported_lost").is_null() ? number_of(one, "enobufs") : std::string("-");
    });
    text += row("room in the kernel", merged,
                [](const json& one) { return mebibytes(one.at("room_bytes")); });
    text += row("bytes held per message [2]", merged,
                [](const json& one) { return rounded(one.at("held_bytes_per_message")); });
    text += row("reader's system calls [3]", merged,
                [](const json& one) { return number_of(one, "system_calls"); });
    text += row("  messages per call", merged, per_call);
    text += row("instructions per message [4]", merged,
                [](const json& one) { return rounded(one.at("instructions_per_message")); });
    text +=
        "\n"
        "  [1] What the sender numbered, and each listener found by its number: flaps of a link,\n"
        "      routes, entries. Lost: sent less received, whatever the socket says.\n"
        "  [2] When a burst is over: what the kernel charges the socket for (SO_MEMINFO), and the\n"
        "      bytes that wait in the ring, by the messages that were then read.\n"
        "  [3] Counted by the kernel, as above; over all bursts.\n"
        "  [4] As above: routes alone, libnl's nl_recvmsgs() or the ring's loop, each looking\n"
        "      for the number.\n"
        "  The listeners differ in the receive buffer; the last one has a ring attached besides, "
        "by\n"
        "  one call, and reads it in place.\n";
    return text;
}

std::string broken_burst_promise(const json& merged) {
    for (const std::string_view name : kListeners) {
        const json& one = listener(merged, name);
        if (one.at("sent").get<std::int64_t>() == 0)
            return fmt::format("nothing was sent to the listener {}", name);
    }
    const json& attached = listener(merged, "attached");
    const auto lost = attached.at("lost").get<std::int64_t>();
    const auto reported = attached.at("reported_lost").get<std::int64_t>();
    if (lost != 0 || reported != 0)
        return fmt::format("the attached listener lost {} of {}, and its ring counted {}", lost,
                           attached.at("sent").get<std::int64_t>(), reported);
    const auto messages = attached.at("messages").get<std::int64_t>();
    const auto calls = attached.at("system_calls").get<std::int64_t>();
    if (calls * kMessagesPerCall >= messages)
        return fmt::format(
            "the attached listener made {} system calls for {} messages: not less than one for {}",
            calls, messages, kMessagesPerCall);
    const json& plain = listener(merged, "plain-default");
    if (plain.at("lost").get<std::int64_t>() == 0)
        return "the plain listener lost nothing either: the bursts were too small to show anything";
    return {};
}

}  // namespace demo
