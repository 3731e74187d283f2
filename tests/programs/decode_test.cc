// SPDX-License-Identifier: MIT
// What `nlmmap watch` prints of messages, well-formed and hostile.
#include "tools/nlmmap/decode.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tools/nlmmap/clock.h"
#include "tools/nlmmap/output.h"
#include "tools/nlmmap/present.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

using Json = nlohmann::ordered_json;
using Bytes = std::vector<std::byte>;

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

// Netlink attributes one after another, built as a producer does, with lengths that may lie.
class Builder {
  public:
    Builder& put(std::uint16_t type, std::span<const std::byte> payload, int length_error = 0) {
        const nlattr header{.nla_len = static_cast<std::uint16_t>(
                                NLA_HDRLEN + static_cast<int>(payload.size()) + length_error),
                            .nla_type = type};
        const auto raw = std::as_bytes(std::span(&header, 1));
        bytes_.insert(bytes_.end(), raw.begin(), raw.end());
        bytes_.insert(bytes_.end(), payload.begin(), payload.end());
        bytes_.resize(NLA_ALIGN(bytes_.size()));
        return *this;
    }
    Builder& text(std::uint16_t type, std::string_view text) { return put(type, bytes_of(text)); }
    template <typename T>
    Builder& number(std::uint16_t type, T value) {
        return put(type, std::as_bytes(std::span(&value, 1)));
    }
    Builder& nest(std::uint16_t type, const Builder& inner) {
        return put(static_cast<std::uint16_t>(type | NLA_F_NESTED), inner.bytes_);
    }
    Builder& raw(std::string_view text) {
        const auto more = bytes_of(text);
        bytes_.insert(bytes_.end(), more.begin(), more.end());
        return *this;
    }
    const Bytes& bytes() const { return bytes_; }

  private:
    Bytes bytes_;
};

Json decoded(const Bytes& bytes) {
    Json object;
    add_attributes_json(object, bytes);
    return object;
}

TEST(AttributesText, ShowsNumbersStringsNestsFlagsAndBytes) {
    Builder inner;
    inner.number<std::uint16_t>(7, 513);
    Builder attributes;
    attributes.number<std::uint32_t>(1, 4711)
        .text(2, std::string_view("sleep\0", 6))
        .nest(3, inner)
        .text(4, std::string_view("\x01\x02\x03", 3))
        .text(5, "")
        .number<std::uint64_t>(6, 1ULL << 40)
        .number<std::uint8_t>(7, 255);
    EXPECT_EQ(attributes_text(attributes.bytes()),
              "1=4711 (0x1267)  2=\"sleep\"  3={7=513 (0x201)}  4=[01 02 03]  5  "
              "6=1099511627776 (0x10000000000)  7=255 (0xff)");
}

TEST(AttributesText, GivesBothReadingsWhereTwoArePossible) {
    Builder attributes;
    attributes.text(1, std::string_view("cat\0", 4)).number<std::uint32_t>(2, 'A');
    EXPECT_EQ(attributes_text(attributes.bytes()), "1=7627107 (0x746163, \"cat\")  2=65 (0x41)");
}

TEST(AttributesText, ReadsFixedSizeNamesPaddedWithZeros) {
    std::array<char, 16> comm{'k', 's', 'h'};
    Builder attributes;
    attributes.put(1, std::as_bytes(std::span(comm)));
    EXPECT_EQ(attributes_text(attributes.bytes()), "1=\"ksh\"");
}

TEST(AttributesText, ReadsNetworkByteOrderWhereTheFlagSaysSo) {
    Builder attributes;
    attributes.text(static_cast<std::uint16_t>(9 | NLA_F_NET_BYTEORDER),
                    std::string_view("\0\0\x12\x67", 4));
    EXPECT_EQ(attributes_text(attributes.bytes()), "9=4711 (0x1267)");
}

TEST(AttributesText, EscapesQuotesAndBackslashes) {
    Builder attributes;
    attributes.text(1, "say \"\\\"");
    EXPECT_EQ(attributes_text(attributes.bytes()), R"(1="say \"\\\"")");
}

TEST(AttributesText, NeverLetsControlCharactersThrough) {
    for (const std::string_view hostile :
         {std::string_view("\x1b[2J gone"), std::string_view("line\nfeed"),
          std::string_view("c1 \xc2\x9b text"), std::string_view("bidi \xe2\x80\xae txt"),
          std::string_view("del \x7f..")}) {
        Builder attributes;
        attributes.text(1, hostile);
        const std::string text = attributes_text(attributes.bytes());
        EXPECT_EQ(text.substr(0, 3), "1=[") << text;
        EXPECT_TRUE(is_printable(text)) << text;
    }
}

TEST(AttributesText, ShowsWhatIsNoAttributeAsTheRest) {
    Builder attributes;
    attributes.number<std::uint32_t>(1, 2).raw("\x03\xff\xff\xff");
    EXPECT_EQ(attributes_text(attributes.bytes()), "1=2 (0x2)  rest=[03 ff ff ff]");
}

TEST(AttributesText, TellsAnAttributeThatClaimsMoreThanThereIs) {
    Builder attributes;
    attributes.put(1, bytes_of("abcd"), 4);
    EXPECT_EQ(attributes_text(attributes.bytes()), "rest=[0c 00 01 00 61 62 63 64]");
}

TEST(AttributesText, IsEmptyForAnEmptyPayload) { EXPECT_EQ(attributes_text({}), ""); }

TEST(AttributesText, AcceptsALastAttributeWithoutItsPadding) {
    Builder attributes;
    attributes.text(1, "abcde");
    Bytes bytes = attributes.bytes();
    bytes.resize(NLA_HDRLEN + 5);
    EXPECT_EQ(attributes_text(bytes), "1=\"abcde\"");
}

TEST(AttributesText, StopsAtTheDepthOfANestedBomb) {
    // As deep as 64 KiB go: 16,000 nests.
    Bytes bomb;
    for (int room = 65532; room >= NLA_HDRLEN; room -= NLA_HDRLEN) {
        const nlattr header{.nla_len = static_cast<std::uint16_t>(room),
                            .nla_type = 1 | NLA_F_NESTED};
        const auto raw = std::as_bytes(std::span(&header, 1));
        bomb.insert(bomb.end(), raw.begin(), raw.end());
    }
    const std::string text = attributes_text(bomb);
    EXPECT_EQ(static_cast<int>(std::count(text.begin(), text.end(), '{')), kMaxNesting);
    EXPECT_LT(text.size(), 1000u);
    EXPECT_TRUE(Json::accept(decoded(bomb).dump()));
}

TEST(AttributesJson, GivesTypesReadingsAndBytes) {
    Builder inner;
    inner.number<std::uint8_t>(1, 9);
    Builder attributes;
    attributes.number<std::uint32_t>(1, 4711).text(2, "sleep!").nest(3, inner).text(4, "");
    EXPECT_EQ(decoded(attributes.bytes()), Json::parse(R"({"attributes": [
        {"type": 1, "u32": 4711, "hex": "67120000"},
        {"type": 2, "string": "sleep!", "hex": "736c65657021"},
        {"type": 3, "attributes": [{"type": 1, "u8": 9, "hex": "09"}]},
        {"type": 4, "hex": ""}]})"));
}

TEST(AttributesJson, KeepsNumbersOf64BitsExactly) {
    Builder attributes;
    attributes.number<std::uint64_t>(1, 0xffffffffffffffff);
    const Json again = Json::parse(decoded(attributes.bytes()).dump());
    EXPECT_EQ(again["attributes"][0]["u64"].get<std::uint64_t>(), 0xffffffffffffffff);
}

TEST(AttributesJson, StaysValidWithStringsThatAreNotUtf8) {
    for (const std::string_view hostile :
         {std::string_view("\xff\xfe\xfd"), std::string_view("\xc0\xaf\x41"),       // overlong
          std::string_view("\xed\xa0\x80"), std::string_view("\xf4\x90\x80\x80x"),  // too large
          std::string_view("cut \xe2\x82"), std::string_view("\x80 alone")}) {
        Builder attributes;
        attributes.text(1, hostile);
        const Json object = decoded(attributes.bytes());
        EXPECT_FALSE(object["attributes"][0].contains("string")) << object;
        EXPECT_EQ(object["attributes"][0]["hex"], hex(bytes_of(hostile)));
        EXPECT_TRUE(Json::accept(object.dump()));
    }
}

TEST(AttributesJson, ShowsUtf8AsItIs) {
    Builder attributes;
    attributes.text(1, "gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xa7");
    EXPECT_EQ(decoded(attributes.bytes())["attributes"][0]["string"],
              "gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xa7");
}

TEST(AttributesJson, TellsTheRestOfANestInTheNest) {
    Builder inner;
    inner.number<std::uint16_t>(2, 3).raw("\x01");
    Builder attributes;
    attributes.nest(1, inner);
    EXPECT_EQ(decoded(attributes.bytes()), Json::parse(R"({"attributes": [{"type": 1,
        "attributes": [{"type": 2, "u16": 3, "hex": "0300"}], "rest": "01"}]})"));
}

TEST(Attributes, AreDecodedSafelyWhateverTheBytes) {
    std::mt19937 random(20240607);  // NOLINT: the same bytes each time
    for (int round = 0; round < 8000; ++round) {
        // Exactly as large as it is, so that a sanitizer sees the first byte too far.
        Bytes bytes(random() % 96);
        for (std::byte& byte : bytes) {
            // Small numbers and flags, so that lengths and nests make sense often.
            const unsigned kind = random() % 4;
            byte = static_cast<std::byte>(kind == 0   ? random() % 256
                                          : kind == 1 ? 0x80
                                                      : random() % 24);
        }
        ASSERT_TRUE(is_printable(attributes_text(bytes)));
        ASSERT_TRUE(Json::accept(decoded(bytes).dump())) << hex(bytes);
    }
}

TEST(Text, DumpsBytesInLinesOf16) {
    EXPECT_EQ(hex_dump(bytes_of("0123456789abcdef\x01")),
              (std::vector<std::string>{
                  "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|",
                  "00000010  01                                                |.|"}));
}

TEST(Text, SaysHowManyBytesALongListLeavesOut) {
    EXPECT_EQ(hex_list(bytes_of("abcd"), 2), "[61 62 ... 2 more]");
}

TEST(Text, ShowsSizesExactly) {
    EXPECT_EQ(size_text(0), "0");
    EXPECT_EQ(size_text(1000), "1000");
    EXPECT_EQ(size_text(4096), "4k");
    EXPECT_EQ(size_text(1 << 20), "1M");
    EXPECT_EQ(size_text((1 << 20) + 1024), "1025k");
    EXPECT_EQ(size_text(3ULL << 30), "3G");
}

TEST(Text, ReadsSizesInUnitsOf1024) {
    EXPECT_EQ(parse_size("0"), 0u);
    EXPECT_EQ(parse_size("4096"), 4096u);
    EXPECT_EQ(parse_size("64k"), 65536u);
    EXPECT_EQ(parse_size("64KiB"), 65536u);
    EXPECT_EQ(parse_size("1M"), 1u << 20);
    EXPECT_EQ(parse_size("2g"), 2ULL << 30);
    EXPECT_EQ(parse_size("18446744073709551615"), UINT64_MAX);
}

TEST(Text, RefusesWhatIsNoSize) {
    for (const std::string_view text : {"", "k", "-1", "+1", " 1", "1 k", "1.5M", "1kk", "1x",
                                        "0x10", "1bk", "18446744073709551616", "17179869184G"}) {
        EXPECT_EQ(parse_size(text), std::nullopt) << text;
    }
}

TEST(Clock, ShowsMomentsWithMicroseconds) {
    using namespace std::chrono_literals;
    EXPECT_EQ(utc_text(WallTime(1700000000s + 1234567ns)), "2023-11-14T22:13:20.001234Z");
}

// What a presenter printed of what the loopback kernel delivered.
class PresenterTest : public ::testing::Test {
  protected:
    PresenterTest() {
        char name[] = "/tmp/nlmmap-present-XXXXXX";
        fd_ = ::mkstemp(name);
        ::unlink(name);
    }
    ~PresenterTest() override { ::close(fd_); }

    std::string present(const PresentOptions& options, const Bytes& datagram) {
        nlmmap::testing::Loopback kernel({.ring_bytes = 1 << 18, .timestamps = options.time});
        Receiver receiver = kernel.receiver();
        EXPECT_TRUE(kernel.publish(datagram));
        Output output(fd_);
        const auto presenter = Presenter::make(options, output);
        for (const Record& record : receiver.read()) {
            for (const Message& message : record) presenter->message("events", record, message);
            if (const auto rest = after_messages(record); !rest.empty()) {
                presenter->malformed("events", record, rest);
            }
        }
        return printed(output);
    }

    std::string printed(Output& output) {
        output.flush();
        std::string text(1 << 20, '\0');
        const ssize_t length = ::pread(fd_, text.data(), text.size(), 0);
        text.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
        // The next time tells what came after this.
        EXPECT_EQ(::ftruncate(fd_, 0), 0);
        ::lseek(fd_, 0, SEEK_SET);
        return text;
    }

    int fd_ = -1;
};

Bytes datagram(const Builder& payload, std::uint16_t type = 300, int length_error = 0) {
    const nlmsghdr header{
        .nlmsg_len = static_cast<std::uint32_t>(
            NLMSG_HDRLEN + static_cast<int>(payload.bytes().size()) + length_error),
        .nlmsg_type = type,
        .nlmsg_flags = 0,
        .nlmsg_seq = 0,
        .nlmsg_pid = 0};
    const auto raw = std::as_bytes(std::span(&header, 1));
    Bytes result(raw.begin(), raw.end());
    result.insert(result.end(), payload.bytes().begin(), payload.bytes().end());
    return result;
}

TEST_F(PresenterTest, PrintsOneLineForAMessage) {
    Builder payload;
    payload.number<std::uint32_t>(1, 5);
    EXPECT_EQ(present({}, datagram(payload)), "seq 1  events  type 300  24 bytes  1=5 (0x5)\n");
}

TEST_F(PresenterTest, SkipsAFixedHeaderAndShowsIt) {
    Builder payload;
    payload.raw("\x01\x02\x03\x04").number<std::uint32_t>(1, 5);
    EXPECT_EQ(present({.fixed_header_bytes = 3}, datagram(payload)),
              "seq 1  events  type 300  28 bytes  header=[01 02 03 04]  1=5 (0x5)\n");
}

TEST_F(PresenterTest, TakesAFixedHeaderThatIsLongerThanTheMessage) {
    Builder payload;
    payload.number<std::uint32_t>(1, 5);
    EXPECT_EQ(present({.fixed_header_bytes = SIZE_MAX}, datagram(payload)),
              "seq 1  events  type 300  24 bytes  header=[08 00 01 00 05 00 00 00]\n");
}

TEST_F(PresenterTest, DumpsTheWholeMessageInHexadecimal) {
    Builder payload;
    payload.raw("ABCD");
    EXPECT_EQ(present({.hex = true}, datagram(payload)),
              "seq 1  events  type 300  20 bytes\n"
              "  00000000  14 00 00 00 2c 01 00 00  00 00 00 00 00 00 00 00  |....,...........|\n"
              "  00000010  41 42 43 44                                       |ABCD|\n");
}

TEST_F(PresenterTest, PrintsAnObjectForEachLine) {
    Builder payload;
    payload.number<std::uint32_t>(1, 5);
    Bytes two = datagram(payload);
    const Bytes second = datagram(payload, 301);
    two.insert(two.end(), second.begin(), second.end());
    std::istringstream lines(present({.time = true, .json = true}, two));
    std::string line;
    for (const int type : {300, 301}) {
        ASSERT_TRUE(std::getline(lines, line));
        const Json object = Json::parse(line);
        EXPECT_EQ(object["event"], "message");
        EXPECT_EQ(object["group"], "events");
        EXPECT_EQ(object["seq"], 1);
        EXPECT_EQ(object["type"], type);
        EXPECT_EQ(object["length"], 24);
        EXPECT_EQ(object["attributes"][0]["u32"], 5);
        EXPECT_GT(object["boottime_ns"].get<std::int64_t>(), 0);
        EXPECT_TRUE(object["time"].is_string());
    }
    EXPECT_FALSE(std::getline(lines, line)) << line;
}

TEST_F(PresenterTest, TellsBytesThatAreNoMessage) {
    Builder payload;
    payload.raw("ABCD");
    Bytes broken = datagram(payload);
    const Bytes second = datagram(payload, 301, 400);  // claims more than there is
    broken.insert(broken.end(), second.begin(), second.end());
    const std::string text = present({}, broken);
    EXPECT_NE(text.find("type 300  20 bytes"), std::string::npos) << text;
    EXPECT_NE(text.find("-- seq 1  events  20 bytes that are no netlink message: [a4 01"),
              std::string::npos)
        << text;
}

TEST_F(PresenterTest, TellsLossesAndDeletionsInTheirPlace) {
    Output output(fd_);
    const auto text = Presenter::make({}, output);
    text->loss(1, 7);
    text->loss(3, 10);
    text->group_deleted("events");
    const auto json = Presenter::make({.json = true}, output);
    json->loss(3, 10);
    json->group_deleted("events");
    EXPECT_EQ(printed(output),
              "-- lost 1 record (seq 7): the ring was full\n"
              "-- lost 3 records (seq 10 to 12): the ring was full\n"
              "-- group events was deleted: its producer unregistered it\n"
              "{\"event\":\"loss\",\"lost\":3,\"first_seq\":10,\"last_seq\":12}\n"
              "{\"event\":\"group_deleted\",\"group\":\"events\"}\n");
}

TEST_F(PresenterTest, TellsLossesOfOtherFamiliesWithTheirName) {
    Output output(fd_);
    const auto text = Presenter::make({.source = "route"}, output);
    text->loss(3, 10);
    text->loss_nearby(2, 20);
    text->loss_unknown(30);
    text->source_error(40, ENOMEM);
    const auto json = Presenter::make({.json = true, .source = "route"}, output);
    json->loss(3, 10);
    json->loss_nearby(2, 20);
    json->loss_unknown(30);
    json->source_error(40, ENOMEM);
    EXPECT_EQ(
        printed(output),
        "-- route: lost 3 records (seq 10 to 12): the ring and the receive buffer were full\n"
        "-- route: lost 2 records about here, not later than before seq 20: the ring and the "
        "receive buffer were full\n"
        "-- route: lost records before seq 30; the source did not count them\n"
        "-- route: seq 40 is an error in place of a message: Cannot allocate memory\n"
        "{\"event\":\"loss\",\"source\":\"route\",\"lost\":3,\"first_seq\":10,\"last_seq\":12}\n"
        "{\"event\":\"loss_nearby\",\"source\":\"route\",\"lost\":2,\"before_seq\":20}\n"
        "{\"event\":\"loss_unknown\",\"source\":\"route\",\"before_seq\":30}\n"
        "{\"event\":\"error\",\"source\":\"route\",\"seq\":40,\"errno\":12,"
        "\"sentence\":\"Cannot allocate memory\"}\n");
}

// Knows every message to be the same.
class KnowingDecoder final : public Decoder {
  public:
    Decoded decode(const Message& /*message*/) override { return answer; }
    Decoded answer;
};

TEST_F(PresenterTest, SaysWhatADecoderKnowsInPlaceOfTheAttributes) {
    Builder payload;
    payload.raw("\x01\x02\x03\x04").number<std::uint32_t>(1, 5);
    KnowingDecoder decoder;
    decoder.answer = {"new", "route/addr", "127.0.0.1 dev lo", 4};
    EXPECT_EQ(present({.decoder = &decoder}, datagram(payload)),
              "seq 1  events  type 300  28 bytes  new  route/addr  127.0.0.1 dev lo\n");
    const Json object =
        Json::parse(present({.json = true, .decoder = &decoder}, datagram(payload)));
    EXPECT_EQ(object["action"], "new");
    EXPECT_EQ(object["object"], "route/addr");
    EXPECT_EQ(object["text"], "127.0.0.1 dev lo");
    EXPECT_EQ(object["header"], "01020304");
    EXPECT_EQ(object["attributes"][0]["u32"], 5);
    // One that knows the header alone.
    decoder.answer = {{}, {}, {}, 4};
    EXPECT_EQ(present({.decoder = &decoder}, datagram(payload)),
              "seq 1  events  type 300  28 bytes  header=[01 02 03 04]  1=5 (0x5)\n");
}

TEST(OutputTest, TellsThatTheReaderOfAPipeHasGone) {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ::close(ends[0]);
    Output output(ends[1]);
    output.line("nobody reads this");
    EXPECT_THROW(output.flush(), OutputClosed);
    EXPECT_NO_THROW(output.flush()) << "what could not be written must not be tried again";
    ::close(ends[1]);
}

TEST(OutputTest, SaysWhyItCannotWrite) {
    const int fd = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    Output output(fd);
    output.line("no space");
    try {
        output.flush();
        FAIL() << "writing to /dev/full succeeded";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::no_space_on_device);
    }
    ::close(fd);
}

}  // namespace
}  // namespace nlmmap::tool
