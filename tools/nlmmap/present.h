// SPDX-License-Identifier: MIT
// What `nlmmap watch` says of each thing that a ring tells: as lines for people, or as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tools/nlmmap/output.h"

namespace nlmmap::tool {

// What can be said of a message beyond its bytes; all may be empty.
struct Decoded {
    std::string action;                  // "new", "del"...
    std::string object;                  // what it is about: "route/link"
    std::string text;                    // a line about it, safe to show
    std::size_t fixed_header_bytes = 0;  // before the attributes
};

// Knows the messages of a family.
class Decoder {
  public:
    virtual ~Decoder() = default;

    // Allocates. Whatever the message is, the answer can be shown.
    virtual Decoded decode(const Message& message) = 0;
};

struct PresentOptions {
    std::size_t fixed_header_bytes = 0;  // before the attributes, rounded up to a multiple of 4
    bool time = false;                   // the ring was set up with time stamps
    bool hex = false;                    // bytes in place of attributes
    bool json = false;                   // an object for each line
    // For a ring under a socket of another family: that family's name, and who knows its messages.
    std::string source = {};
    Decoder* decoder = nullptr;  // outlives the presenter
};

class Presenter {
  public:
    // `output` must outlive the presenter.
    static std::unique_ptr<Presenter> make(const PresentOptions& options, Output& output);
    virtual ~Presenter() = default;

    // All of them throw as Output::line() does.
    virtual void message(std::string_view group, const Record& record, const Message& message) = 0;
    // Records first_seq to first_seq + lost - 1 found no room.
    virtual void loss(std::uint64_t lost, std::uint64_t first_seq) = 0;
    // The same, but about here, up to before record `seq`, rather than right before it.
    virtual void loss_nearby(std::uint64_t lost, std::uint64_t seq) = 0;
    // Before record `seq` the source lost messages and did not count them.
    virtual void loss_unknown(std::uint64_t seq) = 0;
    // What recvmsg() would have failed with in place of record `seq`.
    virtual void source_error(std::uint64_t seq, int errnum) = 0;
    // Bytes of a record that are not a netlink message.
    virtual void malformed(std::string_view group, const Record& record,
                           std::span<const std::byte> bytes) = 0;
    virtual void group_deleted(std::string_view group) = 0;
};

// The bytes of a record after its last whole message; empty if there are none.
std::span<const std::byte> after_messages(const Record& record);

}  // namespace nlmmap::tool
