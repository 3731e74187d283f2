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
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        checked(sigprocmask(SIG_BLOCK, &signals, nullptr), "sigprocmask");
        signals_ = checked(signalfd(-1, &signals, SFD_CLOEXEC), "signalfd");

        timer_ = checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
        const itimerspec every_second{.it_interval = {1, 0}, .it_value = {1, 0}};
        checked(timerfd_settime(timer_, 0, &every_second, nullptr), "timerfd_settime");

        epoll_ = checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        watch(signals_, EPOLLIN);
        watch(timer_, EPOLLIN);
        // The receiver is one descriptor like any other.
        watch(receiver_.fd(), edge_ ? EPOLLIN | EPOLLET : EPOLLIN);
    }

    void run() {
        for (;;) {
            epoll_event events[8];
            const int ready = epoll_wait(epoll_, events, 8, -1);
            if (ready < 0 && errno == EINTR) continue;
            checked(ready, "epoll_wait");
            for (int i = 0; i < ready; ++i) {
                if (events[i].data.fd == signals_) return report();
                if (events[i].data.fd == timer_) tick();
                if (events[i].data.fd == receiver_.fd() && !drain()) return report();
            }
        }
    }

  private:
    void watch(int fd, unsigned events) {
        epoll_event event{.events = events, .data = {.fd = fd}};
        checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    }

    // False if the group was deleted.
    bool drain() {
        do {
            for (const nlmmap::Record& record : receiver_.read()) {
                for (const nlmmap::Message& message : record) {
                    if (message.type() == NLMMAP_MSG_GROUP_DELETED) return false;
                    ++messages_;
                }
            }
            // Level-triggered epoll looks again by itself before it sleeps, and that arms the ring.
            // Edge-triggered epoll does not: arm() does it, and says if something came meanwhile.
        } while (edge_ && receiver_.arm());
        return true;
    }

    void tick() {
        std::uint64_t expirations;
        if (read(timer_, &expirations, sizeof(expirations)) == sizeof(expirations)) report();
    }

    void report() {
        std::printf("%llu messages, %llu lost\n", static_cast<unsigned long long>(messages_),
                    static_cast<unsigned long long>(receiver_.lost()));
        std::fflush(stdout);
    }

    nlmmap::Receiver receiver_;
    bool edge_;
    std::uint64_t messages_ = 0;
    int signals_ = -1;  // the kernel closes these three when the process ends
    int timer_ = -1;
    int epoll_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
    const bool edge = argc == 3 && std::string_view(argv[2]) == "--edge";
    if (argc < 2 || argv[1][0] == '-' || argc > (edge ? 3 : 2)) {
        std::fprintf(stderr, "usage: epoll_loop GROUP [--edge]\n");
        return 2;
    }
    try {
        Daemon(argv[1], edge).run();
    } catch (const std::system_error& error) {  // nlmmap::Error is one
        std::fprintf(stderr, "epoll_loop: %s\n", error.what());
        return 1;
    }
    return 0;
}
