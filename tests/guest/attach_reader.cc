// SPDX-License-Identifier: MIT
#include "tests/guest/attach_reader.h"

#include <nlmmap/nlmmap.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "tests/guest/sleepers.h"

namespace guest {
namespace {

class InPlace : public Reader {
  public:
    InPlace(Way way, RawAttached& attached)
        : attached_(attached), sleeper_(Sleeper::make(way, attached.socket.fd())) {}

    std::optional<Arrival> next(std::chrono::milliseconds timeout) override {
        const auto end = std::chrono::steady_clock::now() + timeout;
        // What the last call returned.
        attached_.ring.release();
        for (;;) {
            const std::uint64_t missing = attached_.ring.missing();
            if (const auto record = attached_.ring.next()) {
                return Arrival{
                    .datagram = record->datagram,
                    .lost = attached_.ring.missing() - missing,
                    .lost_unknown = (record->header.flags & NLMMAP_RECORD_LOST_UNKNOWN) != 0};
            }
            find_empty(attached_);
            if (attached_.ring.readable()) {
                continue;
            }
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                end - std::chrono::steady_clock::now());
            if (left.count() <= 0 || (!sleeper_->sleep(left) && !attached_.ring.readable())) {
                return std::nullopt;
            }
        }
    }

  private:
    RawAttached& attached_;
    std::unique_ptr<Sleeper> sleeper_;
};

// A loss is ENOBUFS, once at its place; the ring's counter says how much is lost by then.
class ByRecvmsg : public Reader {
  public:
    explicit ByRecvmsg(RawAttached& attached)
        : attached_(attached), fd_(dup(attached.socket.fd())) {
        if (nlmmap_adopt(fd_) != 0) {
            throw std::runtime_error(std::string("nlmmap_adopt: ") + nlmmap_error());
        }
    }
    ~ByRecvmsg() override { nlmmap_close(fd_); }

    std::optional<Arrival> next(std::chrono::milliseconds timeout) override {
        const auto end = std::chrono::steady_clock::now() + timeout;
        for (;;) {
            const ssize_t bytes =
                nlmmap_recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT | MSG_TRUNC);
            if (bytes >= 0) {
                return Arrival{.datagram =
                                   std::span(buffer_).first(static_cast<std::size_t>(bytes))};
            }
            if (errno == ENOBUFS) {
                const std::uint64_t before = lost_;
                lost_ = attached_.ring.lost();
                return Arrival{.datagram = {}, .lost = lost_ - before};
            }
            if (errno != EAGAIN) {
                throw std::system_error(errno, std::generic_category(), "nlmmap_recv");
            }
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                end - std::chrono::steady_clock::now());
            pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
            if (left.count() <= 0 || poll(&readable, 1, static_cast<int>(left.count())) <= 0) {
                return std::nullopt;
            }
        }
    }

  private:
    RawAttached& attached_;
    int fd_;
    std::uint64_t lost_ = 0;
    std::array<std::byte, 1 << 20> buffer_;
};

}  // namespace

void find_empty(RawAttached& attached) {
    attached.ring.release();
    // Pairs with the kernel's barrier between saying that it waits for room and
    // looking for it once more.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (__atomic_load_n(&attached.ring.producer().state, __ATOMIC_RELAXED) & NLMMAP_STATE_STALLED) {
        poll_now(attached.socket.fd(), POLLIN);
    }
}

std::vector<Reading> all_readings() {
    return {Reading::mapped, Reading::epoll_edge, Reading::recvmsg};
}

std::string name_of(Reading reading) {
    switch (reading) {
        case Reading::mapped:
            return "mapped";
        case Reading::epoll_edge:
            return "epoll_edge";
        case Reading::recvmsg:
            return "recvmsg";
    }
    throw std::logic_error("unknown reading");
}

std::unique_ptr<Reader> Reader::make(Reading reading, RawAttached& attached) {
    switch (reading) {
        case Reading::mapped:
            return std::make_unique<InPlace>(Way::poll, attached);
        case Reading::epoll_edge:
            return std::make_unique<InPlace>(Way::epoll_edge, attached);
        case Reading::recvmsg:
            return std::make_unique<ByRecvmsg>(attached);
    }
    throw std::logic_error("unknown reading");
}

}  // namespace guest
