// SPDX-License-Identifier: MIT
//
// Rings for programs that know nothing of them: `nlmmap run` has this loaded before libc, and these
// functions stand in for libc's. A netlink socket that begins to listen to a group gets a ring, and
// what receives from it reads the ring. All other descriptors go straight on to libc; a socket that
// only asks and is answered costs one look into a table for each call.
//
// Nothing here may break a program: where attaching fails, one line on standard error says why, and
// the program goes on with the socket as it is. Only if the kernel made the ring and had no memory
// for mapping it does the socket answer EBUSY, until receiving finds that it can be mapped.
//
// NLMMAP_RUN in the environment, set by `nlmmap run`: "BYTES[,quiet][,all]"; all: every netlink
// socket, when it is first received from.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <nlmmap/nlmmap.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

#include "attached.hpp"

namespace {

namespace detail = nlmmap::detail;

// libc's own, found when first needed: other libraries' constructors may run before ours.
template <typename Function>
class Real {
  public:
    explicit constexpr Real(const char* name) noexcept : name_(name) {}

    template <typename... Arguments>
    auto operator()(Arguments... arguments) {
        return find()(arguments...);
    }
    Function* find() noexcept {
        Function* found = found_.load(std::memory_order_relaxed);
        if (found == nullptr) {
            found = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name_));
            if (found == nullptr) std::abort();
            found_.store(found, std::memory_order_relaxed);
        }
        return found;
    }

  private:
    const char* name_;
    std::atomic<Function*> found_{nullptr};
};

constinit Real<int(int, sockaddr*, socklen_t*)> real_accept("accept");
constinit Real<int(int, sockaddr*, socklen_t*, int)> real_accept4("accept4");
constinit Real<int(int, const sockaddr*, socklen_t)> real_bind("bind");
constinit Real<int(int)> real_close("close");
constinit Real<int(unsigned, unsigned, int)> real_close_range("close_range");
constinit Real<int(int)> real_dup("dup");
constinit Real<int(int, int)> real_dup2("dup2");
constinit Real<int(int, int, int)> real_dup3("dup3");
constinit Real<int(int, int, ...)> real_fcntl("fcntl");
constinit Real<int(int, int, ...)> real_fcntl64("fcntl64");
constinit Real<ssize_t(int, void*, size_t)> real_read("read");
constinit Real<ssize_t(int, const iovec*, int)> real_readv("readv");
constinit Real<ssize_t(int, void*, size_t, int)> real_recv("recv");
constinit Real<ssize_t(int, void*, size_t, int, sockaddr*, socklen_t*)> real_recvfrom("recvfrom");
constinit Real<int(int, mmsghdr*, unsigned, int, timespec*)> real_recvmmsg("recvmmsg");
constinit Real<ssize_t(int, msghdr*, int)> real_recvmsg("recvmsg");
constinit Real<int(int, int, int, const void*, socklen_t)> real_setsockopt("setsockopt");
constinit Real<int(int, int, int)> real_socket("socket");
constinit Real<int(int, int, int, int*)> real_socketpair("socketpair");

// In the library's own calls, which are none of the program's.
thread_local unsigned inside = 0;

class Inside {
  public:
    Inside() noexcept { ++inside; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    ~Inside() { --inside; }
};

// What the program's netlink sockets are, by descriptor. Numbers beyond stay as they are.
enum class Kind : std::uint8_t {
    other,     // no netlink socket that we saw being opened
    asking,    // listens to no group
    attached,  // has a ring, or was refused one
};
constinit std::array<std::atomic<Kind>, 1 << 16> kinds{};

std::atomic<Kind>* kind_of(int fd) noexcept {
    return static_cast<unsigned>(fd) < kinds.size() ? &kinds[static_cast<unsigned>(fd)] : nullptr;
}

void set_kind(int fd, Kind kind) noexcept {
    if (std::atomic<Kind>* const place = kind_of(fd)) place->store(kind, std::memory_order_relaxed);
}

bool is_asking(int fd) noexcept {
    const std::atomic<Kind>* const place = kind_of(fd);
    return place != nullptr && place->load(std::memory_order_relaxed) == Kind::asking;
}

// True for one thread.
bool stops_asking(int fd) noexcept {
    std::atomic<Kind>* const place = kind_of(fd);
    Kind expected = Kind::asking;
    return place != nullptr && place->compare_exchange_strong(expected, Kind::attached);
}

struct Wishes {
    std::size_t ring_bytes = std::size_t{1} << 20;
    bool quiet = false;
    bool all = false;
};

const Wishes& wishes() noexcept {
    static const Wishes wished = [] {
        Wishes read;
        const char* const text = std::getenv("NLMMAP_RUN");
        if (text == nullptr) return read;
        char* rest = nullptr;
        read.ring_bytes = std::strtoull(text, &rest, 10);
        const std::string_view words(rest);
        read.quiet = words.find(",quiet") != std::string_view::npos;
        read.all = words.find(",all") != std::string_view::npos;
        return read;
    }();
    return wished;
}

void prepare();

// Why the descriptor is not read from a ring.
void complain(int fd, const char* what, const char* why) noexcept {
    std::array<char, 640> line{};
    const int bytes = std::snprintf(line.data(), line.size(), "nlmmap run: descriptor %d %s: %s\n",
                                    fd, what, why);
    // If even that cannot be said, there is nobody to tell.
    if (bytes > 0) [[maybe_unused]]
        const ssize_t written = ::write(STDERR_FILENO, line.data(),
                                        std::min(static_cast<std::size_t>(bytes), line.size() - 1));
}

void attach_if_possible(int fd) {
    if (!stops_asking(fd)) return;
    const int saved = errno;
    const Inside in;
    prepare();
    if (::nlmmap_attach(fd, wishes().ring_bytes) != 0) {
        std::array<char, 512> why{};
        std::strncpy(why.data(), ::nlmmap_error(), why.size() - 1);
        // The kernel may have made a ring all the same, and another thread found it.
        const bool adopted = ::nlmmap_adopt(fd) == 0 || ::nlmmap_is_attached(fd) != 0;
        const bool has_none = errno != ENOMEM && errno != EACCES;
        if (!adopted && !wishes().quiet)
            complain(fd, has_none ? "stays without a ring" : "has a ring that cannot be mapped",
                     why.data());
    }
    errno = saved;
}

// Before the program receives: does the descriptor have a ring?
bool has_ring(int fd) {
    if (::nlmmap_is_attached(fd) != 0) return inside == 0;
    if (is_asking(fd) && inside == 0 && wishes().all) {
        attach_if_possible(fd);
        return ::nlmmap_is_attached(fd) != 0;
    }
    return false;
}

// After libc's call said EBUSY, which no other socket does: this program was started by another one
// that attached a ring to the descriptor. True if it can be read now.
bool take_over(int fd) {
    if (errno != EBUSY || inside != 0) return false;
    int domain = 0;
    socklen_t bytes = sizeof(domain);
    const Inside in;
    prepare();
    // Or another thread attached it while this one was waiting there.
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 || domain != AF_NETLINK ||
        (::nlmmap_adopt(fd) != 0 && ::nlmmap_is_attached(fd) == 0)) {
        errno = EBUSY;
        return false;
    }
    set_kind(fd, Kind::attached);
    return true;
}

// After vfork() the child has its parent's memory, but descriptors of its own: what it closes stays
// open here.
std::atomic<pid_t> owner{0};

bool is_owner() noexcept { return owner.load(std::memory_order_relaxed) == ::getpid(); }

void closed(int fd) {
    if (::nlmmap_is_attached(fd) != 0) {
        if (!is_owner()) return;
        detail::forget(fd);
    }
    if (std::atomic<Kind>* const place = kind_of(fd);
        place != nullptr && place->load(std::memory_order_relaxed) != Kind::other && is_owner())
        place->store(Kind::other, std::memory_order_relaxed);
}

void duplicated(int from, int to) {
    if (to < 0 || from == to || inside != 0) return;
    const std::atomic<Kind>* const place = kind_of(from);
    const Kind kind = place != nullptr ? place->load(std::memory_order_relaxed) : Kind::other;
    if (kind == Kind::other && ::nlmmap_is_attached(from) == 0 && ::nlmmap_is_attached(to) == 0) {
        if (const std::atomic<Kind>* const old = kind_of(to);
            old == nullptr || old->load(std::memory_order_relaxed) == Kind::other)
            return;
    }
    if (!is_owner()) return;
    detail::alias(from, to);
    set_kind(to, kind);
}

// Before the first ring: another library's constructor, which runs before ours, may want one.
void prepare() {
    static const bool done = [] {
        owner = ::getpid();
        ::pthread_atfork(nullptr, nullptr, [] { owner = ::getpid(); });
        detail::plain = {.recvmsg = real_recvmsg.find(),
                         .recvfrom = real_recvfrom.find(),
                         .recvmmsg = real_recvmmsg.find(),
                         .setsockopt = real_setsockopt.find(),
                         .close = real_close.find()};
        return true;
    }();
    static_cast<void>(done);
}

__attribute__((constructor)) void begin() {
    prepare();
    // What may be called in a signal handler must not be searched there.
    real_read.find();
    real_readv.find();
    real_recv.find();
    wishes();
}

// Before a read(), which files of every kind have: the number may have been closed in a way that is
// not seen here, by stdio or past libc, and be another file's. What only sockets have need not ask,
// because new sockets are seen.
bool has_ring_for_sure(int fd) {
    if (!has_ring(fd)) return false;
    const int saved = errno;
    detail::forget_stale(fd);
    errno = saved;
    return has_ring(fd);
}

// A number that libc just gave out: if it had a ring, then it was closed unseen.
int opened(int fd) {
    if (fd >= 0 && inside == 0) closed(fd);
    return fd;
}

constexpr std::size_t sum_of(std::span<const iovec> parts) noexcept {
    std::size_t bytes = 0;
    for (const iovec& part : parts) bytes += part.iov_len;
    return bytes;
}

}  // namespace

extern "C" {

[[noreturn]] void __chk_fail(void);
#pragma GCC visibility push(default)

int socket(int domain, int type, int protocol) {
    const int fd = opened(real_socket(domain, type, protocol));
    if (fd >= 0 && inside == 0 && domain == AF_NETLINK) set_kind(fd, Kind::asking);
    return fd;
}

int socketpair(int domain, int type, int protocol, int* pair) {
    const int result = real_socketpair(domain, type, protocol, pair);
    if (result == 0) {
        opened(pair[0]);
        opened(pair[1]);
    }
    return result;
}

int accept(int fd, sockaddr* address, socklen_t* bytes) {
    return opened(real_accept(fd, address, bytes));
}

int accept4(int fd, sockaddr* address, socklen_t* bytes, int flags) {
    return opened(real_accept4(fd, address, bytes, flags));
}

int bind(int fd, const sockaddr* address, socklen_t bytes) {
    const int result = real_bind(fd, address, bytes);
    if (result == 0 && is_asking(fd) && inside == 0 && bytes >= sizeof(sockaddr_nl)) {
        sockaddr_nl named{};
        std::memcpy(&named, address, sizeof(named));
        if (named.nl_groups != 0) attach_if_possible(fd);
    }
    return result;
}

int setsockopt(int fd, int level, int option, const void* value, socklen_t bytes) {
    const int result = real_setsockopt(fd, level, option, value, bytes);
    if (result != 0 || inside != 0) return result;
    if (level == SOL_NETLINK && option == NETLINK_ADD_MEMBERSHIP && is_asking(fd))
        attach_if_possible(fd);
    else if (::nlmmap_is_attached(fd) != 0)
        detail::options_changed(fd, level, option, value, bytes);
    return result;
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
    if (!has_ring(fd)) {
        const ssize_t received = real_recvmsg(fd, message, flags);
        if (received >= 0 || !take_over(fd)) return received;
    }
    return ::nlmmap_recvmsg(fd, message, flags);
}

ssize_t recvfrom(int fd, void* buffer, size_t bytes, int flags, sockaddr* address,
                 socklen_t* address_bytes) {
    if (!has_ring(fd)) {
        const ssize_t received = real_recvfrom(fd, buffer, bytes, flags, address, address_bytes);
        if (received >= 0 || !take_over(fd)) return received;
    }
    return ::nlmmap_recvfrom(fd, buffer, bytes, flags, address, address_bytes);
}

ssize_t recv(int fd, void* buffer, size_t bytes, int flags) {
    if (!has_ring(fd)) {
        const ssize_t received = real_recv(fd, buffer, bytes, flags);
        if (received >= 0 || !take_over(fd)) return received;
    }
    return ::nlmmap_recv(fd, buffer, bytes, flags);
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
    if (!has_ring(fd)) {
        const int received = real_recvmmsg(fd, messages, count, flags, timeout);
        if (received >= 0 || !take_over(fd)) return received;
    }
    return ::nlmmap_recvmmsg(fd, messages, count, flags, timeout);
}

ssize_t read(int fd, void* buffer, size_t bytes) {
    if (!has_ring_for_sure(fd)) {
        const ssize_t received = real_read(fd, buffer, bytes);
        if (received >= 0 || !take_over(fd)) return received;
    }
    // A read() of nothing leaves the socket alone.
    return bytes != 0 ? ::nlmmap_recv(fd, buffer, bytes, 0) : 0;
}

ssize_t readv(int fd, const iovec* parts, int count) {
    if (!has_ring_for_sure(fd)) {
        const ssize_t received = real_readv(fd, parts, count);
        if (received >= 0 || !take_over(fd)) return received;
    }
    if (count < 0 || count > UIO_MAXIOV) {
        errno = EINVAL;
        return -1;
    }
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<std::size_t>(count);
    if (sum_of({parts, message.msg_iovlen}) == 0) return 0;
    return ::nlmmap_recvmsg(fd, &message, 0);
}

// What _FORTIFY_SOURCE makes of them.
ssize_t __recv_chk(int fd, void* buffer, size_t bytes, size_t room, int flags) {
    if (bytes > room) __chk_fail();
    return recv(fd, buffer, bytes, flags);
}

ssize_t __recvfrom_chk(int fd, void* buffer, size_t bytes, size_t room, int flags,
                       sockaddr* address, socklen_t* address_bytes) {
    if (bytes > room) __chk_fail();
    return recvfrom(fd, buffer, bytes, flags, address, address_bytes);
}

ssize_t __read_chk(int fd, void* buffer, size_t bytes, size_t room) {
    if (bytes > room) __chk_fail();
    return read(fd, buffer, bytes);
}

int close(int fd) {
    if (inside != 0) return real_close(fd);
    const std::atomic<Kind>* const place = kind_of(fd);
    const bool was_netlink =
        place != nullptr && place->load(std::memory_order_relaxed) != Kind::other;
    closed(fd);
    const int result = real_close(fd);
    // Another thread may have got its ring between the two.
    if (was_netlink && detail::is_perhaps_registered(fd) && is_owner()) {
        const int saved = errno;
        detail::forget_stale(fd);
        errno = saved;
    }
    return result;
}

int close_range(unsigned first, unsigned last, int flags) noexcept {
    if (inside == 0 && (static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0 && is_owner()) {
        detail::forget_range(first, last);
        for (std::size_t fd = first; fd <= last && fd < kinds.size(); ++fd)
            set_kind(static_cast<int>(fd), Kind::other);
    }
    return real_close_range(first, last, flags);
}

void closefrom(int first) noexcept {
    // Without libc's fallback for kernels that are too old for us.
    close_range(first < 0 ? 0 : static_cast<unsigned>(first), UINT_MAX, 0);
}

int dup(int fd) noexcept {
    const int copy = real_dup(fd);
    duplicated(fd, copy);
    return copy;
}

int dup2(int fd, int copy) noexcept {
    const int result = real_dup2(fd, copy);
    duplicated(fd, result);
    return result;
}

int dup3(int fd, int copy, int flags) noexcept {
    const int result = real_dup3(fd, copy, flags);
    duplicated(fd, result);
    return result;
}

// Every command takes at most one argument, an int or a pointer: as a long it arrives whole.
int fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    const long argument = va_arg(arguments, long);
    va_end(arguments);
    const int result = real_fcntl(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) duplicated(fd, result);
    return result;
}

int fcntl64(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    const long argument = va_arg(arguments, long);
    va_end(arguments);
    const int result = real_fcntl64(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) duplicated(fd, result);
    return result;
}

#pragma GCC visibility pop
}
