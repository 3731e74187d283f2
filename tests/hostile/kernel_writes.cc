// SPDX-License-Identifier: MIT
#include "tests/hostile/kernel_writes.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <system_error>

#include "tests/guest/raw_netlink.h"

namespace hostile {
namespace {

constexpr unsigned kRseqSignature = 0x53053053;
constexpr unsigned kRseqBytes = 32;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

// Two connected sockets, of which the second has something to read.
struct Pair {
    Pair() {
        const std::array<char, 48> bytes{1, 2, 3};
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds.data()) != 0 ||
            send(fds[0], bytes.data(), bytes.size(), 0) < 0) {
            fail("socketpair");
        }
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() {
        close(fds[0]);
        close(fds[1]);
    }
    std::array<int, 2> fds{};
};

struct Opened {
    explicit Opened(int descriptor) : fd(descriptor) {
        if (fd < 0) {
            fail("open");
        }
    }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;
    ~Opened() { close(fd); }
    int fd;
};

template <typename... Arguments>
int errno_of(long number, Arguments... arguments) {
    return syscall(number, arguments...) < 0 ? errno : 0;
}

// recvmsg() that answers into one of the message's parts.
int receive(const std::function<void(msghdr&, iovec&)>& place) {
    const Pair pair;
    std::array<char, 64> bytes{};
    iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    place(message, part);
    return errno_of(SYS_recvmsg, pair.fds[1], &message, 0);
}

// The module's own answer to a request.
int receive_answer(std::byte* at) {
    const guest::RawSocket socket;
    guest::Request request(NLMMAP_MSG_SOCKET_GET);
    if (send(socket.fd(), request.bytes().data(), request.bytes().size(), 0) < 0) {
        return errno;
    }
    return errno_of(SYS_recvfrom, socket.fd(), at, 200, 0, nullptr, nullptr);
}

int wait_for_a_child(std::byte* at) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(0x5a);
    }
    const int error = errno_of(SYS_wait4, child, at, 0, nullptr);
    if (error != 0) {
        waitpid(child, nullptr, 0);  // ECHILD if it is gone already
    }
    return error;
}

int epoll(std::byte* at) {
    const Pair pair;
    const Opened set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN, .data = {.u64 = ~std::uint64_t{0}}};
    if (epoll_ctl(set.fd, EPOLL_CTL_ADD, pair.fds[1], &event) != 0) {
        fail("epoll_ctl");
    }
    return errno_of(SYS_epoll_wait, set.fd, at, 4, 0);
}

// What it asks for is read there first: so a pointer that may only be read gets
// as far as it can.
int poll_there(std::byte* at) { return errno_of(SYS_poll, at, 4, 0); }

std::vector<KernelWrite> make_kernel_writes() {
    std::vector<KernelWrite> calls{
        {"read /dev/zero",
         [](std::byte* at) {
             const Opened zero(open("/dev/zero", O_RDONLY | O_CLOEXEC));
             return errno_of(SYS_read, zero.fd, at, 16);
         }},
        {"pread of a file",
         [](std::byte* at) {
             const Opened file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
             return errno_of(SYS_pread64, file.fd, at, 200, 0);
         }},
        {"preadv2",
         [](std::byte* at) {
             const Opened file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
             const iovec part{.iov_base = at, .iov_len = 24};
             return errno_of(SYS_preadv2, file.fd, &part, 1, 1, 0, 0);
         }},
        {"read of /proc/self/status",
         [](std::byte* at) {
             const Opened file(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
             return errno_of(SYS_read, file.fd, at, 8);
         }},
        {"recv",
         [](std::byte* at) {
             return receive([&](msghdr&, iovec& part) { part = {.iov_base = at, .iov_len = 24}; });
         }},
        {"recvfrom's address length",
         [](std::byte* at) {
             const Pair pair;
             std::array<char, 64> bytes{};
             sockaddr_storage address{};
             return errno_of(SYS_recvfrom, pair.fds[1], bytes.data(), bytes.size(), 0, &address,
                             at);
         }},
        {"the module's answer", receive_answer},
        {"getsockname",
         [](std::byte* at) {
             const guest::RawSocket socket;
             socklen_t bytes = 12;
             return errno_of(SYS_getsockname, socket.fd(), at, &bytes);
         }},
        {"getsockopt",
         [](std::byte* at) {
             const Pair pair;
             socklen_t bytes = 4;
             return errno_of(SYS_getsockopt, pair.fds[0], SOL_SOCKET, SO_TYPE, at, &bytes);
         }},
        {"ioctl FIONREAD",
         [](std::byte* at) {
             const Pair pair;
             return errno_of(SYS_ioctl, pair.fds[1], FIONREAD, at);
         }},
        {"fcntl F_GETLK",
         [](std::byte* at) {
             const Pair pair;
             return errno_of(SYS_fcntl, pair.fds[1], F_GETOWN_EX, at);
         }},
        {"socketpair",
         [](std::byte* at) {
             // The numbers, if they were written, are closed again.
             const int error = errno_of(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, at);
             if (error == 0) {
                 std::array<int, 2> fds{};
                 std::memcpy(fds.data(), at, sizeof(fds));
                 close(fds[0]);
                 close(fds[1]);
             }
             return error;
         }},
        {"pipe2",
         [](std::byte* at) {
             const int error = errno_of(SYS_pipe2, at, O_CLOEXEC);
             if (error == 0) {
                 std::array<int, 2> fds{};
                 std::memcpy(fds.data(), at, sizeof(fds));
                 close(fds[0]);
                 close(fds[1]);
             }
             return error;
         }},
        {"epoll_wait", epoll},
        {"wait4's status", wait_for_a_child},
    };
    const std::vector<KernelWrite> simple{
        {"getrandom", [](std::byte* at) { return errno_of(SYS_getrandom, at, 24, 0); }},
        {"clock_gettime",
         [](std::byte* at) { return errno_of(SYS_clock_gettime, CLOCK_MONOTONIC, at); }},
        {"gettimeofday", [](std::byte* at) { return errno_of(SYS_gettimeofday, at, nullptr); }},
        {"time", [](std::byte* at) { return errno_of(SYS_time, at); }},
        {"times", [](std::byte* at) { return errno_of(SYS_times, at); }},
        {"sysinfo", [](std::byte* at) { return errno_of(SYS_sysinfo, at); }},
        {"getrusage", [](std::byte* at) { return errno_of(SYS_getrusage, RUSAGE_SELF, at); }},
        {"prlimit",
         [](std::byte* at) { return errno_of(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, at); }},
        {"getcwd", [](std::byte* at) { return errno_of(SYS_getcwd, at, 64); }},
        {"stat", [](std::byte* at) { return errno_of(SYS_stat, "/", at); }},
        {"statx",
         [](std::byte* at) {
             return errno_of(SYS_statx, AT_FDCWD, "/", 0, STATX_BASIC_STATS, at);
         }},
        {"statfs", [](std::byte* at) { return errno_of(SYS_statfs, "/", at); }},
        {"readlink",
         [](std::byte* at) { return errno_of(SYS_readlink, "/proc/self/exe", at, 64); }},
        {"sched_getaffinity",
         [](std::byte* at) { return errno_of(SYS_sched_getaffinity, 0, 64, at); }},
        {"sched_getparam", [](std::byte* at) { return errno_of(SYS_sched_getparam, 0, at); }},
        {"getcpu", [](std::byte* at) { return errno_of(SYS_getcpu, at, nullptr, nullptr); }},
        {"rt_sigprocmask",
         [](std::byte* at) { return errno_of(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, at, 8); }},
        {"rt_sigaction",
         [](std::byte* at) { return errno_of(SYS_rt_sigaction, SIGUSR2, nullptr, at, 8); }},
        {"rt_sigpending", [](std::byte* at) { return errno_of(SYS_rt_sigpending, at, 8); }},
        {"sigaltstack", [](std::byte* at) { return errno_of(SYS_sigaltstack, nullptr, at); }},
        {"getitimer", [](std::byte* at) { return errno_of(SYS_getitimer, 0, at); }},
        {"getresuid", [](std::byte* at) { return errno_of(SYS_getresuid, at, at + 4, at + 8); }},
        {"prctl PR_GET_NAME", [](std::byte* at) { return errno_of(SYS_prctl, 16, at); }},
        {"poll's events", poll_there},
        {"arch_prctl ARCH_GET_FS",
         [](std::byte* at) { return errno_of(SYS_arch_prctl, 0x1003, at); }},
    };
    calls.insert(calls.end(), simple.begin(), simple.end());
    return calls;
}

// What a task of the same memory needs: a stack. It uses nothing of the C library
// that belongs to a thread.
class SharedTask {
  public:
    SharedTask(int (*code)(void*), void* argument, int flags, std::byte* id)
        : child_(clone(code, stack_.data() + stack_.size(), CLONE_VM | SIGCHLD | flags, argument,
                       id, nullptr, id)) {
        if (child_ < 0) {
            fail("clone(CLONE_VM)");
        }
    }
    SharedTask(const SharedTask&) = delete;
    SharedTask& operator=(const SharedTask&) = delete;
    ~SharedTask() { waitpid(child_, nullptr, 0); }

  private:
    alignas(16) std::array<char, 65536> stack_{};
    pid_t child_;
};

struct RobustLock {
    const std::function<std::byte*(pid_t)>* word_of;
    robust_list entry;
    robust_list_head head;
};

}  // namespace

const std::vector<KernelWrite>& kernel_writes() {
    static const std::vector<KernelWrite> calls = make_kernel_writes();
    return calls;
}

long futex(std::byte* at, int operation) {
    std::uint32_t own = 0;
    const bool wakes = (operation & FUTEX_CMD_MASK) == FUTEX_WAKE_OP;
    // *at += 1, or the word itself is the lock.
    return syscall(SYS_futex, wakes ? static_cast<void*>(&own) : at, operation, 1, nullptr, at,
                   FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
}

void end_a_task_with_its_id_at(std::byte* at) {
    const SharedTask task([](void*) { return 0; }, nullptr,
                          CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_PARENT_SETTID, at);
}

void end_a_task_with_a_robust_lock_at(const std::function<std::byte*(pid_t)>& word_of) {
    RobustLock lock{.word_of = &word_of, .entry = {}, .head = {}};
    const SharedTask task(
        [](void* argument) {
            auto* lock = static_cast<RobustLock*>(argument);
            const auto id = static_cast<pid_t>(syscall(SYS_gettid));
            lock->entry.next = &lock->head.list;
            lock->head.list.next = &lock->entry;
            lock->head.futex_offset =
                (*lock->word_of)(id) - reinterpret_cast<std::byte*>(&lock->entry);
            return syscall(SYS_set_robust_list, &lock->head, sizeof(lock->head)) == 0 ? 0 : 1;
        },
        &lock, 0, nullptr);
}

void take_a_signal_on(std::byte* stack, std::size_t bytes) {
    stack_t own{};
    own.ss_sp = stack;
    own.ss_size = bytes;
    struct sigaction action{};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_ONSTACK;
    if (sigaltstack(&own, nullptr) != 0 || sigaction(SIGUSR1, &action, nullptr) != 0) {
        fail("sigaltstack");
    }
    raise(SIGUSR1);
    own.ss_flags = SS_DISABLE;
    sigaltstack(&own, nullptr);
}

int register_thread_area(std::byte* at) {
    if (__rseq_size != 0) {
        auto* before = static_cast<std::byte*>(__builtin_thread_pointer()) + __rseq_offset;
        if (syscall(SYS_rseq, before, kRseqBytes, RSEQ_FLAG_UNREGISTER, kRseqSignature) != 0) {
            fail("giving up the C library's rseq");
        }
    }
    return errno_of(SYS_rseq, at, kRseqBytes, 0, kRseqSignature);
}

}  // namespace hostile
