// SPDX-License-Identifier: MIT
// The loopback kernel: the module's own ring.c over memory of this process.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlmmap/testing.hpp>
#include <utility>

#include "poll.hpp"
#include "ring.h"  // kernel-module/net/nlmmap/

namespace nlmmap::testing {

namespace {

constexpr std::uint16_t kGroup = 1;

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

[[noreturn]] void fail(int errnum, const char* operation, const char* advice = "") {
    throw Error(errnum, operation, {}, advice);
}

// [consumer][producer][data][data again], as a socket maps it. Both sides use the same addresses,
// so that ThreadSanitizer sees that they speak of the same memory.
class Memory {
  public:
    explicit Memory(std::size_t data_bytes)
        : data_bytes_(data_bytes), address_(reserve(2 * page_bytes() + 2 * data_bytes)) {
        const int fd = ::memfd_create("nlmmap-loopback", MFD_CLOEXEC);
        const std::size_t once = 2 * page_bytes() + data_bytes;
        const bool mapped = fd >= 0 && ::ftruncate(fd, static_cast<off_t>(once)) == 0 &&
                            map(fd, 0, once, 0) && map(fd, once, data_bytes, 2 * page_bytes());
        const int errnum = errno;
        if (fd >= 0) ::close(fd);
        if (mapped) return;
        unmap();
        fail(errnum, "make the loopback ring's memory");
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { unmap(); }

    [[nodiscard]] std::byte* consumer() const noexcept { return address_; }
    [[nodiscard]] std::byte* producer() const noexcept { return address_ + page_bytes(); }
    [[nodiscard]] std::byte* data() const noexcept { return address_ + 2 * page_bytes(); }

  private:
    static std::byte* reserve(std::size_t bytes) {
        void* address =
            ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (address == MAP_FAILED) fail(errno, "reserve the loopback ring's memory");
        return static_cast<std::byte*>(address);
    }
    [[nodiscard]] bool map(int fd, std::size_t at, std::size_t bytes, std::size_t offset) const {
        return ::mmap(address_ + at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                      static_cast<off_t>(offset)) != MAP_FAILED;
    }
    void unmap() const noexcept { ::munmap(address_, 2 * page_bytes() + 2 * data_bytes_); }

    std::size_t data_bytes_;
    std::byte* address_;
};

// An eventfd, readable while somebody is to look at the ring.
class Bell {
  public:
    Bell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (fd_ < 0) fail(errno, "make the loopback ring's eventfd");
    }
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;
    ~Bell() { ::close(fd_); }

    [[nodiscard]] int fd() const noexcept { return fd_; }
    void ring() const noexcept { ::eventfd_write(fd_, 1); }
    void silence() const noexcept {
        eventfd_t count = 0;
        ::eventfd_read(fd_, &count);
    }

  private:
    int fd_;
};

// The kernel's ring, and what its callbacks need; they are given the first member's address.
struct Rx {
    nlmmap_ring ring;
    const Bell* bell;
};

void on_wake(nlmmap_ring* ring) { reinterpret_cast<Rx*>(ring)->bell->ring(); }
void on_lost(nlmmap_ring* /*ring*/, u32 /*count*/) {}

constexpr nlmmap_ring_ops kOps = {.wake = on_wake, .lost = on_lost};

// The ring's lock, which publishers of all threads take.
class Locked {
  public:
    explicit Locked(nlmmap_ring& ring) noexcept : ring_(ring) { raw_spin_lock(&ring_.lock); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    ~Locked() { raw_spin_unlock(&ring_.lock); }

  private:
    nlmmap_ring& ring_;
};

std::size_t checked(std::size_t ring_bytes) {
    if (!std::has_single_bit(ring_bytes) || ring_bytes < page_bytes())
        fail(EINVAL, "make a loopback ring", "ring_bytes is a power of two of at least a page");
    return ring_bytes;
}

}  // namespace

struct Loopback::State {
    explicit State(const RingOptions& options)
        : memory(checked(options.ring_bytes)), data_bytes(options.ring_bytes) {
        rx.bell = &bell;
        nlmmap_ring_init(&rx.ring, memory.consumer(), memory.producer(), memory.data(), data_bytes,
                         options.timestamps ? NLMMAP_SETUP_TIME : 0, &kOps);
        rx.ring.consumer->watermark = options.watermark_bytes;
        nlmmap_ring_keep_notice(&rx.ring);
        // From the start: fd() is readable, or the ring is armed.
        nlmmap_ring_poll(&rx.ring);
    }

    void check(std::size_t bytes, std::uint16_t group, const char* operation) const {
        if (bytes > std::min<std::size_t>(data_bytes / 4, NLMMAP_MESSAGE_MAX))
            fail(EMSGSIZE, operation, "a message has at most min(ring_bytes / 4, 64 KiB)");
        if (group == kGroup && deleted.load(std::memory_order_relaxed))
            fail(ENOENT, operation, "the group was deleted");
    }

    Memory memory;
    std::size_t data_bytes;
    Bell bell;
    Rx rx{};
    std::atomic<bool> deleted = false;
    std::atomic<bool> taken = false;
};

namespace {

// The reader's side: keeps the memory as long as there is a receiver.
template <typename State>
class LoopbackBackend final : public detail::Backend {
  public:
    explicit LoopbackBackend(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

    [[nodiscard]] int fd() const noexcept override { return state_->bell.fd(); }

    [[nodiscard]] Polled poll(std::optional<std::chrono::nanoseconds> timeout) override {
        const detail::Deadline deadline(timeout);
        for (;;) {
            state_->bell.silence();
            if (nlmmap_ring_poll(&state_->rx.ring)) {
                state_->bell.ring();  // until somebody finds the ring empty
                return Polled::readable;
            }
            const detail::Events events = detail::poll_once(fd(), POLLIN, deadline);
            if (events.interrupted) return Polled::interrupted;
            if (events.bits == 0) return Polled::timed_out;
        }
    }

    [[nodiscard]] std::uint16_t join(std::string_view /*group*/) override {
        fail(EOPNOTSUPP, "join a group of the loopback kernel", "it has one, joined already");
    }
    [[nodiscard]] std::uint16_t leave(std::string_view /*group*/) override {
        fail(EOPNOTSUPP, "leave the loopback kernel's group");
    }
    [[nodiscard]] Socket& socket() override {
        fail(EOPNOTSUPP, "get the receiver's socket", "the loopback kernel has no sockets");
    }

  private:
    std::shared_ptr<State> state_;
};

}  // namespace

Loopback::Loopback(const RingOptions& options) : state_(std::make_shared<State>(options)) {}
Loopback::~Loopback() = default;
Loopback::Loopback(Loopback&&) noexcept = default;
Loopback& Loopback::operator=(Loopback&&) noexcept = default;

Receiver Loopback::receiver() {
    if (state_->taken.exchange(true))
        fail(EBUSY, "take the loopback kernel's receiver", "it was taken before");
    const nlmmap_ring& kernel = state_->rx.ring;
    const detail::Pages pages = {kernel.consumer, kernel.producer, state_->memory.data()};
    auto ring =
        std::make_unique<detail::Ring>(std::make_unique<LoopbackBackend<State>>(state_), pages);
    ring->set_watermark(kernel.consumer->watermark);
    ring->joined(kGroup);
    return Receiver(std::move(ring));
}

bool Loopback::publish(std::span<const std::byte> datagram, std::uint16_t group) {
    state_->check(datagram.size(), group, "publish");
    const auto bytes = static_cast<u32>(datagram.size());
    const Locked locked(state_->rx.ring);
    return nlmmap_ring_publish_locked(&state_->rx.ring, group,
                                      nlmmap_datagram_flags(datagram.data(), bytes),
                                      datagram.data(), bytes);
}

void Loopback::count_loss(std::uint32_t records) noexcept {
    const Locked locked(state_->rx.ring);
    nlmmap_ring_lose(&state_->rx.ring, records);
}

void Loopback::delete_group() noexcept {
    if (!state_->deleted.exchange(true)) nlmmap_ring_give_notice(&state_->rx.ring, kGroup);
}

SocketInfo Loopback::info() const {
    nlmmap_ring_counters counters{};
    nlmmap_ring_count(&state_->rx.ring, &counters);
    SocketInfo info;
    info.abi_version = NLMMAP_ABI_VERSION;
    info.rx_bytes = static_cast<std::uint32_t>(state_->data_bytes);
    info.header_bytes = state_->rx.ring.header_bytes;
    info.features = NLMMAP_FEATURE_TIME;
    info.produced = counters.produced;
    info.consumed = counters.consumed;
    info.seq = counters.seq;
    info.lost = counters.lost;
    info.high_water = counters.high_water;
    info.wakeups = counters.wakeups;
    info.forged = counters.forged;
    if (!state_->deleted.load(std::memory_order_relaxed)) info.groups.push_back(kGroup);
    return info;
}

void Loopback::forge_consumer_position(std::uint64_t position) noexcept {
    detail::store_release(state_->rx.ring.consumer->position, position);
}

struct Writer::State {
    State(std::shared_ptr<Loopback::State> loopback, std::uint16_t group, std::size_t max_bytes)
        : kernel(std::move(loopback)),
          locked(kernel->rx.ring),
          record(nlmmap_ring_start(
              &kernel->rx.ring, group, NLMMAP_RECORD_SINGLE, static_cast<u32>(max_bytes),
              nlmmap_record_bytes(&kernel->rx.ring, static_cast<u32>(max_bytes)))) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    // As nlmmap_end() does it: what was begun and not published is lost, and counted. The record
    // that was started may have been the one to tell of an earlier loss; now the next one does.
    ~State() {
        if (record != nullptr) nlmmap_ring_lose(&kernel->rx.ring, 1);
    }

    [[nodiscard]] std::byte* message() const noexcept {
        return reinterpret_cast<std::byte*>(record) + kernel->rx.ring.header_bytes;
    }

    std::shared_ptr<Loopback::State> kernel;
    Locked locked;
    nlmmap_record* record;  // nullptr: no room
    std::byte* at = nullptr;
    std::byte* end = nullptr;
    bool overflow = false;
};

Writer Loopback::begin(std::uint16_t type, std::size_t max_bytes, std::uint16_t group) {
    if (max_bytes < NLMSG_HDRLEN) fail(EINVAL, "begin a message", "it has at least an nlmsghdr");
    state_->check(max_bytes, group, "begin a message");
    auto writer = std::make_unique<Writer::State>(state_, group, max_bytes);
    if (writer->record == nullptr) return Writer(nullptr);
    writer->at = writer->message() + NLMSG_HDRLEN;
    writer->end = writer->message() + max_bytes;
    auto* header = new (writer->message()) nlmsghdr{};
    header->nlmsg_type = type;
    return Writer(std::move(writer));
}

Writer::Writer(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Writer::~Writer() = default;

void* Writer::put_fixed(std::size_t bytes) noexcept {
    if (!state_) return nullptr;
    const auto room = static_cast<std::size_t>(state_->end - state_->at);
    const std::size_t padded = NLMSG_ALIGN(bytes);
    if (padded < bytes || padded > room) {
        state_->overflow = true;
        return nullptr;
    }
    std::byte* at = state_->at;
    std::fill(at + bytes, at + padded, std::byte{0});
    state_->at = at + padded;
    return at;
}

bool Writer::put(std::uint16_t type, std::span<const std::byte> payload) noexcept {
    const std::size_t bytes = NLA_HDRLEN + payload.size();
    if (bytes > UINT16_MAX) {
        if (state_) state_->overflow = true;
        return false;
    }
    void* at = put_fixed(bytes);
    if (at == nullptr) return false;
    const nlattr header = {.nla_len = static_cast<std::uint16_t>(bytes), .nla_type = type};
    std::memcpy(at, &header, sizeof(header));
    if (!payload.empty())
        std::memcpy(static_cast<std::byte*>(at) + NLA_HDRLEN, payload.data(), payload.size());
    return true;
}

bool Writer::end() noexcept {
    const std::unique_ptr<State> state = std::move(state_);
    if (!state || state->overflow) return false;
    const auto bytes = static_cast<u32>(state->at - state->message());
    reinterpret_cast<nlmsghdr*>(state->message())->nlmsg_len = bytes;
    state->record->len = bytes;
    if (bytes % 8 != 0) std::memset(state->at, 0, 8 - bytes % 8);
    nlmmap_ring_finish(&state->kernel->rx.ring,
                       nlmmap_record_bytes(&state->kernel->rx.ring, bytes));
    state->record = nullptr;
    return true;
}

}  // namespace nlmmap::testing
