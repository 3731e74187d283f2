// SPDX-License-Identifier: MIT
#include "tools/nlmmap/present.h"

#include <fmt/format.h>
#include <linux/netlink.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "tools/nlmmap/clock.h"
#include "tools/nlmmap/decode.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

using Bytes = std::span<const std::byte>;

struct Payload {
    Bytes fixed_header;
    Bytes attributes;
};

Payload split(const Message& message, std::size_t fixed_header_bytes) {
    const Bytes payload = message.payload();
    // A message that is shorter than its header is all header.
    const std::size_t bytes = std::min(fixed_header_bytes, payload.size());
    const std::size_t header = std::min<std::size_t>(NLMSG_ALIGN(bytes), payload.size());
    return {payload.first(header), payload.subspan(header)};
}

Decoded decode(const PresentOptions& options, const Record& record, const Message& message) {
    Decoded decoded;
    // Any process may send to a netlink socket: what does not come from the kernel is shown as the
    // bytes that it is, and teaches the decoder nothing.
    if (options.decoder != nullptr && record.portid() == 0)
        decoded = options.decoder->decode(message);
    if (options.fixed_header_bytes != 0) decoded.fixed_header_bytes = options.fixed_header_bytes;
    return decoded;
}

class TextPresenter final : public Presenter {
  public:
    TextPresenter(const PresentOptions& options, Output& output)
        : options_(options), output_(output) {}

    void message(std::string_view group, const Record& record, const Message& message) override {
        std::string line;
        if (options_.time && record.time()) line += local_text(wall_time(*record.time())) + "  ";
        line += fmt::format("seq {}  {}  type {}  {} bytes", record.seq(), printable(group),
                            message.type(), message.bytes().size());
        if (message.flags() != 0) line += fmt::format("  flags 0x{:x}", message.flags());
        if (record.portid() != 0) line += fmt::format("  from port {}", record.portid());
        if (options_.hex) {
            output_.line(line);
            for (const std::string& row : hex_dump(message.bytes())) output_.line("  " + row);
            return;
        }
        const Decoded decoded = decode(options_, record, message);
        for (const std::string* const words : {&decoded.action, &decoded.object, &decoded.text})
            if (!words->empty()) line += "  " + *words;
        if (!decoded.text.empty()) {
            output_.line(line);
            return;
        }
        const Payload payload = split(message, decoded.fixed_header_bytes);
        if (!payload.fixed_header.empty()) line += "  header=" + hex_list(payload.fixed_header);
        const std::string attributes = attributes_text(payload.attributes);
        if (!attributes.empty()) line += "  " + attributes;
        output_.line(line);
    }

    void loss(std::uint64_t lost, std::uint64_t first_seq) override {
        if (lost == 1) {
            output_.print_line("-- {}lost 1 record (seq {}): {}", source(), first_seq, reason());
        } else {
            output_.print_line("-- {}lost {} records (seq {} to {}): {}", source(), lost, first_seq,
                               first_seq + lost - 1, reason());
        }
    }

    void loss_nearby(std::uint64_t lost, std::uint64_t seq) override {
        output_.print_line("-- {}lost {} record{} about here, not later than before seq {}: {}",
                           source(), lost, lost == 1 ? "" : "s", seq, reason());
    }

    void loss_unknown(std::uint64_t seq) override {
        output_.print_line("-- {}lost records before seq {}; the source did not count them",
                           source(), seq);
    }

    void source_error(std::uint64_t seq, int errnum) override {
        output_.print_line("-- {}seq {} is an error in place of a message: {}", source(), seq,
                           std::generic_category().message(errnum));
    }

    void malformed(std::string_view group, const Record& record, Bytes bytes) override {
        output_.print_line("-- seq {}  {}  {} bytes that are no netlink message: {}", record.seq(),
                           printable(group), bytes.size(), hex_list(bytes));
    }

    void group_deleted(std::string_view group) override {
        output_.print_line("-- group {} was deleted: its producer unregistered it",
                           printable(group));
    }

  private:
    std::string source() const {
        return options_.source.empty() ? std::string() : options_.source + ": ";
    }
    std::string_view reason() const {
        return options_.source.empty() ? "the ring was full"
                                       : "the ring and the receive buffer were full";
    }

    const PresentOptions options_;
    Output& output_;
};

class JsonPresenter final : public Presenter {
  public:
    JsonPresenter(const PresentOptions& options, Output& output)
        : options_(options), output_(output) {}

    void message(std::string_view group, const Record& record, const Message& message) override {
        nlohmann::ordered_json object = {{"event", "message"}};
        if (options_.time && record.time()) {
            object["time"] = utc_text(wall_time(*record.time()));
            object["boottime_ns"] = record.time()->count();
        }
        object["group"] = printable(group);
        object["seq"] = record.seq();
        object["portid"] = record.portid();
        object["type"] = message.type();
        object["flags"] = message.flags();
        object["length"] = message.bytes().size();
        if (options_.hex) {
            object["hex"] = hex(message.bytes());
        } else {
            const Decoded decoded = decode(options_, record, message);
            if (!decoded.action.empty()) object["action"] = decoded.action;
            if (!decoded.object.empty()) object["object"] = decoded.object;
            if (!decoded.text.empty()) object["text"] = decoded.text;
            const Payload payload = split(message, decoded.fixed_header_bytes);
            if (!payload.fixed_header.empty()) object["header"] = hex(payload.fixed_header);
            add_attributes_json(object, payload.attributes);
        }
        output_.line(object.dump());
    }

    void loss(std::uint64_t lost, std::uint64_t first_seq) override {
        nlohmann::ordered_json object = begin("loss");
        object["lost"] = lost;
        object["first_seq"] = first_seq;
        object["last_seq"] = first_seq + lost - 1;
        output_.line(object.dump());
    }

    void loss_nearby(std::uint64_t lost, std::uint64_t seq) override {
        nlohmann::ordered_json object = begin("loss_nearby");
        object["lost"] = lost;
        object["before_seq"] = seq;
        output_.line(object.dump());
    }

    void loss_unknown(std::uint64_t seq) override {
        nlohmann::ordered_json object = begin("loss_unknown");
        object["before_seq"] = seq;
        output_.line(object.dump());
    }

    void source_error(std::uint64_t seq, int errnum) override {
        nlohmann::ordered_json object = begin("error");
        object["seq"] = seq;
        object["errno"] = errnum;
        object["sentence"] = std::generic_category().message(errnum);
        output_.line(object.dump());
    }

    void malformed(std::string_view group, const Record& record, Bytes bytes) override {
        const nlohmann::ordered_json object = {{"event", "malformed"},
                                               {"group", printable(group)},
                                               {"seq", record.seq()},
                                               {"portid", record.portid()},
                                               {"hex", hex(bytes)}};
        output_.line(object.dump());
    }

    void group_deleted(std::string_view group) override {
        const nlohmann::ordered_json object = {{"event", "group_deleted"},
                                               {"group", printable(group)}};
        output_.line(object.dump());
    }

  private:
    nlohmann::ordered_json begin(std::string_view event) const {
        nlohmann::ordered_json object = {{"event", event}};
        if (!options_.source.empty()) object["source"] = options_.source;
        return object;
    }

    const PresentOptions options_;
    Output& output_;
};

}  // namespace

std::unique_ptr<Presenter> Presenter::make(const PresentOptions& options, Output& output) {
    if (options.json) return std::make_unique<JsonPresenter>(options, output);
    return std::make_unique<TextPresenter>(options, output);
}

std::span<const std::byte> after_messages(const Record& record) {
    const Bytes all = record.bytes();
    std::size_t used = 0;
    for (const Message& message : record) {
        used = static_cast<std::size_t>(message.bytes().data() - all.data()) +
               NLMSG_ALIGN(message.bytes().size());
    }
    return all.subspan(std::min(used, all.size()));
}

}  // namespace nlmmap::tool
