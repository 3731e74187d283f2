// SPDX-License-Identifier: MIT
//
// An input of the fuzzer: a short program of system calls on a few sockets. It
// has a text form, one step a line, in which the corpus is kept:
//
//     # what it is about
//     open 0 0
//     send 0 0 0 | SETUP +REQUEST +ACK RX_BYTES=u32:65536
//     send 0 0 0 | JOIN +REQUEST +ACK GROUP_NAME=str:fuzz-public | 77 +REQUEST raw=hex:00ff
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

using Bytes = std::vector<std::byte>;

inline constexpr unsigned kSlots = 4;

struct Value {
    enum class Kind { hex, u8, u16, u32, u64, str, text, group, fd, nest };
    Kind kind = Kind::hex;
    std::uint64_t number = 0;  // u8 to u64; group: its index, see grammar.h; fd: its slot
    Bytes bytes{};             // hex; str (a NUL is added) and text (none is)
};

struct Attribute {
    std::uint16_t type = 0;  // with NLA_F_*
    Value value{};
    std::optional<std::uint16_t> length{};  // what nla_len says, if it lies
    std::vector<Attribute> nested{};        // of a nest
};

struct Message {
    std::uint16_t type = 0;
    std::uint16_t flags = 0;
    std::vector<Attribute> attributes{};
    Bytes raw{};                            // after the attributes
    std::optional<std::uint32_t> length{};  // what nlmsg_len says, if it lies
};

enum class Verb {
    open,     // SLOT KIND: 0 SOCK_RAW, 1 SOCK_DGRAM; of another family: 2 NETLINK_GENERIC,
              // 3 NETLINK_USERSOCK
    close,    // SLOT
    share,    // SLOT OTHER: dup() of a slot's socket, as another's
    bind,     // SLOT PORT GROUPS
    connect,  // SLOT PORT GROUPS
    option,   // SLOT NUMBER VALUE: setsockopt(SOL_NETLINK); 100000 + N: group N
    buffer,   // SLOT BYTES: SO_RCVBUF
    send,     // SLOT TO CUT | MESSAGE...; TO: 0 no address, 1 the kernel's, 2 + N: slot N's,
              // 100 + N: the kernel's with group N; CUT: bytes off the datagram's end
    read,     // SLOT: everything that it was answered
    map,      // SLOT OFFSET PAGES RIGHTS FLAGS; PAGES 0: what the ring has there
    unmap,    // SLOT: all its mappings
    poll,     // SLOT
    forge,    // SLOT WORD RELATIVE VALUE: of the consumer's page, if it is mapped
    publish,  // GROUP COUNT INPLACE
    fdinfo,   // SLOT
};

struct Step {
    Verb verb = Verb::open;
    std::vector<std::uint64_t> numbers{};
    std::vector<Message> messages{};  // of send
};

using Program = std::vector<Step>;

struct VerbRule {
    Verb verb;
    std::string_view name;
    std::size_t numbers;
};

const std::vector<VerbRule>& verbs();

// Groups' numbers, by the index that Value::number gives.
using GroupIds = std::vector<std::uint32_t>;

// Slots' descriptors, by the slot that Value::number gives.
using Descriptors = std::vector<int>;

// One message, padded to a multiple of 4; with this nlmsg_seq.
Bytes encode(const Message& message, std::uint32_t seq, const GroupIds& groups,
             const Descriptors& descriptors);

std::string to_text(const Program& program);
// Throws std::runtime_error that says which line is wrong.
Program from_text(std::string_view text);

}  // namespace fuzz
