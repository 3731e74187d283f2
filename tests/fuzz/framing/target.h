// SPDX-License-Identifier: MIT
//
// What the framing's fuzzers share: an input's bytes, taken one after the other,
// and the end of a process whose library broke a promise.
#pragma once

#include <linux/netlink.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

// What each fuzzer defines, and libFuzzer or replay.cc calls. Answers 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

using Bytes = std::span<const std::byte>;

// Ends the process, as a sanitizer does, if something is not as promised.
inline void demand(bool kept, const char* promise) {
    if (kept) return;
    std::fprintf(stderr, "broken promise: %s\n", promise);
    std::abort();
}

// The input, taken bit by bit; zeros after its end.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    [[nodiscard]] bool empty() const { return left_.empty(); }

    template <typename T>
        requires std::is_unsigned_v<T>
    T take() {
        T value = 0;
        const std::size_t bytes = std::min(sizeof(T), left_.size());
        std::memcpy(&value, left_.data(), bytes);
        left_ = left_.subspan(bytes);
        return value;
    }
    std::vector<std::byte> take_bytes(std::size_t most) {
        const auto part = std::as_bytes(left_.first(std::min(most, left_.size())));
        left_ = left_.subspan(part.size());
        return {part.begin(), part.end()};
    }
    std::vector<std::byte> take_rest() { return take_bytes(left_.size()); }

  private:
    std::span<const std::uint8_t> left_;
};

// Exactly these bytes, aligned for any header: AddressSanitizer sees each access beyond.
class Exactly {
  public:
    explicit Exactly(Bytes bytes)
        : size_(bytes.size()), memory_(std::make_unique<std::byte[]>(bytes.size())) {
        std::ranges::copy(bytes, memory_.get());
    }
    [[nodiscard]] Bytes bytes() const { return {memory_.get(), size_}; }

  private:
    std::size_t size_;
    std::unique_ptr<std::byte[]> memory_;
};

// What a datagram or an attribute's payload holds, found by other means than the library's: a copy
// of each length, in 64 bits.
struct Found {
    std::size_t at;     // of the header
    std::size_t bytes;  // with the header, without padding
    std::uint16_t type;
};

template <typename Header>
std::vector<Found> walk(Bytes bytes) {
    std::vector<Found> found;
    for (std::uint64_t at = 0; at + sizeof(Header) <= bytes.size();) {
        Header header;
        std::memcpy(&header, bytes.data() + at, sizeof(header));
        std::uint64_t length = 0;
        std::uint16_t type = 0;
        if constexpr (std::is_same_v<Header, nlattr>) {
            length = header.nla_len;
            type = static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK);
        } else {
            length = header.nlmsg_len;
            type = header.nlmsg_type;
        }
        if (length < sizeof(Header) || at + length > bytes.size()) break;
        found.push_back({.at = static_cast<std::size_t>(at),
                         .bytes = static_cast<std::size_t>(length),
                         .type = type});
        at += (length + 3) / 4 * 4;
    }
    return found;
}

}  // namespace fuzz
