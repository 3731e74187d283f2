// SPDX-License-Identifier: MIT
//
// Any bytes at all as what `nlmmap watch` is to print: it shows each byte, or
// says what it leaves out, in lines that are safe for a terminal, or valid JSON.
#include "tools/nlmmap/decode.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>

#include "tests/fuzz/framing/target.h"
#include "tools/nlmmap/output.h"
#include "tools/nlmmap/present.h"

namespace fuzz {
namespace {

constexpr std::size_t kRingBytes = 1 << 14;

bool has_between(std::string_view text, std::string_view first, std::string_view last) {
    for (std::size_t at = 0; at + first.size() <= text.size(); ++at) {
        const std::string_view here = text.substr(at, first.size());
        if (here >= first && here <= last) return true;
    }
    return false;
}

// No control character, and none that turns the text after it round. In bytes: JSON's parser has
// seen to it that they are UTF-8.
bool is_safe(std::string_view line) {
    for (const char c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
    return !has_between(line, "\xc2\x80", "\xc2\x9f") &&          // C1
           !has_between(line, "\xd8\x9c", "\xd8\x9c") &&          // U+061C
           !has_between(line, "\xe2\x80\x8e", "\xe2\x80\x8f") &&  // marks
           !has_between(line, "\xe2\x80\xa8", "\xe2\x80\xae") &&  // separators, embeddings
           !has_between(line, "\xe2\x81\xa6", "\xe2\x81\xa9");    // isolates
}

// Throws, which no input may achieve, if the text is not UTF-8.
void check_line(const std::string& line) {
    demand(is_safe(line), "what is printed is safe for a terminal");
    demand(nlohmann::json::accept(nlohmann::json(line).dump()), "what is printed is UTF-8");
}

// Where what was printed is read again.
class Printed {
  public:
    Printed() : fd_(::memfd_create("printed", MFD_CLOEXEC)) { demand(fd_ >= 0, "memfd_create"); }
    [[nodiscard]] int fd() const { return fd_; }
    std::string take() const {
        std::string text(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_CUR)), '\0');
        demand(::pread(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
               "pread");
        demand(::ftruncate(fd_, 0) == 0 && ::lseek(fd_, 0, SEEK_SET) == 0, "ftruncate");
        return text;
    }

  private:
    int fd_;
};

// Exactly these bytes, so that AddressSanitizer sees what lies beyond.
void check_decoder(Bytes bytes) {
    const Exactly exact(bytes);
    check_line(nlmmap::tool::attributes_text(exact.bytes()));
    nlohmann::ordered_json object;
    nlmmap::tool::add_attributes_json(object, exact.bytes());
    demand(object["attributes"].size() == walk<nlattr>(bytes).size(), "all attributes are shown");
    demand(nlohmann::ordered_json::parse(object.dump()) == object, "JSON is read as it is written");
}

struct Source {
    explicit Source(bool timestamps)
        : kernel({.ring_bytes = kRingBytes, .timestamps = timestamps}),
          receiver(kernel.receiver()) {}
    nlmmap::testing::Loopback kernel;
    nlmmap::Receiver receiver;
};

// In a ring, as records come to the program.
void check_presenter(Bytes datagram, const nlmmap::tool::PresentOptions& options) {
    static const Printed printed;
    // Made once: what stays from one input to the next is where the ring stands.
    static Source plain(false);
    static Source stamped(true);
    Source& source = options.time ? stamped : plain;
    demand(source.kernel.publish(datagram.first(std::min(datagram.size(), kRingBytes / 4))),
           "there is room for the only record");
    nlmmap::tool::Output output(printed.fd());
    const auto presenter = nlmmap::tool::Presenter::make(options, output);
    std::size_t things = 0;
    std::size_t shown = 0;
    for (const nlmmap::Record& record : source.receiver.read()) {
        for (const nlmmap::Message& message : record) {
            presenter->message("events", record, message);
            shown = static_cast<std::size_t>(message.bytes().data() - record.bytes().data()) +
                    NLMSG_ALIGN(message.bytes().size());
            ++things;
        }
        const Bytes rest = nlmmap::tool::after_messages(record);
        demand(rest.size() + std::min(shown, record.bytes().size()) == record.bytes().size(),
               "every byte is a message's or the rest's");
        if (!rest.empty()) {
            presenter->malformed("events", record, rest);
            ++things;
        }
    }
    output.flush();
    std::istringstream lines(printed.take());
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        check_line(line);
        if (options.json) demand(nlohmann::json::accept(line), "each line is JSON");
    }
    demand(options.hex && !options.json ? count >= things : count == things,
           "a line for each message");
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t flags = input.take<std::uint8_t>();
    const std::size_t fixed_header_bytes = input.take<std::uint8_t>();
    const std::vector<std::byte> bytes = input.take_rest();
    fuzz::check_decoder(bytes);
    fuzz::check_presenter(bytes, {.fixed_header_bytes = fixed_header_bytes,
                                  .time = (flags & 1) != 0,
                                  .hex = (flags & 2) != 0,
                                  .json = (flags & 4) != 0});
    return 0;
}
