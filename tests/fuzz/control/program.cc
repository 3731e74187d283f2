// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/program.h"

#include <linux/netlink.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "tests/fuzz/control/grammar.h"

namespace fuzz {
namespace {

constexpr std::array<std::pair<std::uint16_t, std::string_view>, 8> kMessageFlags = {{
    {NLM_F_REQUEST, "REQUEST"},
    {NLM_F_MULTI, "MULTI"},
    {NLM_F_ACK, "ACK"},
    {NLM_F_ECHO, "ECHO"},
    {NLM_F_DUMP_INTR, "INTR"},
    {NLM_F_DUMP, "DUMP"},
    {NLM_F_ROOT, "ROOT"},
    {NLM_F_MATCH, "MATCH"},
}};

struct KindName {
    Value::Kind kind;
    std::string_view name;
    std::size_t bytes;  // of a number
};
constexpr std::array kKinds = {
    KindName{Value::Kind::hex, "hex", 0},   KindName{Value::Kind::u8, "u8", 1},
    KindName{Value::Kind::u16, "u16", 2},   KindName{Value::Kind::u32, "u32", 4},
    KindName{Value::Kind::u64, "u64", 8},   KindName{Value::Kind::str, "str", 0},
    KindName{Value::Kind::text, "text", 0}, KindName{Value::Kind::group, "group", 4},
    KindName{Value::Kind::fd, "fd", 4},     KindName{Value::Kind::nest, "nest", 0},
};

const KindName& kind_of(const Value& value) {
    return *std::ranges::find(kKinds, value.kind, &KindName::kind);
}

bool is_plain(std::byte byte) {
    const char c = static_cast<char>(byte);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

void put_hex(std::string& text, const Bytes& bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    for (const std::byte byte : bytes) {
        text += kDigits[std::to_integer<unsigned>(byte) >> 4];
        text += kDigits[std::to_integer<unsigned>(byte) & 15];
    }
}

void put_attribute(std::string& text, const Attribute& attribute) {
    const auto type = static_cast<std::uint16_t>(attribute.type & NLA_TYPE_MASK);
    text += type < kAttributes.size() ? std::string(kAttributes[type].name) : std::to_string(type);
    if ((attribute.type & NLA_F_NESTED) != 0) {
        text += "+NESTED";
    }
    if ((attribute.type & NLA_F_NET_BYTEORDER) != 0) {
        text += "+BE";
    }
    if (attribute.length) {
        text += "@" + std::to_string(*attribute.length);
    }
    text += '=';
    const Value& value = attribute.value;
    const KindName& kind = kind_of(value);
    if (kind.kind == Value::Kind::nest) {
        text += "[ ";
        for (const Attribute& inner : attribute.nested) {
            put_attribute(text, inner);
            text += ' ';
        }
        text += ']';
    } else if (kind.bytes != 0) {
        text += std::string(kind.name) + ':' + std::to_string(value.number);
    } else if (kind.kind != Value::Kind::hex && std::ranges::all_of(value.bytes, is_plain)) {
        text += std::string(kind.name) + ':' +
                std::string(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
    } else {
        text += kind.kind == Value::Kind::str ? "strhex:" : "hex:";
        put_hex(text, value.bytes);
    }
}

void put_message(std::string& text, const Message& message) {
    const MessageRule* rule = rule_of(message.type);
    text += rule != nullptr ? std::string(rule->name) : std::to_string(message.type);
    std::uint16_t flags = message.flags;
    for (const auto& [bits, name] : kMessageFlags) {
        if ((flags & bits) == bits) {
            text += " +" + std::string(name);
            flags = static_cast<std::uint16_t>(flags & ~bits);
        }
    }
    if (flags != 0) {
        text += " +" + std::to_string(flags);
    }
    for (const Attribute& attribute : message.attributes) {
        text += ' ';
        put_attribute(text, attribute);
    }
    if (!message.raw.empty()) {
        text += " raw=hex:";
        put_hex(text, message.raw);
    }
    if (message.length) {
        text += " length=" + std::to_string(*message.length);
    }
}

void append(Bytes& bytes, const void* from, std::size_t count) {
    if (count != 0) {
        const auto* begin = static_cast<const std::byte*>(from);
        bytes.insert(bytes.end(), begin, begin + count);
    }
}

void append_attribute(Bytes& bytes, const Attribute& attribute, const GroupIds& groups,
                      const Descriptors& descriptors) {
    Bytes payload;
    const Value& value = attribute.value;
    const KindName& kind = kind_of(value);
    if (kind.kind == Value::Kind::group) {
        const std::uint32_t id = groups.empty() ? 0 : groups[value.number % groups.size()];
        append(payload, &id, sizeof(id));
    } else if (kind.kind == Value::Kind::fd) {
        const int fd = descriptors.empty() ? -1 : descriptors[value.number % descriptors.size()];
        append(payload, &fd, sizeof(fd));
    } else if (kind.kind == Value::Kind::nest) {
        for (const Attribute& inner : attribute.nested) {
            append_attribute(payload, inner, groups, descriptors);
        }
    } else if (kind.bytes != 0) {
        append(payload, &value.number, kind.bytes);
    } else {
        payload = value.bytes;
        if (kind.kind == Value::Kind::str) {
            payload.push_back(std::byte{0});
        }
    }
    const nlattr header{
        .nla_len = attribute.length.value_or(static_cast<std::uint16_t>(
            std::min<std::size_t>(NLA_HDRLEN + payload.size(), UINT16_MAX))),
        .nla_type = attribute.type,
    };
    append(bytes, &header, sizeof(header));
    append(bytes, payload.data(), payload.size());
    bytes.resize(NLA_ALIGN(bytes.size()));
}

// The text of one line, word by word.
class Words {
  public:
    explicit Words(std::string_view line) {
        std::istringstream in{std::string(line)};
        for (std::string word; in >> word;) {
            words_.push_back(word);
        }
    }
    bool empty() const { return at_ == words_.size(); }
    const std::string& peek() const {
        if (empty()) {
            throw std::runtime_error("something is missing at its end");
        }
        return words_[at_];
    }
    const std::string& next() {
        const std::string& word = peek();
        ++at_;
        return word;
    }

  private:
    std::vector<std::string> words_;
    std::size_t at_ = 0;
};

std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    const int base = text.starts_with("0x") ? 16 : 10;
    const std::string_view digits = base == 16 ? text.substr(2) : text;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || end != digits.data() + digits.size()) {
        throw std::runtime_error("'" + std::string(text) + "' is no number");
    }
    return value;
}

Bytes from_hex(std::string_view text) {
    Bytes bytes;
    if (text.size() % 2 != 0) {
        throw std::runtime_error("half a byte");
    }
    for (std::size_t i = 0; i < text.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(number("0x" + std::string(text.substr(i, 2)))));
    }
    return bytes;
}

Value take_value(std::string_view text) {
    Value value;
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
        throw std::runtime_error("'" + std::string(text) + "' lacks its kind");
    }
    const std::string_view name = text.substr(0, colon);
    const std::string_view rest = text.substr(colon + 1);
    if (name == "strhex") {
        value.kind = Value::Kind::str;
        value.bytes = from_hex(rest);
        return value;
    }
    const auto* kind = std::ranges::find(kKinds, name, &KindName::name);
    if (kind == kKinds.end()) {
        throw std::runtime_error("there is no kind '" + std::string(name) + "'");
    }
    value.kind = kind->kind;
    if (kind->bytes != 0) {
        value.number = number(rest);
    } else if (kind->kind == Value::Kind::hex) {
        value.bytes = from_hex(rest);
    } else {
        append(value.bytes, rest.data(), rest.size());
    }
    return value;
}

Attribute take_attribute(Words& words) {
    const std::string word = words.next();
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) {
        throw std::runtime_error("'" + word + "' is no attribute");
    }
    Attribute attribute;
    std::string head = word.substr(0, equals);
    if (const std::size_t at = head.find('@'); at != std::string::npos) {
        attribute.length = static_cast<std::uint16_t>(number(head.substr(at + 1)));
        head.resize(at);
    }
    for (const auto& [suffix, bits] : {std::pair<std::string_view, int>{"+BE", NLA_F_NET_BYTEORDER},
                                       std::pair<std::string_view, int>{"+NESTED", NLA_F_NESTED}}) {
        if (head.ends_with(suffix)) {
            attribute.type = static_cast<std::uint16_t>(attribute.type | bits);
            head.resize(head.size() - suffix.size());
        }
    }
    const auto* rule = std::ranges::find(kAttributes, head, &AttributeRule::name);
    attribute.type = static_cast<std::uint16_t>(
        attribute.type | (rule != kAttributes.end() ? rule->type : number(head)));
    const std::string_view value = std::string_view(word).substr(equals + 1);
    if (value != "[") {
        attribute.value = take_value(value);
        return attribute;
    }
    attribute.value.kind = Value::Kind::nest;
    while (words.peek() != "]") {
        attribute.nested.push_back(take_attribute(words));
    }
    words.next();
    return attribute;
}

Message take_message(Words& words) {
    Message message;
    const std::string& type = words.next();
    const auto* rule = std::ranges::find(kMessages, type, &MessageRule::name);
    message.type = rule != kMessages.end() ? rule->type : static_cast<std::uint16_t>(number(type));
    while (!words.empty() && words.peek() != "|") {
        const std::string& word = words.peek();
        if (word.starts_with('+')) {
            const std::string name = words.next().substr(1);
            const auto* flag = std::ranges::find(
                kMessageFlags, name, &std::pair<std::uint16_t, std::string_view>::second);
            message.flags = static_cast<std::uint16_t>(
                message.flags | (flag != kMessageFlags.end() ? flag->first : number(name)));
        } else if (word.starts_with("raw=hex:")) {
            message.raw = from_hex(words.next().substr(8));
        } else if (word.starts_with("length=")) {
            message.length = static_cast<std::uint32_t>(number(words.next().substr(7)));
        } else {
            message.attributes.push_back(take_attribute(words));
        }
    }
    return message;
}

Step take_step(std::string_view line) {
    Words words(line);
    const std::string name = words.next();
    const auto rule = std::ranges::find(verbs(), name, &VerbRule::name);
    if (rule == verbs().end()) {
        throw std::runtime_error("there is no verb '" + name + "'");
    }
    Step step{.verb = rule->verb, .numbers = {}, .messages = {}};
    for (std::size_t i = 0; i < rule->numbers; ++i) {
        step.numbers.push_back(number(words.next()));
    }
    while (!words.empty()) {
        if (words.next() != "|") {
            throw std::runtime_error("there is more than it takes");
        }
        step.messages.push_back(take_message(words));
    }
    return step;
}

}  // namespace

const std::vector<VerbRule>& verbs() {
    static const std::vector<VerbRule> rules = {
        {Verb::open, "open", 2},     {Verb::close, "close", 1},     {Verb::share, "share", 2},
        {Verb::bind, "bind", 3},     {Verb::connect, "connect", 3}, {Verb::option, "option", 3},
        {Verb::buffer, "buffer", 2}, {Verb::send, "send", 3},       {Verb::read, "read", 1},
        {Verb::map, "map", 5},       {Verb::unmap, "unmap", 1},     {Verb::poll, "poll", 1},
        {Verb::forge, "forge", 4},   {Verb::publish, "publish", 3}, {Verb::fdinfo, "fdinfo", 1},
    };
    return rules;
}

Bytes encode(const Message& message, std::uint32_t seq, const GroupIds& groups,
             const Descriptors& descriptors) {
    Bytes bytes(sizeof(nlmsghdr));
    for (const Attribute& attribute : message.attributes) {
        append_attribute(bytes, attribute, groups, descriptors);
    }
    append(bytes, message.raw.data(), message.raw.size());
    nlmsghdr header{};
    header.nlmsg_len = message.length.value_or(static_cast<std::uint32_t>(bytes.size()));
    header.nlmsg_type = message.type;
    header.nlmsg_flags = message.flags;
    header.nlmsg_seq = seq;
    std::memcpy(bytes.data(), &header, sizeof(header));
    bytes.resize(NLMSG_ALIGN(bytes.size()));
    return bytes;
}

std::string to_text(const Program& program) {
    std::string text;
    for (const Step& step : program) {
        const auto rule = std::ranges::find(verbs(), step.verb, &VerbRule::verb);
        text += rule->name;
        for (std::size_t i = 0; i < rule->numbers; ++i) {
            text += ' ' + std::to_string(i < step.numbers.size() ? step.numbers[i] : 0);
        }
        for (const Message& message : step.messages) {
            text += " | ";
            put_message(text, message);
        }
        text += '\n';
    }
    return text;
}

Program from_text(std::string_view text) {
    Program program;
    std::istringstream in{std::string(text)};
    int at = 0;
    for (std::string line; std::getline(in, line);) {
        ++at;
        if (line.find_first_not_of(" \t") == std::string::npos || line.starts_with('#')) {
            continue;
        }
        try {
            program.push_back(take_step(line));
        } catch (const std::runtime_error& error) {
            throw std::runtime_error("line " + std::to_string(at) + ": " + error.what());
        }
    }
    return program;
}

}  // namespace fuzz
