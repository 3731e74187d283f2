// SPDX-License-Identifier: MIT
//
// Tries to write a ring's pages by the means that a debugger has, and by those
// that take hold of a program's pages to write them later: ptrace, /proc/PID/mem,
// process_vm_writev, vmsplice and splice, AIO, io_uring and its registered
// buffers, zero-copy sockets; and to keep pages beyond the ring's end.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/aio_abi.h>
#include <linux/if_xdp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/memory_attack.h"
#include "tests/hostile/uring.h"

namespace hostile {
namespace {

// What nobody else writes.
std::array<std::byte, 2 * kPage> marks() {
    std::array<std::byte, 2 * kPage> bytes{};
    bytes.fill(std::byte{0xa5});
    return bytes;
}

// Both ends of a pipe.
class Pipe {
  public:
    Pipe() {
        if (pipe2(fds_.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
            throw std::runtime_error("pipe2");
        }
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        close(fds_[0]);
        close(fds_[1]);
    }
    int out() const { return fds_[0]; }
    int in() const { return fds_[1]; }
    // Hands these pages over, as they are. Bytes taken, or -1.
    ssize_t lend(const std::byte* at, std::size_t bytes, unsigned flags) const {
        const iovec part{.iov_base = const_cast<std::byte*>(at), .iov_len = bytes};
        return vmsplice(in(), &part, 1, flags | SPLICE_F_NONBLOCK);
    }
    void fill() const {
        const auto bytes = marks();
        ASSERT_EQ(write(in(), bytes.data(), kPage), static_cast<ssize_t>(kPage));
    }
    std::vector<std::byte> drain() const {
        std::vector<std::byte> all(1 << 16);
        const ssize_t got = read(out(), all.data(), all.size());
        all.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return all;
    }

  private:
    std::array<int, 2> fds_{};
};

ssize_t write_to_process(pid_t pid, std::byte* at, std::size_t bytes) {
    auto from = marks();
    const iovec local{.iov_base = from.data(), .iov_len = bytes};
    const iovec remote{.iov_base = at, .iov_len = bytes};
    return process_vm_writev(pid, &local, 1, &remote, 1, 0);
}

class Debugger : public MemoryAttack {
  protected:
    void fill(OwnRing& ring) {
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 60});
        ring.remember();
    }
    // Where the kernel writes and nobody else.
    static std::vector<std::byte*> targets(const OwnRing& ring) {
        return {ring.rest(),
                ring.rest() + 64,
                ring.data(),
                ring.data() + 24,
                ring.data() + kPage - 8,
                ring.data() + ring.data_bytes(),
                ring.rest() + ring.rest_bytes() - 8};
    }
    void expect_live(OwnRing& ring) {
        EXPECT_EQ(ring.changed(), "");
        const std::uint64_t before = ring.producer_words().position;
        EXPECT_EQ(producer_.publish({.group = still_group_, .count = 2}).delivered, 2U);
        EXPECT_EQ(ring.producer_words().position, before + 2U * 88);
        EXPECT_EQ(rights_gained(ring.rest(), ring.rest_bytes(), false), "");
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Debugger);

TEST_P(Debugger, WritesNothingByPtrace) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        const pid_t child = fork();
        if (child == 0) {
            ring.map();
            ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            raise(SIGSTOP);
            _exit(0);
        }
        int status = 0;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSTOPPED(status));
        for (std::byte* at : targets(ring)) {
            for (const long request : {PTRACE_POKEDATA, PTRACE_POKETEXT}) {
                errno = 0;
                EXPECT_EQ(ptrace(static_cast<__ptrace_request>(request), child, at,
                                 reinterpret_cast<void*>(0xa5a5a5a5a5a5a5a5)),
                          -1);
                EXPECT_TRUE(errno == EIO || errno == EFAULT) << strerrorname_np(errno);
            }
            std::uint64_t word = 0;
            std::memcpy(&word, at, sizeof(word));
            errno = 0;
            EXPECT_EQ(static_cast<std::uint64_t>(ptrace(PTRACE_PEEKDATA, child, at, nullptr)),
                      word);
            EXPECT_EQ(errno, 0);
        }
        EXPECT_EQ(ring.changed(), "");
        // From the page that may be written over the border.
        EXPECT_EQ(ptrace(PTRACE_POKEDATA, child, ring.rest() - 4, reinterpret_cast<void*>(~0UL)),
                  -1);
        EXPECT_EQ(ring.changed(), "");
        EXPECT_EQ(
            ptrace(PTRACE_POKEDATA, child, ring.consumer() + 512, reinterpret_cast<void*>(77)), 0)
            << "the consumer's page is its own";
        EXPECT_EQ(ring.consumer()[512], std::byte{77});
        // And as if it did it itself.
        EXPECT_EQ(write_to_process(child, ring.data(), 64), -1);
        EXPECT_EQ(errno, EFAULT);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        expect_live(ring);
    });
}

TEST_P(Debugger, WritesNothingThroughMemoryFiles) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        const auto bytes = marks();
        const std::string other = "/proc/" + std::to_string(getpid()) + "/mem";
        for (const std::string& path :
             {std::string("/proc/self/mem"), other, std::string("/proc/thread-self/mem")}) {
            for (const int flags : {O_WRONLY, O_RDWR, O_RDWR | O_SYNC, O_RDWR | O_APPEND}) {
                const int memory = open(path.c_str(), flags | O_CLOEXEC);
                ASSERT_GE(memory, 0) << path;
                for (std::byte* at : targets(ring)) {
                    const auto offset = reinterpret_cast<off_t>(at);
                    EXPECT_EQ(pwrite(memory, bytes.data(), 8, offset), -1);
                    EXPECT_EQ(errno, EIO);
                    const iovec part{.iov_base = const_cast<std::byte*>(bytes.data()),
                                     .iov_len = 8};
                    EXPECT_EQ(pwritev(memory, &part, 1, offset), -1);
                    EXPECT_EQ(lseek(memory, offset, SEEK_SET), offset);
                    EXPECT_EQ(write(memory, bytes.data(), 8), -1);
                }
                // No further than the border.
                EXPECT_LE(
                    pwrite(memory, bytes.data(), 64, reinterpret_cast<off_t>(ring.rest() - 32)),
                    32);
                const Pipe pipe;
                pipe.fill();
                loff_t offset = reinterpret_cast<off_t>(ring.data());
                EXPECT_EQ(splice(pipe.out(), nullptr, memory, &offset, kPage, SPLICE_F_NONBLOCK),
                          -1);
                close(memory);
            }
        }
        expect_live(ring);
    });
}

TEST_P(Debugger, WritesNothingByProcessVmWritev) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        for (std::byte* at : targets(ring)) {
            for (const std::size_t bytes : {std::size_t{1}, std::size_t{8}, kPage}) {
                EXPECT_EQ(write_to_process(getpid(), at, bytes), -1);
                EXPECT_EQ(errno, EFAULT);
            }
        }
        EXPECT_LE(write_to_process(getpid(), ring.rest() - 32, 64), 32);
        // The local side is read; as the side that is written it must not be.
        const iovec ring_part{.iov_base = ring.data(), .iov_len = 64};
        auto own = marks();
        const iovec own_part{.iov_base = own.data(), .iov_len = 64};
        EXPECT_EQ(process_vm_readv(getpid(), &ring_part, 1, &own_part, 1, 0), -1);
        EXPECT_EQ(process_vm_writev(getpid(), &ring_part, 1, &own_part, 1, 0), 64);
        EXPECT_EQ(std::memcmp(own.data(), ring.data(), 64), 0);
        expect_live(ring);
    });
}

// Root may debug anybody, and then write what he himself may; nobody else may at all.
TEST_P(Debugger, OfAnotherReaderWritesNothingOfTheKernels) {
    OwnRing victim(kPage * 2);
    fill(victim);
    victim.consumer()[300] = std::byte{0x11};
    const pid_t reader = getpid();
    attack_in_flow([&] {
        const std::string path = "/proc/" + std::to_string(reader) + "/mem";
        const int memory = open(path.c_str(), O_RDWR | O_CLOEXEC);
        EXPECT_EQ(memory >= 0, privileged());
        const auto bytes = marks();
        for (std::byte* at : targets(victim)) {
            EXPECT_EQ(write_to_process(reader, at, 8), -1);
            EXPECT_EQ(errno, privileged() ? EFAULT : EPERM);
            EXPECT_EQ(pwrite(memory, bytes.data(), 8, reinterpret_cast<off_t>(at)), -1);
        }
        EXPECT_EQ(write_to_process(reader, victim.consumer() + 300, 1), privileged() ? 1 : -1);
        if (!privileged()) {
            std::array<std::byte, 8> stolen{};
            const iovec local{.iov_base = stolen.data(), .iov_len = stolen.size()};
            const iovec remote{.iov_base = victim.data(), .iov_len = stolen.size()};
            EXPECT_EQ(process_vm_readv(reader, &local, 1, &remote, 1, 0), -1);
            EXPECT_EQ(ptrace(PTRACE_SEIZE, reader, nullptr, nullptr), -1);
            const auto links =
                "/proc/" + std::to_string(reader) + "/fd/" + std::to_string(victim.fd());
            EXPECT_EQ(open(links.c_str(), O_RDWR), -1);
        }
    });
    EXPECT_EQ(victim.consumer()[300], (privileged() ? std::byte{0xa5} : std::byte{0x11}));
    expect_live(victim);
    victim.unmap();
    victim.socket().close();
}

// Into a pipe and out of it, by reference: what was lent is not what is written.
TEST_P(Debugger, WritesNothingBySplicing) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        fill(ring);
        const std::vector<std::byte> before(ring.data(), ring.data() + 2 * kPage);
        for (const unsigned flags : {0U, unsigned{SPLICE_F_GIFT}, unsigned{SPLICE_F_MOVE},
                                     unsigned{SPLICE_F_GIFT | SPLICE_F_MOVE | SPLICE_F_MORE}}) {
            // Parts of a page, which one may want to go on filling.
            for (const std::size_t bytes : {std::size_t{100}, kPage, 2 * kPage}) {
                const Pipe pipe;
                ASSERT_EQ(pipe.lend(ring.data(), bytes, flags), static_cast<ssize_t>(bytes));
                const auto more = marks();
                ASSERT_EQ(write(pipe.in(), more.data(), 200), 200);
                EXPECT_EQ(ring.changed(), "") << "a write to the pipe went on in the ring's page";
                const std::vector<std::byte> out = pipe.drain();
                ASSERT_EQ(out.size(), bytes + 200);
                EXPECT_EQ(std::memcmp(out.data(), before.data(), bytes), 0);
            }
            // Through a second pipe into a file, whose page it might become.
            const Pipe pipe;
            const Pipe twin;
            ASSERT_EQ(pipe.lend(ring.data(), kPage, flags), static_cast<ssize_t>(kPage));
            EXPECT_EQ(tee(pipe.out(), twin.in(), kPage, SPLICE_F_NONBLOCK),
                      static_cast<ssize_t>(kPage));
            const int file = memfd_create("spliced", MFD_CLOEXEC);
            ASSERT_GE(file, 0);
            EXPECT_EQ(splice(pipe.out(), nullptr, file, nullptr, kPage, flags),
                      static_cast<ssize_t>(kPage));
            const auto other = marks();
            EXPECT_EQ(pwrite(file, other.data(), kPage, 0), static_cast<ssize_t>(kPage));
            auto* view = static_cast<std::byte*>(
                mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
            ASSERT_NE(view, MAP_FAILED);
            std::memset(view, 0x5a, kPage);
            munmap(view, kPage);
            close(file);
            EXPECT_EQ(twin.drain(), std::vector<std::byte>(before.begin(), before.begin() + kPage));
        }
        // Out of a pipe, to where it may and may not be written.
        const Pipe pipe;
        for (std::byte* at : targets(ring)) {
            pipe.fill();
            const iovec part{.iov_base = at, .iov_len = 8};
            EXPECT_EQ(vmsplice(pipe.out(), &part, 1, SPLICE_F_NONBLOCK), -1);
            EXPECT_EQ(errno, EFAULT);
            EXPECT_EQ(read(pipe.out(), at, 8), -1);
            pipe.drain();
        }
        pipe.fill();
        const iovec part{.iov_base = ring.consumer(), .iov_len = kPage};
        EXPECT_GT(vmsplice(pipe.out(), &part, 1, SPLICE_F_NONBLOCK), 0) << "its own page";
        std::memset(ring.consumer(), 0, kPage);
        expect_live(ring);
    });
}

// A pipe holds pages of a ring that is gone: they are still what they were, and
// no one else's.
TEST_P(Debugger, KeepsPagesBeyondTheRingsEndForItselfAlone) {
    attack_in_flow([&] {
        const Pipe pipe;
        std::vector<std::byte> before;
        {
            OwnRing ring(kPage * 4);
            fill(ring);
            before.assign(ring.rest(), ring.rest() + ring.rest_bytes());
            ASSERT_EQ(pipe.lend(ring.rest(), ring.rest_bytes(), SPLICE_F_GIFT),
                      static_cast<ssize_t>(ring.rest_bytes()));
            ASSERT_EQ(pipe.lend(ring.consumer(), kPage, 0), static_cast<ssize_t>(kPage));
            ring.consumer()[8] = std::byte{0};
        }
        // Rings that would be given the same pages, if they were free.
        for (int i = 0; i < 6; ++i) {
            OwnRing next(kPage * 16);
            next.join(still_);
            EXPECT_EQ(next.producer_words().position, 0U);
            producer_.publish({.group = still_group_, .count = 700, .first_number = 1U << 20});
        }
        const std::vector<std::byte> after = pipe.drain();
        ASSERT_EQ(after.size(), before.size() + kPage);
        EXPECT_EQ(std::memcmp(after.data(), before.data(), before.size()), 0)
            << "pages that a pipe held were given to somebody else";
    });
}

TEST_P(Debugger, WritesNothingByAio) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        aio_context_t context = 0;
        ASSERT_EQ(syscall(SYS_io_setup, 8, &context), 0);
        const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        const int direct = open("/proc/self/exe", O_RDONLY | O_CLOEXEC | O_DIRECT);
        for (std::byte* at : targets(ring)) {
            for (const int fd : {zero, file, direct}) {
                if (fd < 0) {
                    continue;  // Not every file system has O_DIRECT.
                }
                iocb request{};
                request.aio_lio_opcode = IOCB_CMD_PREAD;
                request.aio_fildes = static_cast<std::uint32_t>(fd);
                request.aio_buf = reinterpret_cast<std::uint64_t>(at);
                request.aio_nbytes = 8;
                std::array<iocb*, 1> requests{&request};
                io_event event{};
                if (syscall(SYS_io_submit, context, 1, requests.data()) == 1) {
                    ASSERT_EQ(syscall(SYS_io_getevents, context, 1, 1, &event, nullptr), 1);
                    EXPECT_LT(event.res, 0) << "a file was read into the ring";
                }
                // The events themselves, into the ring.
                std::uint64_t own = 0;
                request.aio_buf = reinterpret_cast<std::uint64_t>(&own);
                ASSERT_EQ(syscall(SYS_io_submit, context, 1, requests.data()), 1);
                EXPECT_EQ(syscall(SYS_io_getevents, context, 1, 1, at, nullptr), -1);
                ASSERT_EQ(syscall(SYS_io_getevents, context, 1, 1, &event, nullptr), 1);
                EXPECT_EQ(pread(fd, at, 8, 0), -1);
            }
        }
        syscall(SYS_io_destroy, context);
        close(zero);
        close(file);
        close(direct);
        expect_live(ring);
    });
}

TEST_P(Debugger, WritesNothingByIoUring) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        fill(ring);
        Uring uring;
        for (std::byte* at : targets(ring)) {
            for (const auto& [what, result] : uring.read_into(at)) {
                EXPECT_LT(result, 0) << what << " wrote to the ring";
            }
        }
        EXPECT_EQ(ring.changed(), "");
        // Pages for the kernel to keep and write at any time.
        for (std::byte* at : {ring.rest(), ring.data(), ring.data() + ring.data_bytes()}) {
            EXPECT_LT(uring.register_buffer(at, kPage), 0);
            EXPECT_LT(uring.register_buffer_ring(at), 0);
            EXPECT_LT(Uring::make_on(at, ring.data()), 0) << "the queues lie in the ring now";
        }
        EXPECT_LT(uring.register_buffer(ring.consumer(), 2 * kPage), 0) << "over the border";
        EXPECT_LT(Uring::make_on(ring.consumer(), ring.data()), 0);
        EXPECT_LT(Uring::make_on(ring.data(), ring.consumer()), 0);
        expect_live(ring);
    });
}

// The consumer's page is one that the program may give to others to write: it is
// written while the ring lives, and when it is gone.
TEST_P(Debugger, WritesItsOwnPageByIoUringAndHurtsNobody) {
    attack_in_flow([&] {
        Uring uring;
        {
            OwnRing ring(kPage);
            ring.join(flow_->copied());
            ring.join(flow_->in_place());
            const int registered = uring.register_buffer(ring.consumer(), kPage);
            // Kernels before 6.5 keep no pages of files.
            EXPECT_TRUE(registered == 0 || registered == -EOPNOTSUPP) << registered;
            for (Rounds rounds(100, std::chrono::milliseconds(100)); rounds.more();) {
                for (const auto& [what, result] : uring.read_into(ring.consumer())) {
                    EXPECT_GE(result, registered == 0 || what != "READ_FIXED" ? 0 : -EFAULT)
                        << what << ": " << result;
                }
                guest::poll_now(ring.fd(), POLLIN);
            }
        }
        // The page is the program's alone now. Nobody else sees what is written there.
        OwnRing next(kPage);
        const std::vector<std::byte> fresh(next.consumer(), next.consumer() + kPage);
        uring.read_fixed();
        EXPECT_EQ(std::memcmp(next.consumer(), fresh.data(), kPage), 0);
        EXPECT_EQ(next.producer_words().position, 0U);
    });
}

// Registered for packets. Only root may make such a socket; one that he passed on is
// anybody's to use.
TEST_P(Debugger, GivesNoPagesToAnXdpSocket) {
    const int passed = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    ASSERT_GE(passed, 0) << "this kernel has no AF_XDP: " << strerrorname_np(errno);
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        fill(ring);
        const int own = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
        EXPECT_TRUE(privileged() ? own >= 0 : own == -1 && errno == EPERM)
            << own << ", " << strerrorname_np(errno);
        for (const int xdp : {passed, own}) {
            for (std::byte* at : {ring.rest(), ring.data()}) {
                xdp_umem_reg memory{};
                memory.addr = reinterpret_cast<std::uint64_t>(at);
                memory.len = 2 * kPage;
                memory.chunk_size = kPage;
                EXPECT_EQ(setsockopt(xdp, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)), -1);
                EXPECT_EQ(errno, xdp >= 0 ? EFAULT : EBADF) << strerrorname_np(errno);
            }
        }
        close(own);
        expect_live(ring);
    });
    close(passed);
}

// Pages that are sent without a copy arrive as they were, though the ring is gone.
TEST_P(Debugger, SendsPagesWithoutACopyBeyondTheRingsEnd) {
    attack_in_flow([&] {
        const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int sending = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t bytes = sizeof(address);
        ASSERT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&address), bytes), 0);
        ASSERT_EQ(listen(listening, 1), 0);
        ASSERT_EQ(getsockname(listening, reinterpret_cast<sockaddr*>(&address), &bytes), 0);
        ASSERT_EQ(connect(sending, reinterpret_cast<sockaddr*>(&address), bytes), 0);
        const int receiving = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
        ASSERT_GE(receiving, 0);
        const int on = 1;
        EXPECT_EQ(setsockopt(sending, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0);
        std::vector<std::byte> sent;
        {
            OwnRing ring(kPage * 4);
            fill(ring);
            // What the kernel writes later would be seen by the receiver, too.
            expect_live(ring);
            const Pipe pipe;
            ASSERT_EQ(pipe.lend(ring.data(), 2 * kPage, 0), static_cast<ssize_t>(2 * kPage));
            ASSERT_EQ(splice(pipe.out(), nullptr, sending, nullptr, 2 * kPage, 0),
                      static_cast<ssize_t>(2 * kPage));
            sent.assign(ring.data(), ring.data() + 2 * kPage);
            ASSERT_EQ(send(sending, ring.data(), 2 * kPage, MSG_ZEROCOPY),
                      static_cast<ssize_t>(2 * kPage));
            sent.insert(sent.end(), ring.data(), ring.data() + 2 * kPage);
            EXPECT_EQ(recv(receiving, ring.data(), kPage, MSG_DONTWAIT), -1);
        }
        OwnRing next(kPage * 4);
        next.join(still_);
        producer_.publish({.group = still_group_, .count = 100, .first_number = 1U << 20});
        // What lies in whole pages may be mapped rather than copied; but to read.
        auto* view =
            static_cast<std::byte*>(mmap(nullptr, 2 * kPage, PROT_READ, MAP_SHARED, receiving, 0));
        ASSERT_NE(view, MAP_FAILED);
        tcp_zerocopy_receive mapped{};
        mapped.address = reinterpret_cast<std::uint64_t>(view);
        mapped.length = 2 * kPage;
        socklen_t length = sizeof(mapped);
        ASSERT_EQ(getsockopt(receiving, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &mapped, &length), 0);
        EXPECT_EQ(mapped.length, 2 * kPage) << "the pages themselves did not arrive";
        EXPECT_EQ(std::memcmp(view, sent.data(), mapped.length), 0);
        EXPECT_EQ(mprotect(view, 2 * kPage, PROT_READ | PROT_WRITE), -1);
        EXPECT_EQ(write_to_process(getpid(), view, 8), -1);
        std::vector<std::byte> received(sent.size() - mapped.length);
        EXPECT_EQ(recv(receiving, received.data(), received.size(), MSG_WAITALL),
                  static_cast<ssize_t>(received.size()));
        EXPECT_EQ(std::memcmp(received.data(), sent.data() + mapped.length, received.size()), 0);
        munmap(view, 2 * kPage);
        for (const int fd : {listening, sending, receiving}) {
            close(fd);
        }
    });
}

}  // namespace
}  // namespace hostile
