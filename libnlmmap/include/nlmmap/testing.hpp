// SPDX-License-Identifier: MIT
// The loopback kernel: a daemon's own tests need neither the module nor root. In libnlmmap-testing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlmmap/receiver.hpp>
#include <span>
#include <type_traits>

namespace nlmmap::testing {

class Loopback;

/// A message that is being filled in place, as the kernel's nlmmap_begin() gives it to a producer.
///
/// It holds the ring's lock until end() or its destructor: publish from no other place in the same
/// thread meanwhile. What is not published by end() is lost, and counted, as in the kernel. One
/// thread.
class Writer {
  public:
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer();

    /// Whether there was room. If not, the loss is counted, and the functions below do nothing.
    explicit operator bool() const noexcept { return state_ != nullptr; }

    /// Room for a fixed header, zero-padded to a multiple of 4; nullptr if it does not fit.
    [[nodiscard]] void* put_fixed(std::size_t bytes) noexcept;

    /// Appends an attribute; false if it does not fit.
    bool put(std::uint16_t type, std::span<const std::byte> payload) noexcept;

    /// Appends an attribute with that value; false if it does not fit.
    template <typename T>
        requires std::is_arithmetic_v<T>
    bool put(std::uint16_t type, T value) noexcept {
        return put(type, std::as_bytes(std::span<const T, 1>(&value, 1)));
    }

    /// Publishes. False: there was no room, or something did not fit, and the message is lost.
    bool end() noexcept;

  private:
    friend class Loopback;
    struct State;

    explicit Writer(std::unique_ptr<State> state) noexcept;

    std::unique_ptr<State> state_;
};

/// The kernel's ring algorithm in this process, behind an ordinary Receiver: the source file is the
/// kernel module's own. Group 1, named "loopback", is joined from the start.
///
/// Any number of threads may publish at the same time; each of them is like a CPU. The receiver may
/// outlive the Loopback, which then publishes nothing more.
///
/// Differences to the module: fd() is an eventfd, which after it became readable stays so until
/// wait() or arm() found the ring empty; so an event loop under test calls arm() before it sleeps.
/// socket() and join_group() of the receiver answer EOPNOTSUPP. Nothing is charged to anybody.
class Loopback {
  public:
    /// Makes the ring. Allocates, makes system calls.
    /// Error EINVAL: ring_bytes is not a power of two of at least a page. ENOMEM. EMFILE.
    explicit Loopback(const RingOptions& options = {});
    ~Loopback();
    Loopback(Loopback&&) noexcept;
    Loopback& operator=(Loopback&&) noexcept;

    /// The reading end. Error EBUSY: it was taken before.
    [[nodiscard]] Receiver receiver();

    /// Publishes a datagram, which need not be well-formed. False if it found no room and was lost;
    /// that is counted. Error EMSGSIZE: it is over the limit, min(ring_bytes / 4, 64 KiB).
    /// ENOENT: the group was deleted. May make one system call, to wake.
    bool publish(std::span<const std::byte> datagram, std::uint16_t group = 1);

    /// Begins a message of that type, at most `max_bytes` long with its nlmsghdr, to be filled in
    /// place. Errors: as publish(); EINVAL: max_bytes is less than an nlmsghdr.
    [[nodiscard]] Writer begin(std::uint16_t type, std::size_t max_bytes, std::uint16_t group = 1);

    /// Counts that many records as lost, as if they had found no room.
    void count_loss(std::uint32_t records) noexcept;

    /// Deletes group 1: its member gets the notice, for which there is always room. Idempotent.
    void delete_group() noexcept;

    /// The kernel's counters and positions, as Socket::info() gives them; fields of the socket are
    /// 0.
    [[nodiscard]] SocketInfo info() const;

    /// Writes that into the consumer's page, as a broken or hostile reader may at any time. The
    /// ring accepts only steps forward, no further than what was produced.
    void forge_consumer_position(std::uint64_t position) noexcept;

  private:
    struct State;
    friend class Writer;

    std::shared_ptr<State> state_;
};

}  // namespace nlmmap::testing
