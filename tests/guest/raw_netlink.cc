// SPDX-License-Identifier: MIT
#include "tests/guest/raw_netlink.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace guest {
namespace {

constexpr std::size_t kAnswerBytes = 65536;

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

// One receive; false if nothing came in time. Not with poll(), which would arm
// the ring on behalf of a reader who did not ask.
bool receive(int fd, int timeout_ms, Bytes& into) {
    const timeval timeout{.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0) {
        fail("setsockopt(SO_RCVTIMEO)");
    }
    into.resize(kAnswerBytes);
    const ssize_t got = recv(fd, into.data(), into.size(), 0);
    if (got < 0 && errno == EAGAIN) {
        return false;
    }
    if (got < 0) {
        fail("recv of an answer");
    }
    into.resize(static_cast<std::size_t>(got));
    return true;
}

std::string sentence_of(const Reply& reply) {
    // struct nlmsgerr, then the request unless it was capped, then attributes.
    nlmsgerr error;
    std::memcpy(&error, reply.payload.data(), sizeof(error));
    std::size_t at = sizeof(error);
    if (!(reply.header.nlmsg_flags & NLM_F_CAPPED) && error.msg.nlmsg_len > NLMSG_HDRLEN) {
        at += NLMSG_ALIGN(error.msg.nlmsg_len) - NLMSG_HDRLEN;
    }
    if (!(reply.header.nlmsg_flags & NLM_F_ACK_TLVS) || at > reply.payload.size()) {
        return {};
    }
    Reply attributes;
    attributes.payload.assign(reply.payload.begin() + static_cast<std::ptrdiff_t>(at),
                              reply.payload.end());
    return attributes.text(NLMSGERR_ATTR_MSG);
}

// Takes a datagram's messages apart; true when the answer is complete.
bool take(const Bytes& datagram, Outcome& outcome) {
    std::size_t at = 0;
    while (at + sizeof(nlmsghdr) <= datagram.size()) {
        Reply reply;
        std::memcpy(&reply.header, datagram.data() + at, sizeof(nlmsghdr));
        const std::size_t bytes = reply.header.nlmsg_len;
        if (bytes < sizeof(nlmsghdr) || at + bytes > datagram.size()) {
            throw std::runtime_error("the kernel's answer is not well-formed netlink");
        }
        const auto begin = datagram.begin() + static_cast<std::ptrdiff_t>(at);
        reply.payload.assign(begin + sizeof(nlmsghdr), begin + static_cast<std::ptrdiff_t>(bytes));
        at += NLMSG_ALIGN(bytes);
        if (reply.header.nlmsg_type == NLMSG_ERROR) {
            int error = 0;
            std::memcpy(&error, reply.payload.data(), sizeof(error));
            outcome.error = -error;
            outcome.sentence = sentence_of(reply);
            return true;
        }
        if (reply.header.nlmsg_type == NLMSG_DONE) {
            int error = 0;
            if (reply.payload.size() >= sizeof(error)) {
                std::memcpy(&error, reply.payload.data(), sizeof(error));
            }
            outcome.error = error < 0 ? -error : 0;
            return true;
        }
        outcome.replies.push_back(std::move(reply));
    }
    return false;
}

}  // namespace

int family() {
    std::ifstream file("/sys/module/nlmmap/parameters/family");
    int number = -1;
    if (!(file >> number)) {
        throw std::runtime_error("nlmmap is not loaded: no /sys/module/nlmmap/parameters/family");
    }
    return number;
}

Request::Request(std::uint16_t type, std::uint16_t flags) : bytes_(sizeof(nlmsghdr)) {
    header().nlmsg_len = sizeof(nlmsghdr);
    header().nlmsg_type = type;
    header().nlmsg_flags = flags;
}

Request& Request::put(std::uint16_t type, const void* payload, std::size_t bytes) {
    nlattr attribute{};
    attribute.nla_len = static_cast<std::uint16_t>(NLA_HDRLEN + bytes);
    attribute.nla_type = type;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + NLA_ALIGN(NLA_HDRLEN + bytes));
    std::memcpy(bytes_.data() + at, &attribute, sizeof(attribute));
    if (bytes != 0) {
        std::memcpy(bytes_.data() + at + NLA_HDRLEN, payload, bytes);
    }
    header().nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    return *this;
}

Request& Request::u32(std::uint16_t type, std::uint32_t value) {
    return put(type, &value, sizeof(value));
}

Request& Request::u64(std::uint16_t type, std::uint64_t value) {
    return put(type, &value, sizeof(value));
}

Request& Request::string(std::uint16_t type, std::string_view text) {
    const std::string terminated(text);
    return put(type, terminated.c_str(), terminated.size() + 1);
}

Request& Request::raw(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    header().nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    return *this;
}

std::vector<Bytes> Reply::all(std::uint16_t type) const {
    std::vector<Bytes> found;
    std::size_t at = 0;
    while (at + sizeof(nlattr) <= payload.size()) {
        nlattr attribute;
        std::memcpy(&attribute, payload.data() + at, sizeof(attribute));
        if (attribute.nla_len < NLA_HDRLEN || at + attribute.nla_len > payload.size()) {
            break;
        }
        if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
            const auto begin = payload.begin() + static_cast<std::ptrdiff_t>(at);
            found.emplace_back(begin + NLA_HDRLEN, begin + attribute.nla_len);
        }
        at += NLA_ALIGN(attribute.nla_len);
    }
    return found;
}

std::string Reply::text(std::uint16_t type) const {
    for (const auto& value : all(type)) {
        const auto* characters = reinterpret_cast<const char*>(value.data());
        return {characters, strnlen(characters, value.size())};
    }
    return {};
}

testing::AssertionResult succeeded(const Outcome& outcome) {
    if (outcome.error == 0) {
        return testing::AssertionSuccess();
    }
    return testing::AssertionFailure()
           << "the kernel refused: " << (outcome.error < 0 ? "no answer" : strerror(outcome.error))
           << " (\"" << outcome.sentence << "\")";
}

testing::AssertionResult refused(const Outcome& outcome, int error) {
    if (outcome.error != error) {
        return testing::AssertionFailure()
               << "expected " << strerrorname_np(error) << ", the kernel answered "
               << (outcome.error < 0   ? "nothing"
                   : outcome.error > 0 ? strerrorname_np(outcome.error)
                                       : "success")
               << " (\"" << outcome.sentence << "\")";
    }
    // A sentence: at least two words.
    if (std::count(outcome.sentence.begin(), outcome.sentence.end(), ' ') < 1) {
        return testing::AssertionFailure()
               << strerrorname_np(error) << " as expected, but no sentence for people: \""
               << outcome.sentence << "\"";
    }
    return testing::AssertionSuccess();
}

RawSocket::RawSocket() : fd_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family())) {
    if (fd_ < 0) {
        fail("socket(AF_NETLINK)");
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    const int on = 1;
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        setsockopt(fd_, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on)) != 0 ||
        setsockopt(fd_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)) != 0) {
        fail("preparing a netlink socket");
    }
}

RawSocket::RawSocket(RawSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), seq_(other.seq_) {}

void RawSocket::close() {
    if (fd_ >= 0) {
        ::close(std::exchange(fd_, -1));
    }
}

std::uint32_t RawSocket::portid() const {
    sockaddr_nl address{};
    socklen_t bytes = sizeof(address);
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
        fail("getsockname");
    }
    return address.nl_pid;
}

std::uint64_t RawSocket::inode() const {
    struct stat status{};
    if (fstat(fd_, &status) != 0) {
        fail("fstat");
    }
    return status.st_ino;
}

Outcome RawSocket::ask(Request request) {
    request.header().nlmsg_seq = ++seq_;
    return ask_bytes(request.bytes());
}

Outcome RawSocket::ask_bytes(std::span<const std::byte> bytes) {
    // To the kernel, which an unconnected socket sends to. Without an address,
    // so that the opener's rights count besides the sender's.
    if (send(fd_, bytes.data(), bytes.size(), 0) < 0) {
        return {.error = errno, .sentence = "(send failed)", .replies = {}};
    }
    return answer();
}

Outcome RawSocket::answer(int timeout_ms) {
    Outcome outcome;
    Bytes datagram;
    do {
        if (!receive(fd_, timeout_ms, datagram)) {
            outcome.error = -1;
            outcome.sentence = "no answer in " + std::to_string(timeout_ms) + " ms";
            return outcome;
        }
    } while (!take(datagram, outcome));
    return outcome;
}

Outcome RawSocket::setup(std::uint32_t ring_bytes, std::uint32_t flags) {
    Request request(NLMMAP_MSG_SETUP);
    request.u32(NLMMAP_A_RX_BYTES, ring_bytes);
    if (flags != 0) {
        request.u32(NLMMAP_A_FLAGS, flags);
    }
    return ask(request);
}

Outcome RawSocket::join(std::string_view name) {
    return ask(Request(NLMMAP_MSG_JOIN).string(NLMMAP_A_GROUP_NAME, name));
}

Outcome RawSocket::join(std::uint32_t id) {
    return ask(Request(NLMMAP_MSG_JOIN).u32(NLMMAP_A_GROUP_ID, id));
}

Outcome RawSocket::leave(std::string_view name) {
    return ask(Request(NLMMAP_MSG_LEAVE).string(NLMMAP_A_GROUP_NAME, name));
}

Outcome RawSocket::info() { return ask(Request(NLMMAP_MSG_SOCKET_GET)); }

Outcome RawSocket::group(std::string_view name) {
    return ask(Request(NLMMAP_MSG_GROUP_GET).string(NLMMAP_A_GROUP_NAME, name));
}

int RawSocket::add_membership(std::uint32_t id) {
    const int group = static_cast<int>(id);
    return setsockopt(fd_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) ? errno : 0;
}

int RawSocket::drop_membership(std::uint32_t id) {
    const int group = static_cast<int>(id);
    return setsockopt(fd_, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof(group)) ? errno : 0;
}

std::uint64_t counter(RawSocket& socket, std::uint16_t attribute) {
    const Outcome outcome = socket.info();
    if (outcome.error != 0 || outcome.replies.empty()) {
        throw std::runtime_error("SOCKET_GET failed: " + outcome.sentence);
    }
    const auto value = outcome.replies.front().get<std::uint64_t>(attribute);
    if (!value) {
        throw std::runtime_error("SOCKET_GET did not tell attribute " + std::to_string(attribute));
    }
    return *value;
}

RawRing::RawRing(const RawSocket& socket, std::size_t data_bytes) : data_bytes_(data_bytes) {
    const std::size_t page = page_bytes();
    void* consumer = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, socket.fd(), 0);
    if (consumer == MAP_FAILED) {
        fail("mmap of the consumer's page");
    }
    consumer_ = static_cast<nlmmap_consumer*>(consumer);
    void* rest = mmap(nullptr, page + 2 * data_bytes, PROT_READ, MAP_SHARED, socket.fd(),
                      static_cast<off_t>(page));
    if (rest == MAP_FAILED) {
        const int error = errno;
        munmap(consumer, page);
        errno = error;
        fail("mmap of the producer's page and data");
    }
    producer_ = static_cast<const nlmmap_producer*>(rest);
    data_ = static_cast<const std::byte*>(rest) + page;
}

RawRing::RawRing(RawRing&& other) noexcept
    : data_bytes_(other.data_bytes_),
      consumer_(std::exchange(other.consumer_, nullptr)),
      producer_(std::exchange(other.producer_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      position_(other.position_),
      seq_(other.seq_),
      missing_(other.missing_) {}

void RawRing::unmap() {
    if (consumer_ == nullptr) {
        return;
    }
    munmap(std::exchange(consumer_, nullptr), page_bytes());
    munmap(const_cast<nlmmap_producer*>(std::exchange(producer_, nullptr)),
           page_bytes() + 2 * data_bytes_);
    data_ = nullptr;
}

std::uint64_t RawRing::produced() const {
    // Pairs with the kernel's release of producer.position.
    return __atomic_load_n(&producer_->position, __ATOMIC_ACQUIRE);
}

std::uint64_t RawRing::lost() const { return __atomic_load_n(&producer_->lost, __ATOMIC_ACQUIRE); }

std::optional<RawRecord> RawRing::next() {
    const std::uint64_t produced = this->produced();
    if (produced == position_) {
        return std::nullopt;
    }
    const std::byte* at = data_ + (position_ & (data_bytes_ - 1));
    const std::size_t header_bytes = producer_->header_bytes;
    RawRecord record;
    std::memcpy(&record.header, at, sizeof(record.header));
    const std::size_t used = header_bytes + record.header.len;
    const std::size_t taken = (used + 7) & ~std::size_t{7};
    if (taken > produced - position_) {
        throw std::runtime_error("a record is longer than what was produced: len " +
                                 std::to_string(record.header.len) + " at position " +
                                 std::to_string(position_));
    }
    for (std::size_t i = used; i < taken; ++i) {
        if (at[i] != std::byte{0}) {
            throw std::runtime_error("padding is not zero after a record of len " +
                                     std::to_string(record.header.len));
        }
    }
    record.datagram = {at + header_bytes, record.header.len};
    if (producer_->features & NLMMAP_FEATURE_TIME) {
        std::uint64_t time;
        std::memcpy(&time, at + sizeof(nlmmap_record), sizeof(time));
        record.time = time;
    }
    const std::uint64_t missing = record.header.seq - seq_ - 1;
    if (record.header.seq <= seq_ ||
        (missing != 0) != bool(record.header.flags & NLMMAP_RECORD_LOST)) {
        throw std::runtime_error("seq " + std::to_string(record.header.seq) + " after " +
                                 std::to_string(seq_) + " with flags " +
                                 std::to_string(record.header.flags));
    }
    missing_ += missing;
    seq_ = record.header.seq;
    position_ += taken;
    return record;
}

void RawRing::release() {
    see_losses();
    forge(position_);
}

void RawRing::see_losses() { __atomic_store_n(&consumer_->lost_seen, lost(), __ATOMIC_RELAXED); }

void RawRing::forge(std::uint64_t position) {
    // Pairs with the kernel's acquire: what was read is read before it is given back.
    __atomic_store_n(&consumer_->position, position, __ATOMIC_RELEASE);
}

void RawRing::set_watermark(std::uint32_t bytes) {
    __atomic_store_n(&consumer_->watermark, bytes, __ATOMIC_RELAXED);
}

namespace {

RawSocket socket_with_ring(std::uint32_t ring_bytes, std::uint32_t flags) {
    RawSocket socket;
    const Outcome outcome = socket.setup(ring_bytes, flags);
    if (outcome.error != 0) {
        throw std::runtime_error("SETUP refused: " + outcome.sentence);
    }
    return socket;
}

}  // namespace

RawMember::RawMember(std::string_view group, std::uint32_t ring_bytes, std::uint32_t flags)
    : socket(socket_with_ring(ring_bytes, flags)), ring(socket, ring_bytes) {
    const Outcome outcome = socket.join(group);
    if (outcome.error != 0) {
        throw std::runtime_error("JOIN refused: " + outcome.sentence);
    }
}

}  // namespace guest
