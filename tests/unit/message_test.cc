// SPDX-License-Identifier: MIT
// Messages and attributes never lead beyond their bytes, whatever the lengths in them say.
#include <gtest/gtest.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <nlmmap/message.hpp>
#include <random>
#include <ranges>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using unit::message;

static_assert(std::input_iterator<MessageIterator>);
static_assert(std::input_iterator<AttributeIterator>);
static_assert(std::ranges::input_range<const Attributes>);
static_assert(!std::copy_constructible<Message>, "a view must not be kept");
static_assert(!std::copy_constructible<Attribute>, "a view must not be kept");
static_assert(std::movable<OwnedMessage>);

// Exactly that many bytes, 4-byte aligned: AddressSanitizer sees each one beyond.
class Exactly {
  public:
    explicit Exactly(const std::vector<std::byte>& bytes)
        : size_(bytes.size()), memory_(std::make_unique<std::byte[]>(bytes.size())) {
        std::ranges::copy(bytes, memory_.get());
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }

  private:
    std::size_t size_;
    std::unique_ptr<std::byte[]> memory_;
};

void set_len(std::vector<std::byte>& bytes, std::size_t at, std::uint32_t len) {
    std::memcpy(bytes.data() + at, &len, sizeof(len));
}

int count(std::span<const std::byte> datagram) {
    int found = 0;
    for (MessageIterator it(datagram); it != std::default_sentinel; ++it) ++found;
    return found;
}

void append_attribute(std::vector<std::byte>& bytes, std::uint16_t type,
                      const std::vector<std::byte>& payload) {
    const nlattr header = {static_cast<std::uint16_t>(NLA_HDRLEN + payload.size()), type};
    const auto* raw = reinterpret_cast<const std::byte*>(&header);
    bytes.insert(bytes.end(), raw, raw + sizeof(header));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    bytes.resize(NLA_ALIGN(bytes.size()));
}

std::vector<std::byte> text(std::string_view characters) {
    const auto bytes = std::as_bytes(std::span(characters));
    return {bytes.begin(), bytes.end()};
}

TEST(Messages, EndAtALengthThatIsTooShortOrTooLong) {
    std::vector<std::byte> two = message(0, 32);
    const std::vector<std::byte> second = message(1, 32);
    two.insert(two.end(), second.begin(), second.end());
    EXPECT_EQ(count(Exactly(two).bytes()), 2);
    for (const std::uint32_t len :
         {0U, 1U, 15U, 33U, 100U, 0x7FFFFFFFU, 0xFFFFFFF0U, 0xFFFFFFFFU}) {
        std::vector<std::byte> broken = two;
        set_len(broken, 32, len);
        EXPECT_EQ(count(Exactly(broken).bytes()), 1) << "length " << len;
        // The same in the first: 65 is one too many there.
        broken = two;
        set_len(broken, 0, len == 33U ? 65U : len);
        EXPECT_EQ(count(Exactly(broken).bytes()), 0) << "length " << len;
    }
}

TEST(Messages, EndWithTheBytes) {
    const std::vector<std::byte> whole = message(0, 64);
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes)
        EXPECT_EQ(count(Exactly({whole.begin(), whole.begin() + static_cast<long>(bytes)}).bytes()),
                  0)
            << "a message cut to " << bytes << " bytes";
    std::vector<std::byte> longer = whole;
    for (std::size_t extra = 1; extra < NLMSG_HDRLEN; ++extra) {
        longer.push_back(std::byte{0x20});
        EXPECT_EQ(count(Exactly(longer).bytes()), 1) << extra << " bytes follow";
    }
}

TEST(Messages, MayLackTheLastOnesPadding) {
    std::vector<std::byte> datagram = message(0, 17);
    datagram.resize(20);
    const std::vector<std::byte> last = message(1, 18);
    datagram.insert(datagram.end(), last.begin(), last.end());
    EXPECT_EQ(count(Exactly(datagram).bytes()), 2);
}

TEST(Attributes, GiveTypePayloadAndValue) {
    std::vector<std::byte> bytes;
    append_attribute(bytes, 3, {std::byte{0x2A}, {}, {}, {}});
    append_attribute(bytes, 4 | NLA_F_NET_BYTEORDER, text("name"));
    append_attribute(bytes, 5, {});
    const Exactly exact(bytes);
    std::vector<std::uint16_t> types;
    for (const Attribute& attribute : Attributes(exact.bytes())) {
        types.push_back(attribute.type());
        if (attribute.type() == 3) {
            EXPECT_EQ(attribute.as<std::uint32_t>(), 42U);
            EXPECT_EQ(attribute.as<std::uint8_t>(), std::nullopt) << "the size must match exactly";
            EXPECT_EQ(attribute.as<std::uint64_t>(), std::nullopt);
        } else if (attribute.type() == 4) {
            EXPECT_EQ(attribute.string(), "name") << "without a NUL, too";
        } else {
            EXPECT_TRUE(attribute.payload().empty());
            EXPECT_EQ(attribute.string(), "");
        }
    }
    EXPECT_EQ(types, (std::vector<std::uint16_t>{3, 4, 5}));
}

TEST(Attributes, StopTextAtItsFirstNul) {
    std::vector<std::byte> bytes;
    append_attribute(bytes, 1, text(std::string_view("comm\0\0rest", 10)));
    const Exactly exact(bytes);
    for (const Attribute& attribute : Attributes(exact.bytes()))
        EXPECT_EQ(attribute.string(), "comm");
}

TEST(Attributes, Nest) {
    std::vector<std::byte> inner;
    append_attribute(inner, 7, text("a"));
    append_attribute(inner, 8, text("bb"));
    std::vector<std::byte> outer;
    append_attribute(outer, 1 | NLA_F_NESTED, inner);
    append_attribute(outer, 2, inner);
    const Exactly exact(outer);
    std::vector<std::string_view> found;
    for (const Attribute& attribute : Attributes(exact.bytes())) {
        EXPECT_EQ(attribute.is_nested(), attribute.type() == 1);
        for (const Attribute& nested : attribute.nested()) found.push_back(nested.string());
    }
    EXPECT_EQ(found, (std::vector<std::string_view>{"a", "bb", "a", "bb"}));
}

TEST(Attributes, EndAtALengthThatIsTooShortOrTooLong) {
    std::vector<std::byte> bytes;
    append_attribute(bytes, 1, text("four"));
    append_attribute(bytes, 2, text("four"));
    for (const unsigned wrong : {0U, 1U, 3U, 9U, 0x7FFFU, 0xFFFFU}) {
        const auto len = static_cast<std::uint16_t>(wrong);
        std::vector<std::byte> broken = bytes;
        std::memcpy(broken.data() + 8, &len, sizeof(len));
        const Exactly exact(broken);
        int found = 0;
        for (const Attribute& attribute : Attributes(exact.bytes())) found += attribute.type();
        EXPECT_EQ(found, 1) << "length " << len;
    }
}

TEST(Attributes, FollowAFixedHeader) {
    std::vector<std::byte> bytes = message(0, NLMSG_HDRLEN + 8);
    append_attribute(bytes, 9, text("x"));
    set_len(bytes, 0, static_cast<std::uint32_t>(bytes.size()));
    const Exactly exact(bytes);
    for (MessageIterator it(exact.bytes()); it != std::default_sentinel; ++it) {
        int found = 0;
        for (const Attribute& attribute : it->attributes(7)) found += attribute.type();
        EXPECT_EQ(found, 9) << "7 bytes of header are padded to 8";
        EXPECT_NE(it->attributes(8).find(9), nullptr);
        EXPECT_EQ(it->attributes(8).find(10), nullptr);
        EXPECT_TRUE(it->attributes(16).empty());
        EXPECT_TRUE(it->attributes(17).empty()) << "more than there is";
        EXPECT_TRUE(it->attributes(SIZE_MAX).empty());
    }
}

// Visits every view that can be reached, and counts on the way; all of it must lie in `whole`.
std::size_t visit(std::span<const std::byte> whole, const Attributes& attributes, int depth) {
    std::size_t visited = 0;
    for (const Attribute& attribute : attributes) {
        const std::span<const std::byte> payload = attribute.payload();
        EXPECT_GE(payload.data(), whole.data());
        EXPECT_LE(payload.data() + payload.size(), whole.data() + whole.size());
        visited += 1 + attribute.string().size() % 2;
        if (depth > 0) visited += visit(whole, attribute.nested(), depth - 1);
    }
    return visited;
}

TEST(Messages, SurviveRandomBytes) {
    std::mt19937 random(3);
    std::size_t visited = 0;
    for (int round = 0; round < 30'000; ++round) {
        std::vector<std::byte> bytes(random() % 160);
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
        // Small numbers where lengths are looked for, so that much of it is nearly right.
        for (std::size_t at = 0; at + 4 <= bytes.size(); at += 4)
            if (random() % 2 == 0) set_len(bytes, at, static_cast<std::uint32_t>(random() % 24));
        if (bytes.size() >= 4 && random() % 2 == 0)
            set_len(bytes, 0, static_cast<std::uint32_t>(bytes.size()));
        const Exactly exact(bytes);
        for (MessageIterator it(exact.bytes()); it != std::default_sentinel; ++it) {
            const std::span<const std::byte> one = it->bytes();
            ASSERT_GE(one.data(), exact.bytes().data());
            ASSERT_LE(one.data() + one.size(), exact.bytes().data() + exact.bytes().size());
            visited += visit(one, it->attributes(random() % 24), 3);
            EXPECT_EQ(it->copy().view().bytes().size(), one.size());
        }
    }
    EXPECT_GT(visited, 10'000U) << "the random bytes were never near a message";
}

}  // namespace
}  // namespace nlmmap
