// SPDX-License-Identifier: MIT
// nlmmap's rings. What is timed goes through the library; what is checked is read again, by
// hand, from a second mapping of the ring, where it lies until the next batch is published.
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "nlmmap/linux/nlmmap.h"
#include "nlmmap/nlmmap.hpp"
#include "tests/bench/guest/measurement.h"
#include "tests/bench/guest/member.h"
#include "tests/bench/guest/transport.h"

namespace nlmmap_bench {
namespace {

[[noreturn]] void throw_errno(const char* operation) {
    throw std::system_error(errno, std::generic_category(), operation);
}

// The producer's page and the data, mapped once more.
class RawRing {
  public:
    RawRing(int fd, std::size_t data_bytes)
        : data_bytes_(data_bytes),
          page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
          mapping_(mmap(nullptr, page_ + 2 * data_bytes, PROT_READ, MAP_SHARED, fd,
                        static_cast<off_t>(page_))) {
        if (mapping_ == MAP_FAILED) throw_errno("mmap of the ring");
    }
    ~RawRing() {
        if (mapping_) munmap(mapping_, page_ + 2 * data_bytes_);
    }
    RawRing(RawRing&& other) noexcept
        : data_bytes_(other.data_bytes_),
          page_(other.page_),
          mapping_(std::exchange(other.mapping_, nullptr)),
          seq_(other.seq_) {}
    RawRing& operator=(RawRing&&) = delete;

    std::uint64_t position() const noexcept {
        // Pairs with the store-release in nlmmap_ring_finish().
        return __atomic_load_n(&producer().position, __ATOMIC_ACQUIRE);
    }

    // Checks the batch that lies from `begin` to the producer's position.
    void check(const Load& load, std::uint64_t begin) {
        std::uint64_t at = begin;
        const std::uint64_t end = position();
        for (std::uint32_t i = 0; i < load.batch; ++i) {
            if (at >= end) throw CheckFailed("the ring has fewer records than were published");
            nlmmap_record record;
            const std::byte* const where = data() + (at & (data_bytes_ - 1));
            std::memcpy(&record, where, sizeof(record));
            if (record.seq != ++seq_ || record.flags != NLMMAP_RECORD_SINGLE ||
                record.portid != 0 || record.group == 0)
                throw CheckFailed("a record's header is not what it should be");
            check_datagram(load, i, {where + producer().header_bytes, record.len});
            at += (producer().header_bytes + record.len + 7) / 8 * 8;
        }
        if (at != end) throw CheckFailed("the ring has more records than were published");
    }

  private:
    const nlmmap_producer& producer() const noexcept {
        return *static_cast<const nlmmap_producer*>(mapping_);
    }
    const std::byte* data() const noexcept {
        return static_cast<const std::byte*>(mapping_) + page_;
    }

    std::size_t data_bytes_;
    std::size_t page_;
    void* mapping_;
    std::uint64_t seq_ = 0;
};

// The daemon's loop, whose instructions count.
[[gnu::noinline]] std::uint64_t consume(nlmmap::Receiver& receiver) {
    std::uint64_t touched = 0;
    for (const nlmmap::Record& record : receiver.read())
        for (const nlmmap::Message& message : record) touched += touch(*message.get());
    return touched;
}

// The same loop with everything looked at, for the rounds that are not counted: what the iterator
// gives is what was published, too.
std::uint64_t consume_and_check(nlmmap::Receiver& receiver, const Load& load) {
    std::uint64_t touched = 0;
    std::uint32_t index = 0;
    for (const nlmmap::Record& record : receiver.read()) {
        if (record.lost_before() != 0) throw CheckFailed("the iterator says that records are lost");
        for (const nlmmap::Message& message : record) {
            check_datagram(load, index++, record.bytes());
            touched += touch(*message.get());
        }
    }
    return touched;
}

class Ring final : public Transport {
  public:
    Ring(const Producer& producer, const RingUse& use) : producer_(producer), use_(use) {
        // A ring for the largest batch of the largest messages; many members get small messages.
        const std::size_t bytes = use.members == 1 ? std::size_t{2} << 20 : std::size_t{64} << 10;
        for (unsigned i = 0; i < use.members; ++i) {
            if (use.attached_to >= 0) {
                sockets_.emplace_back(use.attached_to, NLMMAP_BENCH_PEER_GROUP);
                receivers_.push_back(
                    nlmmap::Receiver::attach(sockets_.back().get(), {.ring_bytes = bytes}));
            } else {
                receivers_.push_back(
                    nlmmap::Receiver::join(NLMMAP_BENCH_GROUP, {.ring_bytes = bytes}));
            }
        }
        for (nlmmap::Receiver& receiver : receivers_)
            raw_.emplace_back(receiver.fd(), receiver.ring_bytes());
        if (use.in_epoll) register_all();
    }
    ~Ring() override {
        if (epoll_ >= 0) close(epoll_);
    }

    Cost round(const Load& load) override {
        const std::uint64_t begin = raw_.front().position();
        Cost cost;
        cost.produce = producer_.publish(use_.path, load);
        for (nlmmap::Receiver& receiver : receivers_) {
            std::uint64_t touched = 0;
            if (rounds_ < kCheckedByIterator)
                touched = consume_and_check(receiver, load);
            else
                cost.consume += measure([&] { touched = consume(receiver); });
            check_touched(load, touched);
            if (receiver.pending_bytes() != 0 || receiver.lost() != 0)
                throw CheckFailed("the ring was not read to its end, or lost something");
        }
        for (RawRing& raw : raw_) raw.check(load, begin);
        ++rounds_;
        return cost;
    }

  private:
    // The first rounds; main() does not count that many.
    static constexpr unsigned kCheckedByIterator = 3;

    void register_all() {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0) throw_errno("epoll_create1");
        for (nlmmap::Receiver& receiver : receivers_) {
            epoll_event event{};
            event.events = EPOLLIN;
            if (epoll_ctl(epoll_, EPOLL_CTL_ADD, receiver.fd(), &event) < 0)
                throw_errno("epoll_ctl");
        }
    }

    const Producer& producer_;
    RingUse use_;
    std::vector<Member> sockets_;  // under the receivers, where these are attached
    std::vector<nlmmap::Receiver> receivers_;
    std::vector<RawRing> raw_;
    int epoll_ = -1;
    unsigned rounds_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_ring(const Producer& producer, const RingUse& use) {
    return std::make_unique<Ring>(producer, use);
}

}  // namespace nlmmap_bench
