// SPDX-License-Identifier: MIT
#include "tests/guest/sleepers.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace guest {
namespace {

using std::chrono::milliseconds;

constexpr short kRing = POLLIN | POLLRDBAND;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

timespec to_timespec(milliseconds timeout) {
    return {.tv_sec = timeout.count() / 1000, .tv_nsec = timeout.count() % 1000 * 1'000'000};
}

class PollSleeper : public Sleeper {
  public:
    explicit PollSleeper(int fd) : fd_(fd) {}
    bool sleep(milliseconds timeout) override {
        pollfd ready{.fd = fd_, .events = kRing, .revents = 0};
        const int count = poll(&ready, 1, static_cast<int>(timeout.count()));
        if (count < 0) {
            fail("poll");
        }
        return count > 0;
    }

  private:
    int fd_;
};

class SelectSleeper : public Sleeper {
  public:
    explicit SelectSleeper(int fd) : fd_(fd) {}
    bool sleep(milliseconds timeout) override {
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd_, &readable);
        timeval time{.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
        const int count = select(fd_ + 1, &readable, nullptr, nullptr, &time);
        if (count < 0) {
            fail("select");
        }
        return count > 0;
    }

  private:
    int fd_;
};

class EpollSleeper : public Sleeper {
  public:
    EpollSleeper(int fd, bool edge) : fd_(fd), edge_(edge), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLRDBAND | (edge ? EPOLLET : 0U);
        if (epoll_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
            fail("making an epoll set");
        }
    }
    ~EpollSleeper() override { close(epoll_); }
    bool sleep(milliseconds timeout) override {
        if (edge_ && poll_now(fd_, kRing) != 0) {
            return true;
        }
        epoll_event event{};
        int count = 0;
        // Unlike poll() and select() it does not go on by itself after the kernel had work for this
        // thread, as it has when an io_uring was closed.
        do {
            count = epoll_wait(epoll_, &event, 1, static_cast<int>(timeout.count()));
        } while (count < 0 && errno == EINTR);
        if (count < 0) {
            fail("epoll_wait");
        }
        return count > 0;
    }

  private:
    int fd_;
    bool edge_;
    int epoll_;
};

class AioSleeper : public Sleeper {
  public:
    explicit AioSleeper(int fd) : fd_(fd) {
        if (syscall(SYS_io_setup, 4, &context_) != 0) {
            fail("io_setup");
        }
    }
    ~AioSleeper() override { syscall(SYS_io_destroy, context_); }
    bool sleep(milliseconds timeout) override {
        if (!submitted_) {
            iocb request{};
            request.aio_lio_opcode = IOCB_CMD_POLL;
            request.aio_fildes = static_cast<std::uint32_t>(fd_);
            request.aio_buf = static_cast<std::uint64_t>(kRing);
            iocb* requests[] = {&request};
            if (syscall(SYS_io_submit, context_, 1, requests) != 1) {
                fail("io_submit of IOCB_CMD_POLL");
            }
            submitted_ = true;
        }
        io_event event{};
        timespec time = to_timespec(timeout);
        long count = 0;
        do {
            // It does not go on by itself, either.
            count = syscall(SYS_io_getevents, context_, 1, 1, &event, &time);
        } while (count < 0 && errno == EINTR);
        if (count < 0) {
            fail("io_getevents");
        }
        submitted_ = count == 0;
        return count > 0;
    }

  private:
    int fd_;
    aio_context_t context_ = 0;
    bool submitted_ = false;
};

// One submission queue entry at a time, so the queues need no loops.
class UringSleeper : public Sleeper {
  public:
    UringSleeper(int fd, bool multishot) : fd_(fd), multishot_(multishot) {
        uring_ = static_cast<int>(syscall(SYS_io_uring_setup, 4, &params_));
        if (uring_ < 0) {
            fail("io_uring_setup");
        }
        if (!(params_.features & IORING_FEAT_SINGLE_MMAP) ||
            !(params_.features & IORING_FEAT_EXT_ARG)) {
            close(uring_);
            throw std::runtime_error("this kernel's io_uring is older than Linux 5.11");
        }
        queue_bytes_ = params_.sq_off.array + params_.sq_entries * sizeof(std::uint32_t);
        const std::size_t cq_bytes =
            params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe);
        queue_bytes_ = queue_bytes_ > cq_bytes ? queue_bytes_ : cq_bytes;
        queues_ = static_cast<std::uint8_t*>(map(queue_bytes_, IORING_OFF_SQ_RING));
        entries_ = static_cast<io_uring_sqe*>(
            map(params_.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    }
    ~UringSleeper() override {
        munmap(entries_, params_.sq_entries * sizeof(io_uring_sqe));
        munmap(queues_, queue_bytes_);
        close(uring_);
    }
    bool sleep(milliseconds timeout) override {
        unsigned submit = 0;
        if (!submitted_) {
            push();
            submit = 1;
            submitted_ = true;
        }
        if (multishot_ && submit == 0 && poll_now(fd_, kRing) != 0) {
            return true;
        }
        __kernel_timespec time{.tv_sec = timeout.count() / 1000,
                               .tv_nsec = timeout.count() % 1000 * 1'000'000};
        io_uring_getevents_arg argument{};
        argument.ts = reinterpret_cast<std::uint64_t>(&time);
        if (syscall(SYS_io_uring_enter, uring_, submit, 1,
                    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                    sizeof(argument)) < 0 &&
            errno != ETIME) {
            fail("io_uring_enter");
        }
        return pop();
    }

  private:
    void* map(std::size_t bytes, std::uint64_t offset) const {
        void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, uring_,
                        static_cast<off_t>(offset));
        if (at == MAP_FAILED) {
            fail("mmap of io_uring's queues");
        }
        return at;
    }
    std::uint32_t& word(std::uint32_t offset) const {
        return *reinterpret_cast<std::uint32_t*>(queues_ + offset);
    }
    void push() {
        const std::uint32_t tail = word(params_.sq_off.tail);
        const std::uint32_t index = tail & word(params_.sq_off.ring_mask);
        io_uring_sqe& entry = entries_[index];
        entry = {};
        entry.opcode = IORING_OP_POLL_ADD;
        entry.fd = fd_;
        entry.len = multishot_ ? IORING_POLL_ADD_MULTI : 0;
        entry.poll32_events = static_cast<std::uint32_t>(kRing);
        (&word(params_.sq_off.array))[index] = index;
        // Pairs with the kernel's acquire of the tail.
        __atomic_store_n(&word(params_.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    }
    // Takes all completions that there are.
    bool pop() {
        const auto* completions =
            reinterpret_cast<const io_uring_cqe*>(queues_ + params_.cq_off.cqes);
        std::uint32_t head = word(params_.cq_off.head);
        bool any = false;
        // Pairs with the kernel's release of the tail.
        while (head != __atomic_load_n(&word(params_.cq_off.tail), __ATOMIC_ACQUIRE)) {
            const io_uring_cqe& completion = completions[head & word(params_.cq_off.ring_mask)];
            if (completion.res < 0) {
                errno = -completion.res;
                fail("IORING_OP_POLL_ADD");
            }
            submitted_ = (completion.flags & IORING_CQE_F_MORE) != 0;
            any = true;
            __atomic_store_n(&word(params_.cq_off.head), ++head, __ATOMIC_RELEASE);
        }
        return any;
    }

    int fd_;
    bool multishot_;
    bool submitted_ = false;
    int uring_ = -1;
    io_uring_params params_{};
    std::size_t queue_bytes_ = 0;
    std::uint8_t* queues_ = nullptr;
    io_uring_sqe* entries_ = nullptr;
};

}  // namespace

std::vector<Way> all_ways() {
    return {Way::poll, Way::select, Way::epoll_level,    Way::epoll_edge,
            Way::aio,  Way::uring,  Way::uring_multishot};
}

std::string name_of(Way way) {
    switch (way) {
        case Way::poll:
            return "Poll";
        case Way::select:
            return "Select";
        case Way::epoll_level:
            return "EpollLevelTriggered";
        case Way::epoll_edge:
            return "EpollEdgeTriggeredAndArmed";
        case Way::aio:
            return "AioPoll";
        case Way::uring:
            return "IoUringPoll";
        case Way::uring_multishot:
            return "IoUringMultishotPollAndArmed";
    }
    return "Unknown";
}

std::unique_ptr<Sleeper> Sleeper::make(Way way, int fd) {
    switch (way) {
        case Way::poll:
            return std::make_unique<PollSleeper>(fd);
        case Way::select:
            return std::make_unique<SelectSleeper>(fd);
        case Way::epoll_level:
            return std::make_unique<EpollSleeper>(fd, false);
        case Way::epoll_edge:
            return std::make_unique<EpollSleeper>(fd, true);
        case Way::aio:
            return std::make_unique<AioSleeper>(fd);
        case Way::uring:
            return std::make_unique<UringSleeper>(fd, false);
        case Way::uring_multishot:
            return std::make_unique<UringSleeper>(fd, true);
    }
    throw std::invalid_argument("no such way to wait");
}

short poll_now(int fd, short events) {
    pollfd ready{.fd = fd, .events = events, .revents = 0};
    if (poll(&ready, 1, 0) < 0) {
        fail("poll with no timeout");
    }
    return ready.revents;
}

}  // namespace guest
