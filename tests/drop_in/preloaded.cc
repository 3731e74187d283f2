// SPDX-License-Identifier: MIT
//
// A program that knows nothing of rings, to be started by `nlmmap run`: receives from its netlink
// sockets by every one of libc's functions, and does with their descriptors what programs do.
// Prints KTAP. `preloaded inherited FD NUMBER` is how it starts itself: a program that inherits a
// socket.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

// What _FORTIFY_SOURCE calls; declared by the headers only where it is on.
extern "C" {
ssize_t __recv_chk(int fd, void* buffer, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void* buffer, size_t bytes, size_t room, int flags,
                       sockaddr* address, socklen_t* address_bytes);
ssize_t __read_chk(int fd, void* buffer, size_t bytes, size_t room);
}

namespace {

std::array<char, 8192> buffer;
std::uint32_t next_number = 0;

int route_socket(unsigned groups) {
    const int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        std::perror("Bail out! netlink socket");
        std::exit(1);
    }
    return fd;
}

constexpr unsigned kAddresses = 1U << (RTNLGRP_IPV4_IFADDR - 1);

// Makes rtnetlink say something: the number of the address that was added.
std::uint32_t make_event(int fd) {
    struct {
        nlmsghdr header;
        ifaddrmsg fixed;
        rtattr attribute;
        std::uint32_t address;
    } request{};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = RTM_NEWADDR;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    request.fixed.ifa_family = AF_INET;
    request.fixed.ifa_prefixlen = 32;
    request.fixed.ifa_index = 1;
    request.attribute.rta_len = RTA_LENGTH(sizeof(request.address));
    request.attribute.rta_type = IFA_LOCAL;
    const std::uint32_t number = next_number++;
    request.address = htonl(0x7f400000 + number + (static_cast<std::uint32_t>(getpid()) << 8));
    // The answer comes by another way than what is tested.
    if (send(fd, &request, sizeof(request), 0) != sizeof(request) ||
        syscall(SYS_recvfrom, fd, buffer.data(), buffer.size(), 0, nullptr, nullptr) < 0) {
        std::perror("Bail out! adding an address");
        std::exit(1);
    }
    return number;
}

bool is_event(ssize_t bytes, const void* data = buffer.data()) {
    nlmsghdr header;
    if (bytes < static_cast<ssize_t>(sizeof(header))) return false;
    std::memcpy(&header, data, sizeof(header));
    return header.nlmsg_type == RTM_NEWADDR;
}

// Whether the kernel has put a ring there, which a system call past libc finds out.
bool has_ring(int fd) {
    errno = 0;
    return syscall(SYS_recvfrom, fd, buffer.data(), buffer.size(), MSG_DONTWAIT, nullptr, nullptr) <
               0 &&
           errno == EBUSY;
}

int cases = 0;
int failures = 0;

void check(const char* name, bool holds) {
    const int errnum = errno;
    ++cases;
    failures += holds ? 0 : 1;
    std::printf("%s %d - %s\n", holds ? "ok" : "not ok", cases, name);
    if (!holds) std::printf("# errno %d: %s\n", errnum, std::strerror(errnum));
    std::fflush(stdout);
}

void check_functions(int fd, int asker) {
    const std::array<std::pair<const char*, std::function<bool()>>, 10> ways = {{
        {"recv", [&] { return is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)); }},
        {"recvfrom",
         [&] {
             sockaddr_nl from{};
             socklen_t bytes = sizeof(from);
             return is_event(recvfrom(fd, buffer.data(), buffer.size(), MSG_DONTWAIT,
                                      reinterpret_cast<sockaddr*>(&from), &bytes)) &&
                    from.nl_groups == kAddresses && bytes == sizeof(from);
         }},
        {"recvmsg",
         [&] {
             iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
             msghdr message{};
             message.msg_iov = &part;
             message.msg_iovlen = 1;
             return is_event(recvmsg(fd, &message, MSG_DONTWAIT));
         }},
        {"recvmmsg",
         [&] {
             iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
             mmsghdr message{};
             message.msg_hdr.msg_iov = &part;
             message.msg_hdr.msg_iovlen = 1;
             return recvmmsg(fd, &message, 1, MSG_DONTWAIT, nullptr) == 1 &&
                    is_event(message.msg_len);
         }},
        {"read", [&] { return is_event(read(fd, buffer.data(), buffer.size())); }},
        {"readv",
         [&] {
             const std::array<iovec, 2> parts = {
                 {{.iov_base = buffer.data(), .iov_len = 20},
                  {.iov_base = buffer.data() + 20, .iov_len = buffer.size() - 20}}};
             return is_event(readv(fd, parts.data(), 2));
         }},
        {"recv as _FORTIFY_SOURCE calls it",
         [&] {
             return is_event(
                 __recv_chk(fd, buffer.data(), buffer.size(), buffer.size(), MSG_DONTWAIT));
         }},
        {"recvfrom as _FORTIFY_SOURCE calls it",
         [&] {
             return is_event(__recvfrom_chk(fd, buffer.data(), buffer.size(), buffer.size(),
                                            MSG_DONTWAIT, nullptr, nullptr));
         }},
        {"read as _FORTIFY_SOURCE calls it",
         [&] { return is_event(__read_chk(fd, buffer.data(), buffer.size(), buffer.size())); }},
        {"poll and recv",
         [&] {
             pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
             return poll(&readable, 1, 10000) == 1 &&
                    is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT));
         }},
    }};
    for (const auto& [name, way] : ways) {
        make_event(asker);
        check(name, way());
    }
    check("nothing is left",
          recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) < 0 && errno == EAGAIN);
    check("a read of nothing leaves the socket alone", read(fd, buffer.data(), 0) == 0);
}

void check_copies(int fd, int asker) {
    const auto reads = [&](int from) {
        make_event(asker);
        return is_event(recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT));
    };
    const int copy = dup(fd);
    check("dup", reads(copy) && reads(fd));
    const int other = open("/dev/null", O_RDONLY);
    check("dup2", dup2(fd, other) == other && reads(other));
    check("dup3", dup3(fd, other, O_CLOEXEC) == other && reads(other));
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    check("fcntl(F_DUPFD_CLOEXEC)", high >= 200 && reads(high));
    close(copy);
    check("closing a copy leaves the others", reads(other) && reads(fd));
    const int zero = open("/dev/zero", O_RDONLY);
    dup2(zero, other);
    check("a number that another file was put upon is that file",
          read(other, buffer.data(), 8) == 8 && buffer[0] == 0);
    check("close_range", close_range(static_cast<unsigned>(high), ~0U, 0) == 0 && reads(fd));
    close(zero);
    close(other);
}

int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void check_processes(int fd, int asker) {
    make_event(asker);
    pid_t child = fork();
    if (child == 0) _exit(is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)) ? 0 : 1);
    check("a child reads after fork()", wait_for(child) == 0);
    child = vfork();
    if (child == 0) {
        close(fd);
        _exit(0);
    }
    wait_for(child);
    make_event(asker);
    check("what a vfork()ed child closes stays open here",
          is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)));
    make_event(asker);
    child = fork();
    if (child == 0) {
        const std::string number = std::to_string(fd);
        execl("/proc/self/exe", "preloaded", "inherited", number.c_str(), nullptr);
        _exit(127);
    }
    check("a program that inherits the socket reads it", wait_for(child) == 0);
    make_event(asker);
    check("and this one goes on", is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)));
}

void check_numbers(int fd, int asker) {
    close(fd);
    const int again = route_socket(0);
    check("a closed number is the next socket's, which only asks",
          again == fd && !has_ring(again) &&
              recv(again, buffer.data(), buffer.size(), MSG_DONTWAIT) < 0 && errno == EAGAIN);
    const int group = RTNLGRP_IPV4_IFADDR;
    check("a socket gets its ring when it joins its first group",
          setsockopt(again, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0 &&
              has_ring(again));
    make_event(asker);
    check("and reads it", is_event(recv(again, buffer.data(), buffer.size(), MSG_DONTWAIT)));
    const int on = 1;
    std::array<char, 256> control{};
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    setsockopt(again, SOL_NETLINK, NETLINK_PKTINFO, &on, sizeof(on));
    make_event(asker);
    check("socket options count at once",
          is_event(recvmsg(again, &message, MSG_DONTWAIT)) && message.msg_controllen != 0);
    close(again);
}

// Past libc, where nobody sees it; what is in the ring is not for the number's next file.
void check_unseen_closing(int asker) {
    int fd = route_socket(kAddresses);
    make_event(asker);
    const int zero = open("/dev/zero", O_RDONLY);
    syscall(SYS_dup2, zero, fd);
    buffer.fill('x');
    check("a number that became another file unseen is read as that file",
          read(fd, buffer.data(), 100) == 100 && buffer[0] == 0 && buffer[99] == 0);
    iovec part{.iov_base = buffer.data(), .iov_len = 100};
    check("by readv(), too", readv(fd, &part, 1) == 100);
    close(fd);
    close(zero);

    fd = route_socket(kAddresses);
    make_event(asker);
    syscall(SYS_close, fd);
    std::array<int, 2> pair{};
    const bool is_same =
        socketpair(AF_UNIX, SOCK_DGRAM, 0, pair.data()) == 0 && (pair[0] == fd || pair[1] == fd);
    check("and as that socket", is_same && send(pair[0], "abc", 3, 0) == 3 &&
                                    send(pair[1], "abc", 3, 0) == 3 &&
                                    recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) == 3);
    for (const int end : pair) close(end);
}

int mapped_sockets() {
    int count = 0;
    std::FILE* const maps = std::fopen("/proc/self/maps", "re");
    while (maps != nullptr && std::fgets(buffer.data(), buffer.size(), maps) != nullptr)
        count += std::strstr(buffer.data(), "socket:") != nullptr ? 1 : 0;
    if (maps != nullptr) std::fclose(maps);
    return count;
}

void check_cancellation() {
    const int before = mapped_sockets();
    int fd = route_socket(kAddresses);
    check("a ring is mapped", mapped_sockets() > before);
    pthread_t thread{};
    pthread_create(
        &thread, nullptr,
        [](void* argument) -> void* {
            char byte = 0;
            recv(*static_cast<const int*>(argument), &byte, 1, 0);
            return nullptr;
        },
        &fd);
    pthread_cancel(thread);
    void* result = nullptr;
    pthread_join(thread, &result);
    check("a thread that waits can be cancelled", result == PTHREAD_CANCELED);
    close(fd);
    check("and leaves nothing mapped", mapped_sockets() == before);
}

bool sleeps(pid_t thread) {
    const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
    std::FILE* const file = std::fopen(path.c_str(), "re");
    char state = 0;
    if (file == nullptr || std::fscanf(file, "%*d %*s %c", &state) != 1) state = 0;
    if (file != nullptr) std::fclose(file);
    return state == 'S';
}

// The kernel wakes who sleeps in recv() when the socket gets its ring: then that thread may be
// the first to map it.
void check_sleeper(int asker) {
    const int fd = route_socket(0);
    const timeval timeout{.tv_sec = 300, .tv_usec = 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    std::atomic<pid_t> sleeper{0};
    bool received = false;
    std::thread thread([&] {
        std::array<char, 4096> room{};
        sleeper = static_cast<pid_t>(syscall(SYS_gettid));
        received = is_event(recv(fd, room.data(), room.size(), 0), room.data());
    });
    while (sleeper == 0 || !sleeps(sleeper)) usleep(1000);
    const int group = RTNLGRP_IPV4_IFADDR;
    check("a socket gets its ring while a thread sleeps there",
          setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0 &&
              has_ring(fd));
    make_event(asker);
    thread.join();
    check("and that thread reads it", received);
    close(fd);
}

int inherited(int fd) {
    return is_event(recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT)) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "inherited") return inherited(std::atoi(argv[2]));
    const int asker = route_socket(0);
    const int fd = route_socket(kAddresses);
    check("a socket that is bound to a group has a ring", has_ring(fd));
    make_event(asker);
    check("one that only asks has none", !has_ring(asker));
    recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    check_functions(fd, asker);
    check_copies(fd, asker);
    check_processes(fd, asker);
    check_numbers(fd, asker);
    check_unseen_closing(asker);
    check_cancellation();
    check_sleeper(asker);
    std::printf("1..%d\n", cases);
    return failures == 0 ? 0 : 1;
}
