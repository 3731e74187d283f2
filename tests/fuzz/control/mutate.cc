// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/mutate.h"

#include <linux/netlink.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tests/fuzz/control/grammar.h"

namespace fuzz {
namespace {

constexpr std::size_t kMaxSteps = 24;
constexpr std::size_t kMaxMessages = 24;
constexpr std::size_t kMaxAttributes = 12;

// Where things change: sizes, limits, and the ends of the types.
constexpr std::array<std::uint64_t, 32> kInteresting = {
    0,       1,          2,          3,          4,          8,          15,        16,
    63,      64,         255,        256,        1023,       1024,       1025,      4095,
    4096,    8192,       16384,      65535,      65536,      1 << 18,    1 << 20,   1 << 21,
    1 << 30, 0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 32, 1ULL << 63, ~0ULL - 7, ~0ULL};

constexpr std::array<std::uint64_t, 6> kRingBytes = {4096, 8192, 16384, 65536, 1 << 18, 1 << 20};

constexpr std::array<std::uint16_t, 12> kFlagSets = {NLM_F_REQUEST | NLM_F_ACK,
                                                     NLM_F_REQUEST | NLM_F_ACK,
                                                     NLM_F_REQUEST | NLM_F_ACK,
                                                     NLM_F_REQUEST,
                                                     NLM_F_REQUEST | NLM_F_DUMP,
                                                     NLM_F_REQUEST | NLM_F_DUMP | NLM_F_ACK,
                                                     NLM_F_REQUEST | NLM_F_ROOT,
                                                     NLM_F_REQUEST | NLM_F_MATCH | NLM_F_ACK,
                                                     NLM_F_REQUEST | NLM_F_ECHO | NLM_F_ACK,
                                                     NLM_F_ACK,
                                                     NLM_F_DUMP,
                                                     0};

// Of SOL_NETLINK: ADD_MEMBERSHIP to GET_STRICT_CHK.
constexpr std::uint64_t kOptions = 13;
// A value of option that stands for a group's number.
constexpr std::uint64_t kGroupValue = 100000;

// How often each verb is drawn.
constexpr std::array<std::pair<Verb, std::size_t>, 15> kWeights = {{
    {Verb::open, 6},
    {Verb::close, 4},
    {Verb::share, 2},
    {Verb::bind, 3},
    {Verb::connect, 1},
    {Verb::option, 8},
    {Verb::buffer, 1},
    {Verb::send, 45},
    {Verb::read, 8},
    {Verb::map, 6},
    {Verb::unmap, 2},
    {Verb::poll, 4},
    {Verb::forge, 6},
    {Verb::publish, 6},
    {Verb::fdinfo, 2},
}};

Bytes as_bytes(std::string_view text) {
    const auto* begin = reinterpret_cast<const std::byte*>(text.data());
    return {begin, begin + text.size()};
}

}  // namespace

std::uint64_t Mutator::number() {
    const std::uint64_t chosen = any_of(kInteresting);
    switch (below(8)) {
        case 0:
            return random_();
        case 1:
            return chosen + below(5) - 2;
        default:
            return chosen;
    }
}

std::uint16_t Mutator::flags() {
    const std::uint16_t chosen = any_of(kFlagSets);
    return one_in(16) ? static_cast<std::uint16_t>(chosen ^ (1U << below(16))) : chosen;
}

Bytes Mutator::bytes(std::size_t most) {
    Bytes some(below(most + 1));
    for (std::byte& byte : some) {
        byte = static_cast<std::byte>(random_());
    }
    return some;
}

Value Mutator::value(std::uint16_t type) {
    const Form form = type < kAttributes.size() ? kAttributes[type].form : Form::none;
    Value value;
    if (form == Form::name || one_in(16)) {
        value.kind = one_in(8) ? Value::Kind::text : Value::Kind::str;
        value.bytes = as_bytes(any_of(kGroups));
        if (one_in(4)) {
            value.bytes.resize(one_in(2) ? below(40) : below(3), std::byte{'n'});
        } else if (one_in(8)) {
            value.bytes = as_bytes("fuzz-filler-1");
        }
        return value;
    }
    if (form == Form::u32 && type == NLMMAP_A_GROUP_ID && !one_in(5)) {
        value.kind = Value::Kind::group;
        value.number = one_in(3) ? below(kGroupCount) : below(kGroups.size());
        return value;
    }
    if (type == NLMMAP_A_FD && !one_in(6)) {
        value.kind = Value::Kind::fd;
        value.number = one_in(2) ? below(kSlots) : 2;
        return value;
    }
    switch (one_in(10) ? Form::none : form) {
        case Form::u32:
            value.kind = Value::Kind::u32;
            value.number = number() & 0xffffffff;
            if (type == NLMMAP_A_RX_BYTES && !one_in(6)) {
                value.number = any_of(kRingBytes);
            } else if (type == NLMMAP_A_FLAGS && !one_in(4)) {
                value.number = below(3);
            }
            break;
        case Form::u64:
            value.kind = Value::Kind::u64;
            value.number = number();
            break;
        default:
            value.kind = Value::Kind::hex;
            value.bytes = bytes(12);
    }
    return value;
}

Attribute Mutator::attribute(std::uint16_t type, int depth) {
    Attribute attribute{.type = type};
    if (depth > 0 && one_in(12)) {
        attribute.value.kind = Value::Kind::nest;
        for (std::size_t i = below(4); i > 0; --i) {
            attribute.nested.push_back(
                this->attribute(static_cast<std::uint16_t>(below(NLMMAP_A_MAX + 2)), depth - 1));
        }
    } else {
        attribute.value = value(type);
    }
    if (attribute.value.kind == Value::Kind::nest ? !one_in(4) : one_in(40)) {
        attribute.type |= NLA_F_NESTED;
    }
    if (one_in(40)) {
        attribute.type |= NLA_F_NET_BYTEORDER;
    }
    if (one_in(30)) {
        attribute.length = static_cast<std::uint16_t>(number());
    }
    return attribute;
}

// Nothing wrong with it, so that programs come further than their first step.
Message Mutator::proper_message() {
    const MessageRule& rule = kMessages[below(kRequests)];
    Message message{.type = rule.type, .flags = NLM_F_REQUEST | NLM_F_ACK};
    if (rule.type == NLMMAP_MSG_ATTACH || (rule.type == NLMMAP_MSG_SOCKET_GET && one_in(2))) {
        message.attributes.push_back(
            {.type = NLMMAP_A_FD,
             .value = {.kind = Value::Kind::fd, .number = one_in(2) ? below(kSlots) : 2}});
    }
    if (rule.type == NLMMAP_MSG_SETUP || rule.type == NLMMAP_MSG_ATTACH) {
        message.attributes.push_back(
            {.type = NLMMAP_A_RX_BYTES,
             .value = {.kind = Value::Kind::u32, .number = any_of(kRingBytes)}});
    } else if (rule.type != NLMMAP_MSG_SOCKET_GET) {
        if (one_in(2)) {
            message.attributes.push_back(
                {.type = NLMMAP_A_GROUP_ID,
                 .value = {.kind = Value::Kind::group,
                           .number = one_in(4) ? below(kGroupCount) : below(kGroups.size())}});
        } else {
            message.attributes.push_back(
                {.type = NLMMAP_A_GROUP_NAME,
                 .value = {.kind = Value::Kind::str, .bytes = as_bytes(any_of(kGroups))}});
        }
    }
    if ((rule.type == NLMMAP_MSG_SOCKET_GET || rule.type == NLMMAP_MSG_GROUP_GET) && one_in(3)) {
        message.flags |= NLM_F_DUMP;
        if (!one_in(3)) {
            message.attributes.clear();
        }
    }
    return message;
}

Message Mutator::message() {
    if (!one_in(3)) {
        return proper_message();
    }
    Message message{.flags = flags()};
    const MessageRule& rule = any_of(kMessages);
    message.type = one_in(12) ? static_cast<std::uint16_t>(number()) : rule.type;
    for (std::size_t i = below(4); i > 0; --i) {
        const std::uint16_t known = rule.attributes[below(rule.attributes[2] != 0 ? 3 : 2)];
        message.attributes.push_back(
            attribute(one_in(8) ? static_cast<std::uint16_t>(below(NLMMAP_A_MAX + 3)) : known, 3));
    }
    if (one_in(12)) {
        message.raw = bytes(40);
    }
    if (one_in(16)) {
        message.length = static_cast<std::uint32_t>(one_in(2) ? below(64) : number());
    }
    return message;
}

Step Mutator::step() {
    std::size_t all = 0;
    for (const auto& [verb, weight] : kWeights) {
        all += weight;
    }
    std::size_t drawn = below(all);
    Step step;
    for (const auto& [verb, weight] : kWeights) {
        if (drawn < weight) {
            step.verb = verb;
            break;
        }
        drawn -= weight;
    }
    const std::uint64_t slot = one_in(3) ? below(kSlots) : below(2);
    switch (step.verb) {
        case Verb::open:
            step.numbers = {slot, one_in(3) ? 2 + below(2) : below(2)};
            break;
        case Verb::share:
            step.numbers = {slot, below(kSlots)};
            break;
        case Verb::bind:
        case Verb::connect:
            step.numbers = {slot, one_in(2) ? 0 : number(), one_in(2) ? 0 : number()};
            break;
        case Verb::option:
            step.numbers = {slot, 1 + below(kOptions), below(2)};
            if (step.numbers[1] <= 2) {
                step.numbers[2] = one_in(4) ? number() : kGroupValue + below(4);
            }
            break;
        case Verb::buffer:
            step.numbers = {slot, one_in(2) ? 0 : number()};
            break;
        case Verb::send:
            step.numbers = {slot, one_in(8) ? below(6) : 0, one_in(16) ? below(40) : 0};
            if (one_in(24)) {
                step.numbers[1] = 100 + below(3);
            }
            for (std::size_t i = one_in(5) ? 1 + below(5) : 1; i > 0; --i) {
                step.messages.push_back(message());
            }
            break;
        case Verb::map:
            // As a reader maps; now and then anything else.
            if (one_in(2)) {
                step.numbers = {slot, 0, 1, 3, 1};
            } else {
                step.numbers = {slot, 1, 0, 1, 1};
            }
            if (one_in(4)) {
                step.numbers[1 + below(4)] = below(6);
            }
            break;
        case Verb::forge:
            step.numbers = {slot, below(3), below(2), number()};
            break;
        case Verb::publish:
            step.numbers = {below(3), 1 + below(8), below(2)};
            break;
        default:
            step.numbers = {slot};
    }
    return step;
}

// A socket that hears, more often than chance would make one.
void Mutator::prepare(Program& program) {
    for (std::uint64_t slot = 0; slot < 2; ++slot) {
        program.push_back({.verb = Verb::open, .numbers = {slot, 0}, .messages = {}});
        if (one_in(2)) {
            continue;
        }
        Message setup{.type = NLMMAP_MSG_SETUP, .flags = NLM_F_REQUEST | NLM_F_ACK};
        setup.attributes.push_back(
            {.type = NLMMAP_A_RX_BYTES,
             .value = {.kind = Value::Kind::u32, .number = any_of(kRingBytes)}});
        Message join{.type = NLMMAP_MSG_JOIN, .flags = NLM_F_REQUEST | NLM_F_ACK};
        join.attributes.push_back(
            {.type = NLMMAP_A_GROUP_ID, .value = {.kind = Value::Kind::group, .number = below(3)}});
        program.push_back({.verb = Verb::send,
                           .numbers = {slot, 0, 0},
                           .messages = {std::move(setup), std::move(join)}});
        if (one_in(2)) {
            program.push_back({.verb = Verb::map, .numbers = {slot, 0, 1, 3, 1}, .messages = {}});
            program.push_back({.verb = Verb::map, .numbers = {slot, 1, 0, 1, 1}, .messages = {}});
        }
    }
}

// A socket of another family, and a ring for it.
void Mutator::prepare_attached(Program& program) {
    program.push_back({.verb = Verb::open, .numbers = {2, 2 + below(2)}, .messages = {}});
    Message attach{.type = NLMMAP_MSG_ATTACH, .flags = NLM_F_REQUEST | NLM_F_ACK};
    attach.attributes.push_back(
        {.type = NLMMAP_A_FD, .value = {.kind = Value::Kind::fd, .number = 2}});
    attach.attributes.push_back(
        {.type = NLMMAP_A_RX_BYTES,
         .value = {.kind = Value::Kind::u32, .number = any_of(kRingBytes)}});
    program.push_back({.verb = Verb::send, .numbers = {0, 0, 0}, .messages = {std::move(attach)}});
    program.push_back({.verb = Verb::read, .numbers = {0}, .messages = {}});
    if (one_in(2)) {
        program.push_back({.verb = Verb::map, .numbers = {2, 0, 1, 3, 1}, .messages = {}});
        program.push_back({.verb = Verb::map, .numbers = {2, 1, 0, 1, 1}, .messages = {}});
    }
}

Program Mutator::generate() {
    Program program;
    prepare(program);
    if (one_in(3)) {
        prepare_attached(program);
    }
    for (std::size_t i = 1 + below(10); i > 0; --i) {
        program.push_back(step());
    }
    return program;
}

void Mutator::mutate_value(Attribute& attribute) {
    Value& value = attribute.value;
    if (!attribute.nested.empty() && !one_in(4)) {
        mutate_value(attribute.nested[below(attribute.nested.size())]);
    } else if (value.kind == Value::Kind::group) {
        value.number = below(kGroupCount);
    } else if (value.kind == Value::Kind::fd) {
        value.number = below(kSlots);
    } else if (!value.bytes.empty() && one_in(2)) {
        value.bytes[below(value.bytes.size())] ^= static_cast<std::byte>(1U << below(8));
    } else if (value.bytes.size() < 80 && one_in(3)) {
        value.bytes.push_back(static_cast<std::byte>(random_()));
    } else if (!value.bytes.empty()) {
        value.bytes.pop_back();
    } else {
        value.number = one_in(2) ? number() : value.number ^ (1ULL << below(64));
    }
}

void Mutator::mutate_message(Message& message) {
    auto& attributes = message.attributes;
    const std::size_t at = below(attributes.size());
    switch (below(9)) {
        case 0:
            message.flags = flags();
            break;
        case 1:
            message.type =
                one_in(3) ? static_cast<std::uint16_t>(number()) : any_of(kMessages).type;
            break;
        case 2:
            if (attributes.size() < kMaxAttributes) {
                attributes.insert(
                    attributes.begin() + static_cast<std::ptrdiff_t>(below(attributes.size() + 1)),
                    attribute(one_in(6) ? std::uint16_t{NLMMAP_A_FD}
                                        : static_cast<std::uint16_t>(below(NLMMAP_A_GROUP_ID + 2)),
                              3));
            }
            break;
        case 3:
            if (!attributes.empty() && attributes.size() < kMaxAttributes) {
                attributes.push_back(Attribute(attributes[at]));
            }
            break;
        case 4:
            if (!attributes.empty()) {
                attributes.erase(attributes.begin() + static_cast<std::ptrdiff_t>(at));
            }
            break;
        case 5:
            message.raw = bytes(24);
            break;
        case 6:
            message.length.reset();
            if (!one_in(3)) {
                message.length = static_cast<std::uint32_t>(one_in(2) ? below(80) : number());
            }
            break;
        case 7:
            if (!attributes.empty()) {
                attributes[at].length.reset();
                if (one_in(2)) {
                    attributes[at].length = static_cast<std::uint16_t>(number());
                } else {
                    attributes[at].type ^= static_cast<std::uint16_t>(1U << (14 + below(2)));
                }
            }
            break;
        default:
            if (!attributes.empty()) {
                mutate_value(attributes[at]);
            }
    }
}

void Mutator::mutate_step(Step& changed) {
    if (!changed.messages.empty() && !one_in(6)) {
        if (one_in(6) && changed.messages.size() < kMaxMessages) {
            changed.messages.push_back(
                one_in(2) ? message() : Message(changed.messages[below(changed.messages.size())]));
        } else {
            mutate_message(changed.messages[below(changed.messages.size())]);
        }
    } else if (!changed.numbers.empty()) {
        std::uint64_t& changing = changed.numbers[below(changed.numbers.size())];
        changing = one_in(3) ? number() : below(kSlots);
    }
}

Program Mutator::mutate(Program program, const Program& other) {
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
        const std::size_t at = below(program.size());
        const auto here = program.begin() + static_cast<std::ptrdiff_t>(at);
        switch (below(8)) {
            case 0:
            case 1:
                if (program.size() < kMaxSteps) {
                    program.insert(here, step());
                }
                break;
            case 2:
                if (program.size() > 1) {
                    program.erase(here);
                }
                break;
            case 3:
                if (!program.empty() && program.size() < kMaxSteps) {
                    program.insert(here, Step(program[at]));
                }
                break;
            case 4:
                // The end of another one.
                if (program.size() + other.size() < kMaxSteps && !other.empty()) {
                    const auto from = static_cast<std::ptrdiff_t>(below(other.size()));
                    program.insert(program.end(), other.begin() + from, other.end());
                }
                break;
            default:
                if (!program.empty()) {
                    mutate_step(program[at]);
                }
        }
    }
    return program;
}

}  // namespace fuzz
