// SPDX-License-Identifier: MIT
// The consumer's side of a mapped ring: what the inline loop of Batch leaves to the library.
#include <algorithm>
#include <cassert>
#include <nlmmap/detail/ring.hpp>
#include <utility>

#include "setup.hpp"

namespace nlmmap::detail {

Backend::~Backend() = default;

Ring::Ring(std::unique_ptr<Backend> backend, const Pages& pages)
    : pages_(pages),
      ring_bytes_(static_cast<std::size_t>(pages.producer->data_bytes)),
      features_(pages.producer->features),
      header_bytes_(pages.producer->header_bytes),
      backend_(std::move(backend)) {}

Ring::~Ring() { assert(!is_open_ && "a Batch outlives its receiver"); }

bool Ring::resume(std::uint64_t newest) noexcept {
    const std::uint64_t begin = load_acquire(pages_.consumer->position);
    const std::uint64_t end = load_acquire(pages_.producer->position);
    if (begin > end || end - begin > ring_bytes_ || begin % 8 != 0) return false;
    for (std::uint64_t at = begin; at != end;) {
        const std::size_t offset = static_cast<std::size_t>(at) & (ring_bytes_ - 1);
        const std::byte* const record = pages_.data + offset;
        if (reinterpret_cast<const nlmmap_record*>(record)->len > ring_bytes_ / 2) return false;
        const auto bytes = static_cast<std::uint64_t>(after(record) - record);
        if (bytes > end - at) return false;
        at += bytes;
    }
    position_ = begin;
    seq_ = detail::seq_before(pages_, ring_bytes_, begin, newest);
    return true;
}

Place Ring::open() noexcept {
    // A loss keeps the ring readable until the reader says that it knows, even if nothing is there
    // to be read. One that comes after this load is told by the next poll().
    const std::uint64_t lost = load_acquire(pages_.producer->lost);
    if (lost != lost_seen_) {
        lost_seen_ = lost;
        store_release(pages_.consumer->lost_seen, lost);
    }
    // Pairs with the store-release of producer.position in nlmmap_ring_finish(): what was published
    // before it may be read.
    end_ = load_acquire(pages_.producer->position);
    is_open_ = true;
    return place();
}

// The record at position_, and the limit: the end of the batch or of this eighth of the ring.
// Eighths end where the ring does, so between two limits a pointer never wraps; a record that
// crosses one goes on in the second mapping.
Place Ring::place() noexcept {
    walked_seq_ = seq_;
    if (position_ == end_) return {nullptr, nullptr};
    const std::size_t eighth = ring_bytes_ / 8;
    const std::size_t offset = static_cast<std::size_t>(position_) & (ring_bytes_ - 1);
    const std::size_t to_eighth = eighth - (offset & (eighth - 1));
    const std::size_t to_end = static_cast<std::size_t>(end_ - position_);
    const std::byte* at = pages_.data + offset;
    walked_to_ = at;
    return {at, at + std::min(to_eighth, to_end)};
}

void Ring::advance_to(const std::byte* next) noexcept {
    const std::size_t offset = static_cast<std::size_t>(position_) & (ring_bytes_ - 1);
    const auto advanced = static_cast<std::size_t>(next - (pages_.data + offset));
    if (advanced == 0) return;
    position_ += advanced;
    // Pairs with the load-acquire of consumer.position in nlmmap_ring_accept(): the records before
    // it have been read, and their space may be overwritten.
    store_release(pages_.consumer->position, position_);
}

const std::byte* Ring::after(const std::byte* at) const noexcept {
    const std::size_t bytes = header_bytes_ + reinterpret_cast<const nlmmap_record*>(at)->len;
    return at + ((bytes + 7) & ~std::size_t{7});
}

// The sequence number of the record before `at`. The loop keeps no track of it, because that would
// cost every record two instructions for the sake of those that come after a loss: what has not
// been given back is still there, so it is walked, each record once.
std::uint64_t Ring::seq_before(const std::byte* at) noexcept {
    while (walked_to_ != at) {
        walked_seq_ = reinterpret_cast<const nlmmap_record*>(walked_to_)->seq;
        walked_to_ = after(walked_to_);
    }
    return walked_seq_;
}

Place Ring::cross(const std::byte* at) noexcept {
    seq_ = reinterpret_cast<const nlmmap_record*>(at)->seq;
    advance_to(after(at));
    return place();
}

void Ring::close(const std::byte* at, bool reached) noexcept {
    is_open_ = false;
    if (at == nullptr) return;  // cross() came to the end of the batch
    seq_ = reached ? reinterpret_cast<const nlmmap_record*>(at)->seq : seq_before(at);
    advance_to(reached ? after(at) : at);
}

Looked Ring::look_at(const nlmmap_record& record) noexcept {
    // A record that the reader kept comes again, but deletes its group once.
    if ((record.flags & NLMMAP_RECORD_NOTICE) != 0 && record.seq > notice_seq_) {
        notice_seq_ = record.seq;
        const auto* header = reinterpret_cast<const nlmsghdr*>(
            reinterpret_cast<const std::byte*>(&record) + header_bytes_);
        if (record.len >= sizeof(*header) && header->nlmsg_type == NLMMAP_MSG_GROUP_DELETED) {
            const auto found = std::ranges::find(groups_, record.group);
            if (found != groups_.end()) {
                groups_.erase(found);
                deserted_ = groups_.empty();
            }
        }
    }
    const bool single = (record.flags & NLMMAP_RECORD_SINGLE) != 0;
    if ((record.flags & NLMMAP_RECORD_LOST) == 0) return {0, single};
    const std::uint64_t previous = seq_before(reinterpret_cast<const std::byte*>(&record));
    return {record.seq - previous - 1, single};
}

bool Ring::is_readable() const noexcept {
    const std::size_t enough =
        std::clamp<std::size_t>(watermark_, 1, std::max<std::size_t>(ring_bytes_ / 2, 1));
    return pending_bytes() >= enough;
}

void Ring::set_watermark(std::uint32_t bytes) noexcept {
    watermark_ = bytes;
    std::atomic_ref<__u32>(pages_.consumer->watermark).store(bytes, std::memory_order_relaxed);
}

void Ring::joined(std::uint16_t group) {
    groups_.push_back(group);
    deserted_ = false;
}

void Ring::left(std::uint16_t group) noexcept {
    const auto found = std::ranges::find(groups_, group);
    if (found != groups_.end()) groups_.erase(found);
}

}  // namespace nlmmap::detail
