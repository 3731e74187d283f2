// SPDX-License-Identifier: MIT
//
// The wire contract without the library: a plain netlink socket, requests made
// byte by byte, and a ring mapped with two mmap() calls. For tests of the
// contract itself and of input that the library would never send.
#pragma once

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace guest {

using Bytes = std::vector<std::byte>;

// The family's number, as the loaded module says.
int family();

// A request under construction; attributes follow the header as they are put.
class Request {
  public:
    explicit Request(std::uint16_t type, std::uint16_t flags = NLM_F_REQUEST | NLM_F_ACK);
    Request& put(std::uint16_t type, const void* payload, std::size_t bytes);
    Request& u32(std::uint16_t type, std::uint32_t value);
    Request& u64(std::uint16_t type, std::uint64_t value);
    Request& string(std::uint16_t type, std::string_view text);
    Request& raw(std::span<const std::byte> bytes);

    nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(bytes_.data()); }
    const Bytes& bytes() const { return bytes_; }

  private:
    Bytes bytes_;
};

// One message as it came from the kernel, copied.
struct Reply {
    nlmsghdr header{};
    Bytes payload;

    // The first attribute of this type as a T of exactly its size.
    template <typename T>
    std::optional<T> get(std::uint16_t type) const {
        for (const auto& value : all(type)) {
            if (value.size() != sizeof(T)) {
                return std::nullopt;
            }
            T number;
            std::memcpy(&number, value.data(), sizeof(T));
            return number;
        }
        return std::nullopt;
    }
    std::string text(std::uint16_t type) const;
    bool has(std::uint16_t type) const { return !all(type).empty(); }
    std::vector<Bytes> all(std::uint16_t type) const;
};

// What the kernel answered to a request.
struct Outcome {
    int error = 0;         // an errno, 0 for success
    std::string sentence;  // NLMSGERR_ATTR_MSG
    std::vector<Reply> replies;
};

// Success; the failure says what the kernel said.
testing::AssertionResult succeeded(const Outcome& outcome);

// This errno, with a sentence that a person can read.
testing::AssertionResult refused(const Outcome& outcome, int error);

// A socket of the family, bound, with extended acknowledgements.
class RawSocket {
  public:
    RawSocket();
    explicit RawSocket(int fd) : fd_(fd) {}
    RawSocket(RawSocket&& other) noexcept;
    RawSocket& operator=(RawSocket&&) = delete;
    ~RawSocket() { close(); }

    int fd() const { return fd_; }
    std::uint32_t portid() const;
    std::uint64_t inode() const;
    void close();

    // Sends and reads until the acknowledgement, the error, or a dump's end.
    Outcome ask(Request request);
    // As ask(), for bytes that need not be a message: waits for one answer and
    // gives up (error -1) if none comes.
    Outcome ask_bytes(std::span<const std::byte> bytes);
    // The answer to what was sent already.
    Outcome answer(int timeout_ms = 10000);

    Outcome setup(std::uint32_t ring_bytes, std::uint32_t flags = 0);
    Outcome join(std::string_view name);
    Outcome join(std::uint32_t id);
    Outcome leave(std::string_view name);
    Outcome info();  // NLMMAP_MSG_SOCKET_GET
    Outcome group(std::string_view name);

    // setsockopt(NETLINK_ADD_MEMBERSHIP): 0 or an errno.
    int add_membership(std::uint32_t id);
    int drop_membership(std::uint32_t id);

  private:
    int fd_ = -1;
    std::uint32_t seq_ = 0;
};

// A counter of the asking socket's own ring.
std::uint64_t counter(RawSocket& socket, std::uint16_t attribute);

// A record in place. Valid until the ring gives it back.
struct RawRecord {
    nlmmap_record header{};
    std::optional<std::uint64_t> time;
    std::span<const std::byte> datagram;
    const nlmsghdr* message() const { return reinterpret_cast<const nlmsghdr*>(datagram.data()); }
};

// The mapping of a socket's RX ring.
class RawRing {
  public:
    // Maps; throws std::system_error if the kernel refuses.
    RawRing(const RawSocket& socket, std::size_t data_bytes);
    RawRing(RawRing&& other) noexcept;
    RawRing& operator=(RawRing&&) = delete;
    ~RawRing() { unmap(); }
    void unmap();

    nlmmap_consumer& consumer() { return *consumer_; }
    const nlmmap_producer& producer() const { return *producer_; }
    const std::byte* data() const { return data_; }
    std::size_t data_bytes() const { return data_bytes_; }

    std::uint64_t produced() const;  // load-acquire
    std::uint64_t lost() const;
    std::uint64_t position() const { return position_; }
    bool readable() const { return produced() != position_; }

    // The next record, checked against the contract (bounds, padding, seq).
    // Throws std::runtime_error for what breaks it.
    std::optional<RawRecord> next();
    // Gives back everything that next() returned, and says that losses were seen.
    void release();
    void see_losses();
    // Any value at all, honest or not.
    void forge(std::uint64_t position);
    void set_watermark(std::uint32_t bytes);

    // Records that were lost before the newest record that next() returned.
    std::uint64_t missing() const { return missing_; }
    std::uint64_t seq() const { return seq_; }

  private:
    std::size_t data_bytes_;
    nlmmap_consumer* consumer_ = nullptr;
    const nlmmap_producer* producer_ = nullptr;
    const std::byte* data_ = nullptr;
    std::uint64_t position_ = 0;
    std::uint64_t seq_ = 0;
    std::uint64_t missing_ = 0;
};

// A socket with a ring, mapped, that joined a group; throws if anything of it fails.
struct RawMember {
    explicit RawMember(std::string_view group, std::uint32_t ring_bytes = 1 << 16,
                       std::uint32_t flags = 0);
    RawSocket socket;
    RawRing ring;
};

}  // namespace guest
