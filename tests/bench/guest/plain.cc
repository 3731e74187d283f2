// SPDX-License-Identifier: MIT
// Netlink sockets without a ring, read in the three ways that daemons use.
//
// What is in their favour: recvmsg() and libnl stop when the batch is there, so no call is spent to
// find the queue empty; recvmsg() and recvmmsg() do not ask who sent (a careful daemon does, for
// about 200 instructions more; the ring's record says it); buffers are touched before and set up
// once; the receive buffer never fills.
#include <fmt/format.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "nlmmap/nlmmap.hpp"
#include "tests/bench/guest/measurement.h"
#include "tests/bench/guest/member.h"
#include "tests/bench/guest/transport.h"

namespace nlmmap_bench {
namespace {

constexpr std::size_t kStride = NLMMAP_BENCH_DATAGRAM_MAX;
constexpr unsigned kMessagesPerCall = 64;
// recvmmsg() is offered a whole call's buffers even for the last message.
constexpr std::size_t kSlots = NLMMAP_BENCH_BATCH_MAX + kMessagesPerCall;

// `result` is not the number of bytes that was expected.
[[noreturn, gnu::cold]] void fail_read(const char* call, ssize_t result) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), call);
    throw CheckFailed(fmt::format("{} gave {} bytes or messages", call, result));
}

// Where every reader puts what it got, message by message, for the check.
class Arrived {
  public:
    std::byte* slot(std::uint32_t index) noexcept { return bytes_.data() + index * kStride; }

    void check(const Load& load, std::uint64_t touched) const {
        check_touched(load, touched);
        for (std::uint32_t i = 0; i < load.batch; ++i)
            check_datagram(load, i, {bytes_.data() + i * kStride, load.datagram_bytes});
    }
    void forget() { std::memset(bytes_.data(), 0xff, bytes_.size()); }

  private:
    std::vector<std::byte> bytes_ = std::vector<std::byte>(kSlots * kStride);
};

class Reader {
  public:
    Reader() = default;
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    virtual ~Reader() = default;
    // Reads one batch and checks it; returns its instructions.
    virtual std::uint64_t read(Member& member, const Load& load) = 0;
};

class RecvmsgReader final : public Reader {
  public:
    std::uint64_t read(Member& member, const Load& load) override {
        arrived_.forget();
        std::uint64_t touched = 0;
        const std::uint64_t cost = measure([&] { touched = receive(member.fd(), load); });
        arrived_.check(load, touched);
        return cost;
    }

  private:
    [[gnu::noinline]] std::uint64_t receive(int fd, const Load& load) {
        std::uint64_t touched = 0;
        iovec buffer{};
        msghdr message{};
        message.msg_iov = &buffer;
        message.msg_iovlen = 1;
        for (std::uint32_t i = 0; i < load.batch; ++i) {
            buffer = {arrived_.slot(i), kStride};
            const ssize_t bytes = recvmsg(fd, &message, MSG_DONTWAIT);
            if (bytes != static_cast<ssize_t>(load.datagram_bytes)) fail_read("recvmsg", bytes);
            touched += touch(*static_cast<const nlmsghdr*>(buffer.iov_base));
        }
        return touched;
    }

    Arrived arrived_;
};

class RecvmmsgReader final : public Reader {
  public:
    RecvmmsgReader() {
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            buffers_[i] = {arrived_.slot(i), kStride};
            messages_[i].msg_hdr.msg_iov = &buffers_[i];
            messages_[i].msg_hdr.msg_iovlen = 1;
        }
    }

    std::uint64_t read(Member& member, const Load& load) override {
        arrived_.forget();
        std::uint64_t touched = 0;
        const std::uint64_t cost = measure([&] { touched = receive(member.fd(), load); });
        arrived_.check(load, touched);
        return cost;
    }

  private:
    [[gnu::noinline]] std::uint64_t receive(int fd, const Load& load) {
        std::uint64_t touched = 0;
        std::uint32_t received = 0;
        while (received < load.batch) {
            const int count =
                recvmmsg(fd, &messages_[received], kMessagesPerCall, MSG_DONTWAIT, nullptr);
            if (count <= 0) fail_read("recvmmsg", count);
            for (const std::uint32_t end = received + static_cast<std::uint32_t>(count);
                 received < end; ++received) {
                if (messages_[received].msg_len != load.datagram_bytes)
                    fail_read("recvmmsg", messages_[received].msg_len);
                touched += touch(*static_cast<const nlmsghdr*>(buffers_[received].iov_base));
            }
        }
        return touched;
    }

    Arrived arrived_;
    std::array<iovec, kSlots> buffers_{};
    std::array<mmsghdr, kSlots> messages_{};
};

// libnl frees each message after the callback, so its contents must be copied there for the check:
// the clock is stopped meanwhile.
class LibnlReader final : public Reader {
  public:
    explicit LibnlReader(bool peek) : peek_(peek) {}

    std::uint64_t read(Member& member, const Load& load) override {
        if (!peek_) nl_socket_disable_msg_peek(member.get());
        nl_socket_modify_cb(member.get(), NL_CB_VALID, NL_CB_CUSTOM, &LibnlReader::on_message,
                            this);
        arrived_.forget();
        received_ = 0;
        touched_ = 0;
        excluded_ = 0;
        const std::uint64_t cost = measure([&] { receive(member.get(), load); });
        arrived_.check(load, touched_);
        // Reading the clock twice to stop it is part of what is not counted.
        const std::uint64_t clock = excluded_ + received_ * stop_cost();
        return cost > clock ? cost - clock : 0;
    }

  private:
    [[gnu::noinline]] void receive(nl_sock* socket, const Load& load) {
        while (received_ < load.batch) {
            const int error = nl_recvmsgs_default(socket);
            if (error < 0) throw CheckFailed(std::string("nl_recvmsgs: ") + nl_geterror(error));
        }
    }

    static int on_message(nl_msg* message, void* argument) {
        auto& self = *static_cast<LibnlReader*>(argument);
        const nlmsghdr* const header = nlmsg_hdr(message);
        self.touched_ += touch(*header);
        self.stop_clock(header);
        return NL_OK;
    }

    [[gnu::noinline]] void stop_clock(const nlmsghdr* header) {
        const std::uint64_t start = ticks();
        if (received_ < NLMMAP_BENCH_BATCH_MAX && header->nlmsg_len <= kStride)
            std::memcpy(arrived_.slot(received_), header, header->nlmsg_len);
        ++received_;
        excluded_ += ticks() - start;
    }

    // What stop_clock() costs beyond what it excludes, measured once.
    static std::uint64_t stop_cost() {
        static const std::uint64_t cost = [] {
            LibnlReader reader(true);
            nlmsghdr header{};
            header.nlmsg_len = sizeof(header);
            std::vector<std::uint64_t> costs;
            for (int i = 0; i < 101; ++i) {
                reader.received_ = 0;
                reader.excluded_ = 0;
                const std::uint64_t whole = measure([&] { reader.stop_clock(&header); });
                costs.push_back(whole - reader.excluded_);
            }
            return median(costs);
        }();
        return cost;
    }

    bool peek_;
    Arrived arrived_;
    std::uint32_t received_ = 0;
    std::uint64_t touched_ = 0;
    std::uint64_t excluded_ = 0;
};

std::unique_ptr<Reader> make_reader(PlainRead read) {
    switch (read) {
        case PlainRead::recvmsg:
            return std::make_unique<RecvmsgReader>();
        case PlainRead::recvmmsg:
            return std::make_unique<RecvmmsgReader>();
        case PlainRead::libnl:
            return std::make_unique<LibnlReader>(true);
        case PlainRead::libnl_no_peek:
            return std::make_unique<LibnlReader>(false);
    }
    throw std::logic_error("make_reader");
}

class Plain final : public Transport {
  public:
    Plain(const Producer& producer, int peer_family, const PlainUse& use)
        : producer_(producer), use_(use), reader_(make_reader(use.read)) {
        const bool nlmmap = use.group == PlainGroup::nlmmap;
        const int family = nlmmap ? nlmmap::family() : peer_family;
        const int group =
            nlmmap ? nlmmap::Socket().group(NLMMAP_BENCH_PLAIN_GROUP).id : NLMMAP_BENCH_PEER_GROUP;
        for (unsigned i = 0; i < use.members; ++i) {
            members_.emplace_back(family, group);
            if (nlmmap) wait_for_.push_back(members_.back().fd());
        }
        // So that the ioctl, which waits for the work item, is never chosen instead of it.
        if (nlmmap) set_policy(SCHED_IDLE);
    }
    ~Plain() override {
        if (use_.group == PlainGroup::nlmmap) set_policy(SCHED_OTHER);
    }

    Cost round(const Load& load) override {
        Cost cost;
        cost.produce = producer_.publish(
            use_.group == PlainGroup::nlmmap ? NLMMAP_BENCH_PLAIN : NLMMAP_BENCH_NETLINK, load,
            wait_for_);
        for (Member& member : members_) cost.consume += reader_->read(member, load);
        for (Member& member : members_) check_empty(member);
        return cost;
    }

  private:
    static void set_policy(int policy) {
        const sched_param none{};
        sched_setscheduler(0, policy, &none);
    }

    static void check_empty(const Member& member) {
        std::byte byte;
        if (recv(member.fd(), &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
            errno != EAGAIN)
            throw CheckFailed("more was delivered than was published");
    }

    const Producer& producer_;
    PlainUse use_;
    std::unique_ptr<Reader> reader_;
    std::vector<Member> members_;
    std::vector<int> wait_for_;
};

}  // namespace

std::unique_ptr<Transport> make_plain(const Producer& producer, int peer_family,
                                      const PlainUse& use) {
    return std::make_unique<Plain>(producer, peer_family, use);
}

}  // namespace nlmmap_bench
