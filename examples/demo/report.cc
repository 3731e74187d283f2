// SPDX-License-Identifier: MIT
#include "examples/demo/report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "examples/demo/number_text.h"

namespace demo {
namespace {

using nlohmann::json;

// What the reader does beside the messages, waiting before and after them, must not count.
constexpr std::int64_t kEnoughMessages = 4'000;
constexpr std::int64_t kMessagesPerCall = 100;

std::string kibibytes(const json& bytes) {
    return grouped(bytes.get<std::int64_t>() / 1024) + " KiB";
}

std::string times(const json& count) {
    return count == 1 ? "once" : grouped(count.get<std::int64_t>()) + " times";
}

std::string messages_per_call(const json& transport) {
    const double calls = transport.at("system_calls").at("total").get<double>();
    const double received = transport.at("received").at("total").get<double>();
    if (calls == 0) return "-";
    return received / calls < 10 ? fmt::format("{:.2f}", received / calls)
                                 : fmt::format("{:.0f}", received / calls);
}

std::string instruction_text(const json& transport) {
    const json& value = transport.at("instructions_per_message");
    if (value.is_null()) return "not measured";
    return grouped(std::llround(value.get<double>()));
}

std::string row(const std::string& label, const std::string& ring, const std::string& plain) {
    return fmt::format("  {:<30} {:>14} {:>26}\n", label, ring, plain);
}

std::string instruction_note(const json& merged) {
    const json& method = merged.at("instructions").at("method");
    if (method == "icount")
        return "  [3] In a second boot of one CPU under QEMU's -icount, where the time stamp "
               "counter\n"
               "      counts instructions (checked first): the events wait, then the reader reads\n"
               "      them alone. Median of the rounds, user space and kernel together.\n";
    if (method == "perf_event")
        return "  [3] By the processor's own counter (perf_event_open), user space and kernel\n"
               "      together: the events wait, then the reader reads them alone. Median of the\n"
               "      rounds.\n";
    return "  [3] Not measured: this machine gives no instruction counter.\n";
}

}  // namespace

json merge(const json& streamed, const json& instructions) {
    json merged = streamed;
    merged["instructions"] = instructions;
    for (json& transport : merged.at("transports")) {
        const char* key = transport.at("transport") == "ring" ? "ring" : "proc_connector_recv";
        transport["instructions_per_message"] = instructions.at(key);
    }
    return merged;
}

std::string to_table(const json& merged) {
    const json& ring = merged.at("transports").at(0);
    const json& plain = merged.at("transports").at(1);
    const json& published = merged.at("published");
    const auto number = [](const json& value) { return grouped(value.get<std::int64_t>()); };

    std::string text = fmt::format(
        "{} forks, {} execs and {} exits in {:.1f} s, Linux {}, {} CPU{}\n\n",
        number(published.at("forks")), number(published.at("execs")), number(published.at("exits")),
        merged.at("seconds").get<double>(), merged.at("kernel").get<std::string>(),
        merged.at("cpus").get<int>(), merged.at("cpus") == 1 ? "" : "s");
    text += row("", "mapped ring", "proc connector, recv()");
    text +=
        row("events published [1]", number(published.at("total")), number(published.at("total")));
    text += row("received", number(ring.at("received").at("total")),
                number(plain.at("received").at("total")));
    text += row("lost", number(ring.at("lost")), number(plain.at("lost")));
    const json& enobufs = plain.at("reported_enobufs");
    text += row("  and the reader is told", number(ring.at("reported_lost")) + " lost",
                enobufs == 0 ? "nothing" : "ENOBUFS, " + times(enobufs));
    text += row("reader's system calls [2]", number(ring.at("system_calls").at("total")),
                number(plain.at("system_calls").at("total")));
    text += row("  messages per call", messages_per_call(ring), messages_per_call(plain));
    text += row("instructions per message [3]", instruction_text(ring), instruction_text(plain));
    text += row("room in the kernel", kibibytes(ring.at("buffer_bytes")),
                kibibytes(plain.at("buffer_bytes")));
    text +=
        "\n"
        "  [1] Counted by process_events.ko as they happened, from when both readers listened\n"
        "      until both had read all they got. Lost: published less received.\n"
        "  [2] Counted by the kernel over the same time: a histogram on raw_syscalls:sys_enter,\n"
        "      filtered on the two readers.\n";
    text += instruction_note(merged);
    text += fmt::format("  The ring's reader is woken when {} wait, or after {} ms.\n",
                        kibibytes(ring.at("watermark_bytes")), merged.at("latency_ms").get<int>());
    if (merged.at("hold_events") != 0)
        text += fmt::format(
            "  Half-way both readers did something else for {} events, as a busy daemon does.\n",
            number(merged.at("hold_events")));
    if (!merged.at("quiet").get<bool>())
        text +=
            "  Other processes never rested: published and received may differ by what happened\n"
            "  at the moments of counting.\n";
    return text;
}

std::string broken_promise(const json& merged) {
    const json& ring = merged.at("transports").at(0);
    const auto lost = ring.at("lost").get<std::int64_t>();
    const auto reported = ring.at("reported_lost").get<std::int64_t>();
    // Without a quiet moment at both ends the difference says nothing; the ring's own count does.
    if (merged.at("quiet").get<bool>() && lost != reported)
        return fmt::format("the ring lost {} events but counted {}", lost, reported);
    if (reported != 0)
        return fmt::format("the ring lost {} of {} events: it was full", reported,
                           merged.at("published").at("total").get<std::int64_t>());
    const auto received = ring.at("received").at("total").get<std::int64_t>();
    const auto calls = ring.at("system_calls").at("total").get<std::int64_t>();
    if (received >= kEnoughMessages && calls * kMessagesPerCall >= received)
        return fmt::format(
            "the ring's reader made {} system calls for {} messages: not less than one for {}",
            calls, received, kMessagesPerCall);
    return {};
}

}  // namespace demo
