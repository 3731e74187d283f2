// SPDX-License-Identifier: MIT
// Views of netlink messages and attributes. They read in place, allocate nothing, never throw, and
// never look beyond the bytes that they were given, whatever the length fields in them say.
#pragma once

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace nlmmap {

class Attributes;
class OwnedMessage;

/// One netlink attribute in place.
///
/// Valid as long as the bytes that it views: in a ring, until the loop goes on to the next record.
/// Not copyable: take the value out instead.
class Attribute {
  public:
    Attribute& operator=(const Attribute&) = delete;

    /// The attribute as libnl's functions take it (they want it without const:
    /// `nla_get_u32(const_cast<nlattr*>(attribute.get()))`).
    [[nodiscard]] const nlattr* get() const noexcept { return attribute_; }

    /// The type, without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    [[nodiscard]] std::uint16_t type() const noexcept {
        return static_cast<std::uint16_t>(attribute_->nla_type & NLA_TYPE_MASK);
    }

    /// Whether NLA_F_NESTED is set. Some families nest without saying so: nested() works anyway.
    [[nodiscard]] bool is_nested() const noexcept {
        return (attribute_->nla_type & NLA_F_NESTED) != 0;
    }

    /// The bytes after the attribute's header, without padding.
    [[nodiscard]] std::span<const std::byte> payload() const noexcept {
        return {reinterpret_cast<const std::byte*>(attribute_) + NLA_HDRLEN,
                static_cast<std::size_t>(attribute_->nla_len) - NLA_HDRLEN};
    }

    /// The payload as a value of type T in host byte order; nothing if it is not exactly that long.
    template <typename T>
        requires std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>
    [[nodiscard]] std::optional<T> as() const noexcept {
        const std::span<const std::byte> bytes = payload();
        if (bytes.size() != sizeof(T)) return std::nullopt;
        T value{};
        std::memcpy(&value, bytes.data(), sizeof(T));  // attributes are aligned to 4, not to T
        return value;
    }

    /// The payload as text, up to its first NUL or its end.
    [[nodiscard]] std::string_view string() const noexcept {
        const std::span<const std::byte> bytes = payload();
        const char* text = reinterpret_cast<const char*>(bytes.data());
        return {text, ::strnlen(text, bytes.size())};
    }

    /// The attributes in the payload. Iterating ends where the bytes stop making sense.
    [[nodiscard]] Attributes nested() const noexcept;

  private:
    friend class AttributeIterator;

    Attribute() noexcept = default;
    explicit Attribute(const nlattr* attribute) noexcept : attribute_(attribute) {}
    Attribute(const Attribute&) noexcept = default;

    const nlattr* attribute_ = nullptr;
};

/// Walks the attributes of an Attributes range; an input iterator.
class AttributeIterator {
  public:
    using value_type = Attribute;
    using reference = const Attribute&;
    using pointer = const Attribute*;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;

    explicit AttributeIterator(std::span<const std::byte> bytes) noexcept : left_(bytes) {
        parse();
    }
    AttributeIterator(const AttributeIterator&) noexcept = default;
    AttributeIterator& operator=(const AttributeIterator& other) noexcept {
        current_.attribute_ = other.current_.attribute_;
        left_ = other.left_;
        return *this;
    }

    reference operator*() const noexcept { return current_; }
    pointer operator->() const noexcept { return &current_; }
    AttributeIterator& operator++() noexcept {
        parse();
        return *this;
    }
    void operator++(int) noexcept { parse(); }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept {
        return current_.attribute_ == nullptr;
    }

  private:
    // Takes the next attribute off `left_`; none, if what is left is not one.
    void parse() noexcept {
        current_.attribute_ = nullptr;
        if (left_.size() < NLA_HDRLEN) return;
        const auto* attribute = reinterpret_cast<const nlattr*>(left_.data());
        const std::size_t bytes = attribute->nla_len;
        if (bytes < NLA_HDRLEN || bytes > left_.size()) return;
        current_.attribute_ = attribute;
        const std::size_t padded = NLA_ALIGN(bytes);
        left_ = left_.subspan(padded < left_.size() ? padded : left_.size());
    }

    Attribute current_;
    std::span<const std::byte> left_;
};

/// A range of attributes: `for (const Attribute& attribute : message.attributes())`.
class Attributes {
  public:
    /// The attributes in `bytes`, which must be 4-byte aligned and outlive this view.
    explicit Attributes(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

    [[nodiscard]] AttributeIterator begin() const noexcept { return AttributeIterator(bytes_); }
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

    /// Whether there is no well-formed attribute at all.
    [[nodiscard]] bool empty() const noexcept { return begin() == end(); }

    /// The first attribute of that type, in libnl's terms; nullptr if there is none. Costs a walk.
    [[nodiscard]] const nlattr* find(std::uint16_t type) const noexcept {
        for (const Attribute& attribute : *this)
            if (attribute.type() == type) return attribute.get();
        return nullptr;
    }

  private:
    std::span<const std::byte> bytes_;
};

inline Attributes Attribute::nested() const noexcept { return Attributes(payload()); }

/// One netlink message in place: struct nlmsghdr and what follows.
///
/// Its nlmsg_len was checked against the bytes around it before anybody gets to see a Message.
/// Valid as long as the bytes that it views: in a ring, until the loop goes on to the next record.
/// Not copyable: copy() gives a message that may be kept.
class Message {
  public:
    Message& operator=(const Message&) = delete;

    /// The message as libnl's functions take it (they want it without const, and write nothing:
    /// `nlmsg_parse(const_cast<nlmsghdr*>(message.get()), ...)`).
    [[nodiscard]] const nlmsghdr* get() const noexcept { return header_; }

    /// The message's type: the producer's own, from NLMMAP_MSG_PRODUCER_MIN on, or a notice's.
    [[nodiscard]] std::uint16_t type() const noexcept { return header_->nlmsg_type; }
    /// NLM_F_* flags.
    [[nodiscard]] std::uint16_t flags() const noexcept { return header_->nlmsg_flags; }
    /// nlmsg_seq: 0 in group messages. Not the record's seq().
    [[nodiscard]] std::uint32_t seq() const noexcept { return header_->nlmsg_seq; }
    /// nlmsg_pid, which the sender wrote; the record's portid() is what the kernel says.
    [[nodiscard]] std::uint32_t portid() const noexcept { return header_->nlmsg_pid; }

    /// The whole message, header included, without padding.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {reinterpret_cast<const std::byte*>(header_), header_->nlmsg_len};
    }

    /// What follows the header.
    [[nodiscard]] std::span<const std::byte> payload() const noexcept {
        return bytes().subspan(NLMSG_HDRLEN);
    }

    /// The attributes after a fixed header of that many bytes (rounded up to a multiple of 4).
    /// Empty if the message is shorter; iterating ends where the bytes stop making sense.
    [[nodiscard]] Attributes attributes(std::size_t fixed_header_bytes = 0) const noexcept {
        const std::span<const std::byte> rest = payload();
        if (fixed_header_bytes > rest.size()) return Attributes({});
        const std::size_t skip = NLMSG_ALIGN(fixed_header_bytes);
        return Attributes(skip < rest.size() ? rest.subspan(skip) : std::span<const std::byte>{});
    }

    /// A copy with memory of its own. Allocates; throws std::bad_alloc.
    [[nodiscard]] OwnedMessage copy() const;

  private:
    friend class MessageIterator;
    friend class OwnedMessage;

    Message() noexcept = default;
    explicit Message(const std::byte* bytes) noexcept
        : header_(reinterpret_cast<const nlmsghdr*>(bytes)) {}
    Message(const Message&) noexcept = default;

    const nlmsghdr* header_ = nullptr;
};

/// A message with memory of its own, as Message::copy() makes it. Movable; a moved-from one may
/// only be assigned to or destroyed.
class OwnedMessage {
  public:
    /// The message; valid as long as this OwnedMessage is neither destroyed nor assigned to.
    [[nodiscard]] Message view() const noexcept { return Message(bytes_.get()); }

    /// The message for libnl, which may change it.
    [[nodiscard]] nlmsghdr* get() noexcept { return reinterpret_cast<nlmsghdr*>(bytes_.get()); }
    [[nodiscard]] const nlmsghdr* get() const noexcept { return view().get(); }

  private:
    friend class Message;

    explicit OwnedMessage(std::span<const std::byte> bytes)
        : bytes_(std::make_unique<std::byte[]>(bytes.size())) {
        std::memcpy(bytes_.get(), bytes.data(), bytes.size());
    }

    std::unique_ptr<std::byte[]> bytes_;  // operator new[] aligns it for any header
};

inline OwnedMessage Message::copy() const { return OwnedMessage(bytes()); }

/// Walks the messages of one datagram; an input iterator.
class MessageIterator {
  public:
    using value_type = Message;
    using reference = const Message&;
    using pointer = const Message*;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;

    /// The messages in `datagram`, which must be 4-byte aligned.
    explicit MessageIterator(std::span<const std::byte> datagram) noexcept
        : left_(datagram.size()) {
        parse(datagram.data());
    }
    /// The one message at `checked`, of which somebody who can be trusted has checked that it is
    /// well-formed: it is not parsed again.
    explicit MessageIterator(const std::byte* checked) noexcept : current_(checked), left_(0) {}
    MessageIterator(const MessageIterator&) noexcept = default;
    MessageIterator& operator=(const MessageIterator& other) noexcept {
        current_.header_ = other.current_.header_;
        left_ = other.left_;
        return *this;
    }

    reference operator*() const noexcept { return current_; }
    pointer operator->() const noexcept { return &current_; }
    MessageIterator& operator++() noexcept {
        if (left_ == 0)
            left_ = kEnd;
        else
            parse(reinterpret_cast<const std::byte*>(current_.header_) +
                  padded(current_.header_->nlmsg_len));
        return *this;
    }
    void operator++(int) noexcept { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return left_ == kEnd; }

  private:
    static constexpr std::size_t kEnd = SIZE_MAX;

    static std::size_t padded(std::size_t bytes) noexcept {
        return (bytes + NLMSG_ALIGNTO - 1) & ~std::size_t{NLMSG_ALIGNTO - 1};
    }

    // The message at `at`, where left_ bytes are; the end, if they do not begin with one.
    void parse(const std::byte* at) noexcept {
        const std::size_t here = left_;
        left_ = kEnd;
        if (here < NLMSG_HDRLEN) return;
        const auto* header = reinterpret_cast<const nlmsghdr*>(at);
        const std::size_t bytes = header->nlmsg_len;
        if (bytes < NLMSG_HDRLEN || bytes > here) return;
        current_.header_ = header;
        left_ = padded(bytes) < here ? here - padded(bytes) : 0;
    }

    Message current_;
    std::size_t left_;  // bytes after the current message and its padding; kEnd: there is none
};

}  // namespace nlmmap
