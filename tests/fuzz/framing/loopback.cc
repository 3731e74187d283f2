// SPDX-License-Identifier: MIT
//
// A ring in every state that producers and a reader can bring it into: what is
// published, abandoned, lost, read, left and kept in turn, as the input says. The
// kernel module's own algorithm is at one end, the library's Receiver at the
// other; what goes in has to come out, byte for byte, with each loss told in its
// place. The reader's page is forged on the way, as a hostile reader would.
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <iterator>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <optional>
#include <utility>

#include "tests/fuzz/framing/target.h"

namespace fuzz {
namespace {

constexpr std::size_t kSteps = 400;
constexpr std::uint64_t kFar = 1ULL << 40;

class Ring {
  public:
    Ring(Input& input, const nlmmap::RingOptions& options)
        : input_(input),
          kernel_(options),
          receiver_(kernel_.receiver()),
          most_(std::min<std::size_t>(options.ring_bytes / 4, NLMMAP_MESSAGE_MAX)) {}

    void run() {
        for (std::size_t step = 0; step < kSteps && !input_.empty(); ++step) {
            if (!carry_out(input_.take<std::uint8_t>())) return;
            demand(receiver_.lost() == lost_, "lost() counts every loss");
        }
        read(SIZE_MAX, false);
        demand(expected_.empty(), "everything that was published comes");
    }

  private:
    struct Expected {
        std::vector<std::byte> bytes;
        std::uint64_t seq;
        std::uint64_t lost_before;
        bool notice;
    };

    // False at the end.
    bool carry_out(std::uint8_t step) {
        const std::uint8_t kind = step % 16;
        const bool second = step >= 128;
        switch (kind) {
            case 0:
            case 1:
            case 2:
                publish(input_.take_bytes(input_.take<std::uint8_t>()), second);
                break;
            case 3:
            case 4:
                publish(message(input_.take<std::uint16_t>()), second);
                break;
            case 5:
                publish(pattern(input_.take<std::uint16_t>() % (most_ + 9)), second);
                break;
            case 6:
            case 7:
                fill_in_place(second);
                break;
            case 8:
                lose(1 + input_.take<std::uint8_t>());
                break;
            case 9:
            case 10:
                read(SIZE_MAX, second);
                break;
            case 11:
            case 12:
                read(input_.take<std::uint8_t>() % 8, second);
                break;
            case 13:
                receiver_.set_watermark(input_.take<std::uint16_t>());
                break;
            case 14:
                wait(second);
                break;
            default:
                return unusual(input_.take<std::uint8_t>());
        }
        return true;
    }

    bool unusual(std::uint8_t kind) {
        switch (kind % 8) {
            case 0:
                delete_group();
                break;
            case 1:
                forge_forward();
                return false;
            default:
                forge(kind);
        }
        return true;
    }

    [[nodiscard]] std::uint16_t group() const { return deleted_ ? 2 : 1; }

    std::vector<std::byte> pattern(std::size_t bytes) {
        std::vector<std::byte> made(bytes);
        std::uint64_t state = ++patterns_ * 0x9E3779B97F4A7C15U;
        for (std::byte& byte : made) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            byte = static_cast<std::byte>(state >> 56);
        }
        return made;
    }

    // A well-formed one.
    std::vector<std::byte> message(std::size_t bytes) {
        std::vector<std::byte> made = pattern(NLMSG_HDRLEN + bytes % (most_ - NLMSG_HDRLEN + 1));
        put_header(made);
        return made;
    }

    static void put_header(std::vector<std::byte>& made) {
        nlmsghdr header{};
        header.nlmsg_len = static_cast<std::uint32_t>(made.size());
        header.nlmsg_type = NLMMAP_MSG_PRODUCER_MIN;
        std::memcpy(made.data(), &header, sizeof(header));
    }

    // Whether so large a datagram has room now: what the kernel says, and what it has to.
    [[nodiscard]] bool fits(std::size_t bytes) const {
        const nlmmap::SocketInfo info = kernel_.info();
        const std::size_t need = (info.header_bytes + bytes + 7) / 8 * 8;
        const std::size_t kept = deleted_ ? 0 : 64;
        return info.produced - info.consumed + need <= info.rx_bytes - kept;
    }

    void came(std::vector<std::byte> bytes, bool notice = false) {
        expected_.push_back({.bytes = std::move(bytes),
                             .seq = ++seq_,
                             .lost_before = std::exchange(pending_loss_, 0),
                             .notice = notice});
    }

    void lost(std::uint64_t count) {
        seq_ += count;
        lost_ += count;
        pending_loss_ += count;
    }

    void publish(std::vector<std::byte> bytes, bool ask) {
        if (bytes.size() > most_) {
            try {
                kernel_.publish(bytes, group());
            } catch (const nlmmap::Error& error) {
                demand(error.code().value() == EMSGSIZE, "EMSGSIZE for what is too large");
                return;
            }
            demand(false, "what is too large is refused");
        }
        // Asking moves the kernel on, so it is not always asked.
        const bool expected = ask && fits(bytes.size());
        const bool accepted = kernel_.publish(bytes, group());
        demand(!ask || accepted == expected, "there is room exactly where it is free");
        if (accepted)
            came(std::move(bytes));
        else
            lost(1);
    }

    void fill_in_place(bool finish) {
        const std::size_t most = NLMSG_HDRLEN + input_.take<std::uint8_t>() * std::size_t{3};
        if (most > most_) return;
        const bool expected = fits(most);
        std::vector<std::byte> made(NLMSG_HDRLEN);
        bool whole = true;
        {
            nlmmap::testing::Writer writer = kernel_.begin(NLMMAP_MSG_PRODUCER_MIN, most, group());
            demand(static_cast<bool>(writer) == expected, "begin() finds room where it is");
            if (!writer) {
                lost(1);
                return;
            }
            for (std::uint8_t parts = input_.take<std::uint8_t>() % 4; parts > 0; --parts)
                whole &= put(writer, made, most);
            if (finish) whole &= writer.end() == whole;
        }
        if (!finish || !whole) {
            lost(1);
            return;
        }
        put_header(made);
        came(std::move(made));
    }

    // A fixed header or an attribute; whether it fitted, which the model says first.
    bool put(nlmmap::testing::Writer& writer, std::vector<std::byte>& made, std::size_t most) {
        const std::uint8_t size = input_.take<std::uint8_t>();
        const std::vector<std::byte> payload = pattern(size / 2);
        const bool attribute = size % 2 != 0;
        const std::size_t bytes = payload.size() + (attribute ? NLA_HDRLEN : 0);
        const bool room = made.size() + (bytes + 3) / 4 * 4 <= most;
        const std::size_t at = made.size();
        if (attribute) {
            const nlattr header{.nla_len = static_cast<std::uint16_t>(bytes), .nla_type = 7};
            demand(writer.put(7, payload) == room, "put() says whether it fits");
            const auto raw = std::as_bytes(std::span(&header, 1));
            made.insert(made.end(), raw.begin(), raw.end());
        } else {
            void* filled = writer.put_fixed(bytes);
            demand((filled != nullptr) == room, "put_fixed() says whether it fits");
            if (filled != nullptr && bytes != 0) std::memcpy(filled, payload.data(), bytes);
        }
        if (!room) {
            made.resize(at);
            return false;
        }
        made.insert(made.end(), payload.begin(), payload.end());
        made.resize((made.size() + 3) / 4 * 4);
        return true;
    }

    void lose(std::uint32_t count) {
        kernel_.count_loss(count);
        lost(count);
    }

    void delete_group() {
        if (deleted_) return;
        kernel_.delete_group();
        deleted_ = true;
        struct {
            nlmsghdr header;
            nlattr attribute;
            std::uint32_t id;
        } notice = {.header = {.nlmsg_len = sizeof(notice),
                               .nlmsg_type = NLMMAP_MSG_GROUP_DELETED,
                               .nlmsg_flags = 0,
                               .nlmsg_seq = 0,
                               .nlmsg_pid = 0},
                    .attribute = {.nla_len = 8, .nla_type = NLMMAP_A_GROUP_ID},
                    .id = 1};
        const auto raw = std::as_bytes(std::span(&notice, 1));
        came({raw.begin(), raw.end()}, true);
    }

    void check(const nlmmap::Record& record, const Expected& expected) {
        demand(std::ranges::equal(record.bytes(), expected.bytes), "every byte comes as it went");
        demand(record.seq() == expected.seq, "seq counts records and losses");
        demand(record.lost_before() == expected.lost_before, "losses are told in their place");
        demand(record.is_notice() == expected.notice, "notices are the kernel's");
        demand(record.portid() == 0 && record.nsid() == -1, "the kernel sent it");
        if (const auto time = record.time()) {
            demand(*time >= time_, "time does not go back");
            time_ = *time;
        }
        const std::vector<Found> messages = walk<nlmsghdr>(record.bytes());
        std::size_t at = 0;
        for (const nlmmap::Message& message : record) {
            demand(at < messages.size() &&
                       message.bytes().data() == record.bytes().data() + messages[at].at &&
                       message.bytes().size() == messages[at].bytes,
                   "a record's messages lie where they do");
            ++at;
        }
        demand(at == messages.size(), "all of a record's messages");
        notice_seen_ |= expected.notice;
    }

    // Reads so many records, and leaves the loop in the next one. What is published meanwhile, or
    // passed over without a look, as the input says.
    void read(std::size_t count, bool keep) {
        const std::size_t there = expected_.size();
        std::size_t passed = 0;
        bool left = false;
        {
            nlmmap::Batch batch = receiver_.read();
            demand(batch.empty() == (there == 0), "empty() says whether there is a record");
            const bool meddle = input_.take<std::uint8_t>() % 4 == 0;
            if (count == 0) return;
            for (auto it = batch.begin(); it != batch.end(); ++it) {
                demand(passed < there, "no more records than were there");
                const std::uint8_t how = meddle ? input_.take<std::uint8_t>() : 1;
                if (how % 8 != 0) check(*it, expected_[passed]);
                if (how % 8 == 2) publish(message(how), false);
                left = passed + 1 == count;
                if (left && keep)
                    batch.keep_current();
                else
                    ++passed;
                if (left) break;
            }
        }
        demand(left || passed == there, "all records that were there");
        expected_.erase(expected_.begin(), expected_.begin() + static_cast<std::ptrdiff_t>(passed));
        demand((receiver_.pending_bytes() == 0) == expected_.empty(), "pending_bytes()");
    }

    void wait(bool arm) {
        const std::size_t pending = receiver_.pending_bytes();
        if (arm) {
            (void)receiver_.arm();
            return;
        }
        const nlmmap::Wait wait = receiver_.wait(std::chrono::nanoseconds(0));
        demand(pending == 0 || wait == nlmmap::Wait::readable, "what waits makes it readable");
        demand(wait != nlmmap::Wait::group_gone || (deleted_ && notice_seen_ && pending == 0),
               "group_gone is told when all is read");
    }

    // What no reader ever reaches, or has behind it: counted, and nothing else.
    void forge(std::uint8_t kind) {
        const nlmmap::SocketInfo before = kernel_.info();
        const std::uint64_t offset = std::uint64_t{1} + input_.take<std::uint32_t>();
        const std::uint64_t forged =
            kind >= 128 ? before.produced + kFar + offset : before.consumed - offset;
        kernel_.forge_consumer_position(forged);
        const nlmmap::SocketInfo after = kernel_.info();
        demand(after.consumed == before.consumed, "a forged position is not accepted");
        demand(after.forged == before.forged + (forged == last_forged_ ? 0 : 1),
               "a forged position is counted, once");
        last_forged_ = forged;
    }

    // A reader who gives back what it has not read loses that, and nobody else anything: nothing
    // more is read.
    void forge_forward() {
        const nlmmap::SocketInfo before = kernel_.info();
        const std::uint64_t waiting = before.produced - before.consumed;
        const std::uint64_t step = waiting == 0 ? 0 : input_.take<std::uint32_t>() % waiting;
        kernel_.forge_consumer_position(before.consumed + step);
        demand(kernel_.info().consumed == before.consumed + step, "a step forward is accepted");
        while (!input_.empty()) {
            const std::size_t bytes = input_.take<std::uint16_t>() % (most_ + 1);
            demand(fits(bytes) == kernel_.publish(pattern(bytes), group()),
                   "there is room exactly where it is free, whatever the reader did");
            const nlmmap::SocketInfo info = kernel_.info();
            demand(info.consumed <= info.produced &&
                       info.produced - info.consumed <= info.rx_bytes &&
                       info.high_water <= info.rx_bytes,
                   "the kernel's positions stay within the ring");
        }
    }

    Input& input_;
    nlmmap::testing::Loopback kernel_;
    nlmmap::Receiver receiver_;
    std::size_t most_;
    std::deque<Expected> expected_;
    std::uint64_t seq_ = 0;
    std::uint64_t lost_ = 0;
    std::uint64_t pending_loss_ = 0;
    std::uint64_t patterns_ = 0;
    std::optional<std::uint64_t> last_forged_;
    std::chrono::nanoseconds time_{0};
    bool deleted_ = false;
    bool notice_seen_ = false;
};

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t options = input.take<std::uint8_t>();
    fuzz::Ring ring(input, {.ring_bytes = std::size_t{4096} << (options % 3),
                            .watermark_bytes = 0,
                            .timestamps = options >= 128});
    ring.run();
    return 0;
}
