// SPDX-License-Identifier: MIT
// Record and Batch: reading a ring in place.
#pragma once

#include <nlmmap/linux/nlmmap.h>

#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <nlmmap/detail/ring.hpp>
#include <nlmmap/message.hpp>
#include <optional>
#include <span>

namespace nlmmap {

/// One datagram in place, and what the kernel says about it.
///
/// Valid until the loop over its Batch goes on to the next record or ends: then its space may be
/// given back to the kernel. Not copyable: take out what you keep, or Message::copy().
/// Nothing here throws, allocates or makes a system call.
class Record {
  public:
    Record& operator=(const Record&) = delete;

    /// The whole datagram: one or more netlink messages.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {payload(), header_->len};
    }

    /// Number of the group that it was sent to; 0: to this socket alone.
    [[nodiscard]] std::uint16_t group() const noexcept { return header_->group; }

    /// Netlink port of the sender, as the kernel knows it; 0: the kernel itself.
    [[nodiscard]] std::uint32_t portid() const noexcept { return header_->portid; }

    /// Network namespace of the sender, as NETLINK_LISTEN_ALL_NSID tells it; -1: the reader's own.
    [[nodiscard]] std::int32_t nsid() const noexcept { return header_->nsid; }

    /// Its number among all records that were meant for this ring, from 1; the lost ones count.
    [[nodiscard]] std::uint64_t seq() const noexcept { return header_->seq; }

    /// How many records were lost right before this one, exactly; 0: none.
    [[nodiscard]] std::uint64_t lost_before() const noexcept { return lost_before_; }

    /// CLOCK_BOOTTIME when it was published; nothing unless RingOptions::timestamps was set.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> time() const noexcept {
        if (!ring_->has_time()) return std::nullopt;
        std::int64_t nanoseconds = 0;
        std::memcpy(&nanoseconds, header_ + 1, sizeof(nanoseconds));
        return std::chrono::nanoseconds(nanoseconds);
    }

    /// Who sent it, as SCM_CREDENTIALS tells; nothing unless RingOptions::credentials was set.
    [[nodiscard]] std::optional<nlmmap_credentials> credentials() const noexcept {
        if (!ring_->has_credentials()) return std::nullopt;
        nlmmap_credentials credentials{};
        std::memcpy(&credentials, payload() - sizeof(credentials), sizeof(credentials));
        return credentials;
    }

    /// Whether the source lost messages before this record without counting them, so that nobody
    /// knows how many. Attached sockets alone.
    [[nodiscard]] bool lost_unknown() const noexcept {
        return !plain_ && (header_->flags & NLMMAP_RECORD_LOST_UNKNOWN) != 0;
    }

    /// Whether lost_before() counts what was lost about here, among the records before this one,
    /// rather than right before it. Attached sockets with NETLINK_NO_ENOBUFS.
    [[nodiscard]] bool lost_nearby() const noexcept {
        return !plain_ && (header_->flags & NLMMAP_RECORD_LOST_NEARBY) != 0;
    }

    /// The errno that recvmsg() would have failed with at this place; 0: none. Such a record holds
    /// no message. Attached sockets alone.
    [[nodiscard]] int error() const noexcept {
        if (plain_ || (header_->flags & NLMMAP_RECORD_ERROR) == 0) return 0;
        std::int32_t error = 0;
        std::memcpy(&error, payload(), sizeof(error));
        return error;
    }

    /// Whether it is nlmmap's own word, not a producer's: so far, that a group was deleted
    /// (NLMMAP_MSG_GROUP_DELETED; group() says which).
    [[nodiscard]] bool is_notice() const noexcept {
        return !plain_ && (header_->flags & NLMMAP_RECORD_NOTICE) != 0;
    }

    /// The messages: `for (const Message& message : record)`. Iterating ends where the bytes stop
    /// making sense; there are none in a record that only tells a loss or an error.
    [[nodiscard]] MessageIterator begin() const noexcept {
        if (single_) [[likely]]
            return MessageIterator(payload());
        return MessageIterator(bytes());
    }
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  private:
    friend class BatchIterator;

    explicit Record(const detail::Ring* ring) noexcept : ring_(ring) {}
    Record(const Record&) noexcept = default;

    // What the deleted assignment would do, for its iterator alone.
    void assign(const Record& other) noexcept {
        header_ = other.header_;
        header_bytes_ = other.header_bytes_;
        lost_before_ = other.lost_before_;
        single_ = other.single_;
        plain_ = other.plain_;
        ring_ = other.ring_;
    }

    [[nodiscard]] const std::byte* payload() const noexcept {
        return reinterpret_cast<const std::byte*>(header_) + header_bytes_;
    }

    const nlmmap_record* header_ = nullptr;
    std::size_t header_bytes_ = 0;
    std::uint64_t lost_before_ = 0;
    bool single_ = false;
    bool plain_ = false;  // one whole message, nothing lost, no notice
    const detail::Ring* ring_;
};

class BatchIterator;

/// The records that were in the ring when Receiver::read() was called; to be iterated once.
///
/// Space goes back to the kernel while the loop advances, every eighth of the ring, and the rest
/// when the batch is destroyed: at the end of the loop in `for (... : receiver.read())`.
///
/// Leaving the loop early, by break, return or an exception, keeps what was not reached for the
/// next read(). The record that the loop was in has been reached: it is given back and does not
/// come again, so that a handler that throws on one record does not meet it for ever. Who wants to
/// see it again says keep_current() before leaving.
///
/// Neither copyable nor movable. Nothing here throws, allocates or makes a system call.
class Batch {
  public:
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    ~Batch() {
        if (ring_ != nullptr) ring_->close(at_, begun_ && at_ != kept_);
    }

    /// The first record. Call it once: records that the loop has passed are gone.
    [[nodiscard]] BatchIterator begin() noexcept;
    [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

    /// Whether there is no record (left).
    [[nodiscard]] bool empty() const noexcept { return done_; }

    /// Puts the record that the loop is in back: the next read() begins with it, with the same
    /// seq() and lost_before(). To be called right before the loop is left; going on undoes it.
    void keep_current() noexcept { kept_ = at_; }

  private:
    friend class BatchIterator;
    friend class Receiver;

    explicit Batch(detail::Ring* ring) noexcept {
        // One live batch per receiver; a second one is empty and gives nothing back.
        assert(!ring->is_open() && "the receiver's last Batch is still alive");
        if (ring->is_open()) return;
        const detail::Place place = ring->open();
        ring_ = ring;
        at_ = place.at;
        limit_ = place.limit;
        done_ = place.at == nullptr;
    }

    detail::Ring* ring_ = nullptr;
    const std::byte* at_ = nullptr;     // the current record; nullptr: none is left
    const std::byte* limit_ = nullptr;  // from here on, ask the ring
    const std::byte* kept_ = nullptr;   // the record that keep_current() was called in
    bool done_ = true;                  // at_ is nullptr; spares the common case a test
    bool begun_ = false;                // the current record has been reached
};

/// Walks the records of a Batch; an input iterator. Belongs to its Batch: copies of it walk the
/// same way together. A record that is stepped over without being looked at counts as read; a
/// notice among them goes unnoticed by Receiver::wait().
class BatchIterator {
  public:
    using value_type = Record;
    using reference = const Record&;
    using pointer = const Record*;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;

    explicit BatchIterator(Batch* batch) noexcept : batch_(batch), record_(batch->ring_) {
        if (batch->at_ == nullptr) return;
        batch->begun_ = true;
        record_.header_bytes_ = batch->ring_->header_bytes();
    }
    BatchIterator(const BatchIterator&) noexcept = default;
    BatchIterator& operator=(const BatchIterator& other) noexcept {
        batch_ = other.batch_;
        record_.assign(other.record_);
        return *this;
    }

    reference operator*() const noexcept {
        look();
        return record_;
    }
    pointer operator->() const noexcept {
        look();
        return &record_;
    }
    BatchIterator& operator++() noexcept {
        // The kernel wrote the record, in memory that user space cannot write: its length needs no
        // bounds.
        const std::byte* const at = batch_->at_;
        const std::size_t bytes =
            record_.header_bytes_ + reinterpret_cast<const nlmmap_record*>(at)->len;
        const std::byte* const next = at + ((bytes + 7) & ~std::size_t{7});
        if (next < batch_->limit_) [[likely]] {
            batch_->at_ = next;
            batch_->done_ = false;  // it is: said so that the compiler spares the loop's own test
        } else {
            const detail::Place place = batch_->ring_->cross(at);
            batch_->at_ = place.at;
            batch_->limit_ = place.limit;
            batch_->done_ = place.at == nullptr;
        }
        return *this;
    }
    void operator++(int) noexcept { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return batch_->done_; }

  private:
    // Here and not in operator++, so that the compiler sees this test and that of Record::begin()
    // in one iteration, and makes one of them.
    void look() const noexcept {
        const auto* header = reinterpret_cast<const nlmmap_record*>(batch_->at_);
        record_.header_ = header;
        if (header->flags == NLMMAP_RECORD_SINGLE) [[likely]] {
            record_.plain_ = true;
            record_.single_ = true;
            record_.lost_before_ = 0;
        } else {
            const detail::Looked looked = batch_->ring_->look_at(*header);
            record_.plain_ = false;
            record_.single_ = looked.single;
            record_.lost_before_ = looked.lost_before;
        }
    }

    Batch* batch_;
    mutable Record record_;
};

inline BatchIterator Batch::begin() noexcept { return BatchIterator(this); }

}  // namespace nlmmap
