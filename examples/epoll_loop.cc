// SPDX-License-Identifier: MIT
//
// A receiver in the epoll loop that a daemon already has: beside a timer and its signals.
//
//     epoll_loop GROUP [--edge]
//
// Once a second it prints how many messages came; SIGINT or SIGTERM ends it. With --edge the
// receiver is watched edge-triggered, as Go's and tokio's loops do: then arm() comes before sleep.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <nlmmap/nlmmap.hpp>
#include <string_view>
#include <system_error>

namespace {

int checked(int result, const char* operation) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), operation);
    return result;
}

class Daemon {
  public:
    Daemon(const char* group, bool edge) : receiver_(nlmmap::Receiver::join(group)), edge_(edge) {
        sigset_t signals;
        sigemptyset(&signals);
        for (const int number : {SIGINT, SIGTERM}) sigaddset(&signals, number);
        checked(sigprocmask(SIG_BLOCK, &signals, nullptr), "sigprocmask");
        signals_ = checked(signalfd(-1, &signals, SFD_CLOEXEC), "signalfd");

        timer_ = checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
        const itimerspec every_second{.it_interval = {1, 0}, .it_value = {1, 0}};
        checked(timerfd_settime(timer_, 0, &every_second, nullptr), "timerfd_settime");

        epoll_ = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        watch(signals_, EPOLLIN);
        watch(timer_, EPOLLIN);
        // EPOLLRDBAND is the ring; EPOLLIN would also be answers to requests on the same socket.
        watch(receiver_.fd(), edge_ ? EPOLLRDBAND | EPOLLET : EPOLLRDBAND);
    }

    void run() {
        for (;;) {
            epoll_event events[8];
            const int ready = epoll_wait(epoll_, events, 8, more_ ? 0 : -1);
            if (ready < 0 && errno == EINTR) continue;
            checked(ready, "epoll_wait");
            for (int i = 0; i < ready; ++i) {
                if (events[i].data.fd == signals_) return report();
                if (events[i].data.fd == timer_) tick();
                if (events[i].data.fd == receiver_.fd()) more_ = true;
            }
            if (more_ && !read_batch()) return report();
        }
    }

  private:
    void watch(int fd, unsigned events) {
        epoll_event event{.events = events, .data = {.fd = fd}};
        checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }

    bool read_batch() {
        for (const nlmmap::Record& record : receiver_.read()) {
            if (const std::uint64_t lost = record.lost_before(); lost != 0)
                std::printf("lost %" PRIu64 " before record %" PRIu64 "\n", lost, record.seq());
            if (record.is_notice()) return false;  // the group was deleted
            for ([[maybe_unused]] const nlmmap::Message& message : record) ++messages_;
        }
        // Level-triggered epoll looks again before it sleeps, and so arms the ring. Edge-triggered
        // epoll does not: arm() does, and says if more came; the others have their turn first.
        more_ = edge_ && receiver_.arm();
        return true;
    }

    void tick() {
        if (std::uint64_t times; read(timer_, &times, sizeof(times)) == sizeof(times)) report();
    }

    void report() {
        std::printf("%" PRIu64 " messages, %" PRIu64 " lost\n", messages_, receiver_.lost());
        std::fflush(stdout);
    }

    nlmmap::Receiver receiver_;
    bool edge_;
    bool more_ = false;  // to be read before the next sleep
    std::uint64_t messages_ = 0;
    int signals_ = -1;  // the kernel closes these three when the process ends
    int timer_ = -1;
    int epoll_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
    const std::string_view group = argc > 1 ? argv[1] : "-";
    const bool edge = argc == 3 && std::string_view(argv[2]) == "--edge";
    if (group.starts_with('-') || argc > (edge ? 3 : 2)) {
        const bool help = argc == 2 && (group == "-h" || group == "--help");
        std::fputs("usage: epoll_loop GROUP [--edge]\n", help ? stdout : stderr);
        return help ? 0 : 2;
    }
    try {
        Daemon(argv[1], edge).run();
    } catch (const std::system_error& error) {  // nlmmap::Error is one
        std::fprintf(stderr, "epoll_loop: %s\n", error.what());
        return 1;
    }
    return 0;
}
