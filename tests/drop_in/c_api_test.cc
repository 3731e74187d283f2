// SPDX-License-Identifier: MIT
//
// What nlmmap.h promises besides being recvmsg(): losses in their place, threads, fork(), numbers
// that are closed and used again, reading in place, no system call.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <nlmmap/nlmmap.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/drop_in/listener.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::address_number;
using guest::Addresses;
using guest::family_socket;
using guest::in_child;
using guest::in_new_network;
using guest::RawSocket;

TEST(CInterface, AttachSaysWhyItFailed) {
    const auto expect_failure = [](int fd, std::size_t ring_bytes, int errnum) {
        EXPECT_EQ(nlmmap_attach(fd, ring_bytes), -1);
        EXPECT_EQ(errno, errnum) << nlmmap_error();
        EXPECT_STRNE(nlmmap_error(), "");
    };
    const RawSocket socket = family_socket(NETLINK_ROUTE);
    expect_failure(-1, 1 << 16, EBADF);
    expect_failure(1000, 1 << 16, EBADF);
    expect_failure(socket.fd(), 0, EINVAL);
    expect_failure(socket.fd(), 5000, EINVAL);
    expect_failure(socket.fd(), std::size_t{1} << 40, ERANGE);
    std::array<int, 2> pair{};
    ASSERT_EQ(pipe(pair.data()), 0);
    expect_failure(pair[0], 1 << 16, ENOTSOCK);
    close(pair[0]);
    close(pair[1]);
    const int internet = ::socket(AF_INET, SOCK_DGRAM, 0);
    expect_failure(internet, 1 << 16, EAFNOSUPPORT);
    close(internet);

    const Listener listener;
    expect_failure(listener.fd(), 1 << 16, EBUSY);
    EXPECT_EQ(nlmmap_is_attached(listener.fd()), 1);
    EXPECT_EQ(nlmmap_is_attached(socket.fd()), 0);
    EXPECT_EQ(nlmmap_is_attached(-1), 0);
}

TEST(CInterface, WithoutARingItIsRecvmsg) {
    in_new_network([] {
        RawSocket socket = family_socket(NETLINK_ROUTE);
        ASSERT_EQ(socket.add_membership(RTNLGRP_IPV4_IFADDR), 0);
        Addresses addresses;
        addresses.add(0, 3);
        expect_addresses(socket.fd(), 0, 3);
        EXPECT_EQ(nlmmap_recv(-1, nullptr, 0, 0), -1);
        EXPECT_EQ(errno, EBADF);
    });
}

TEST(CInterface, NothingOfABurstIsLost) {
    in_new_network([] {
        const Listener listener(4 << 20);
        Addresses addresses;
        addresses.add(0, fewer(5000));
        expect_addresses(listener.fd(), 0, fewer(5000));
    });
}

// Small enough that most of so many messages find no room.
constexpr std::size_t kSmallRing = 1 << 13;
constexpr int kSmallBuffer = 1 << 13;
constexpr std::uint32_t kTooMany = 200;

TEST(CInterface, ALossIsEnobufsOnceAtItsPlace) {
    in_new_network([] {
        const Listener listener(kSmallRing, kSmallBuffer);
        Addresses addresses;
        std::uint32_t number = 0;
        for (std::uint32_t round = 0; round < 1 + fewer(3); ++round) {
            const std::uint32_t first = number;
            addresses.add(number, kTooMany);
            number += kTooMany;
            std::uint32_t received = 0;
            std::uint32_t enobufs = 0;
            EXPECT_TRUE(guest::eventually([&] {
                for (;;) {
                    const std::int64_t address = next_address(listener.fd());
                    if (address < 0 && errno == ENOBUFS) {
                        ++enobufs;
                    } else if (address < 0) {
                        break;
                    } else {
                        // The newest are what is lost, so there is no gap before.
                        EXPECT_EQ(address, first + received);
                        EXPECT_EQ(enobufs, 0U);
                        ++received;
                    }
                }
                EXPECT_EQ(errno, EAGAIN);
                return enobufs != 0;
            }));
            EXPECT_EQ(enobufs, 1U);
            EXPECT_GT(received, 10U);
            EXPECT_LT(received, kTooMany);
            addresses.add(number, 20);
            expect_addresses(listener.fd(), number, 20);
            number += 20;
        }
    });
}

TEST(CInterface, ALossIsToldOnceAlsoWhenLookedAt) {
    in_new_network([] {
        const Listener listener(kSmallRing, kSmallBuffer);
        Addresses addresses;
        addresses.add(0, kTooMany);
        ASSERT_TRUE(guest::eventually([&] {
            while (next_address(listener.fd()) >= 0) {
            }
            return errno == ENOBUFS;
        }));
        addresses.add(kTooMany, 1);
        EXPECT_EQ(next_address(listener.fd(), MSG_DONTWAIT | MSG_PEEK), kTooMany) << errno;
        EXPECT_EQ(next_address(listener.fd(), MSG_DONTWAIT | MSG_PEEK), kTooMany) << errno;
        expect_addresses(listener.fd(), kTooMany, 1);
    });
}

TEST(CInterface, UnderNoEnobufsALossIsSilent) {
    in_new_network([] {
        const Listener listener(kSmallRing, kSmallBuffer);
        const int on = 1;
        ASSERT_EQ(
            nlmmap_setsockopt(listener.fd(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on)), 0);
        Addresses addresses;
        addresses.add(0, kTooMany);
        std::uint32_t received = 0;
        while (next_address(listener.fd()) >= 0) ++received;
        EXPECT_EQ(errno, EAGAIN);
        EXPECT_GT(received, 10U);
        EXPECT_LT(received, kTooMany);
        addresses.add(kTooMany, 20);
        expect_addresses(listener.fd(), kTooMany, 20);
    });
}

TEST(CInterface, ThreadsThatShareADescriptorShareItsMessages) {
    in_new_network([] {
        const Listener listener(1 << 18);
        const std::uint32_t count = fewer(4000);
        std::mutex lock;
        std::multiset<std::int64_t> seen;
        std::atomic<bool> over = false;
        std::vector<std::thread> threads;
        threads.reserve(4);
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                std::int64_t last = -1;
                while (!over) {
                    pollfd readable{.fd = listener.fd(), .events = POLLIN, .revents = 0};
                    poll(&readable, 1, 10);
                    for (;;) {
                        const std::int64_t address = next_address(listener.fd());
                        if (address < 0) break;
                        EXPECT_GT(address, last);
                        last = address;
                        const std::lock_guard guard(lock);
                        seen.insert(address);
                    }
                    EXPECT_EQ(errno, EAGAIN);
                }
            });
        }
        Addresses addresses;
        addresses.add(0, count);
        EXPECT_TRUE(guest::eventually([&] {
            const std::lock_guard guard(lock);
            return seen.size() >= count;
        }));
        over = true;
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(seen.size(), count);
        EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), count);
    });
}

TEST(CInterface, AParentAndItsChildShareItsMessages) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        addresses.add(0, 10);
        EXPECT_EQ(next_address(listener.fd()), 0);
        EXPECT_EQ(in_child([&]() -> std::string {
                      for (int i = 1; i < 6; ++i) {
                          if (next_address(listener.fd()) != i)
                              return "message " + std::to_string(i) + " did not come";
                      }
                      // A child of the child, too.
                      return in_child([&]() -> std::string {
                          return next_address(listener.fd()) == 6 ? "" : "message 6 did not come";
                      });
                  }),
                  "");
        expect_addresses(listener.fd(), 7, 3);
    });
}

TEST(CInterface, AChildMayCloseWhatItInherited) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        addresses.add(0, 2);
        EXPECT_EQ(in_child([&]() -> std::string {
                      if (nlmmap_close(listener.fd()) != 0) return "close failed";
                      return nlmmap_is_attached(listener.fd()) == 0 ? "" : "still attached";
                  }),
                  "");
        expect_addresses(listener.fd(), 0, 2);
    });
}

TEST(CInterface, ANumberThatWasClosedAndUsedAgainIsTheNewSocket) {
    in_new_network([] {
        Addresses addresses;
        const int fd = Listener::opened(0);
        ASSERT_EQ(nlmmap_attach(fd, 1 << 16), 0) << nlmmap_error();
        addresses.add(0, 2);
        nlmmap_close(fd);
        ASSERT_EQ(Listener::opened(0), fd);
        addresses.add(2, 2);
        expect_addresses(fd, 2, 2);
        // Closed without a word: noticed when its ring is empty,
        ASSERT_EQ(nlmmap_attach(fd, 1 << 16), 0) << nlmmap_error();
        close(fd);
        ASSERT_EQ(Listener::opened(0), fd);
        addresses.add(4, 2);
        // (what it heard before and after is in the old ring, which the mapping keeps)
        while (next_address(fd) >= 0) {
        }
        EXPECT_EQ(nlmmap_is_attached(fd), 0);
        addresses.add(6, 2);
        expect_addresses(fd, 6, 2);
        // and by the next attach.
        ASSERT_EQ(nlmmap_attach(fd, 1 << 16), 0) << nlmmap_error();
        close(fd);
        ASSERT_EQ(Listener::opened(0), fd);
        ASSERT_EQ(nlmmap_attach(fd, 1 << 16), 0) << nlmmap_error();
        addresses.add(8, 2);
        expect_addresses(fd, 8, 2);
        nlmmap_close(fd);
        EXPECT_EQ(nlmmap_recv(fd, nullptr, 0, MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, EBADF);
    });
}

TEST(CInterface, ManyDescriptorsHaveRingsAtOnceAndOneAfterTheOther) {
    in_new_network([] {
        Addresses addresses;
        const std::uint32_t count = 5 + fewer(40);
        for (std::uint32_t round = 0; round < 3; ++round) {
            std::vector<std::unique_ptr<Listener>> listeners;
            listeners.reserve(count);
            for (std::uint32_t i = 0; i < count; ++i)
                listeners.push_back(std::make_unique<Listener>(1 << 13));
            addresses.add(round * 2, 2);
            for (const auto& listener : listeners) expect_addresses(listener->fd(), round * 2, 2);
        }
    });
}

TEST(CInterface, ClosingWhileAnotherThreadReceivesHarmsNobody) {
    in_new_network([] {
        Addresses addresses;
        for (std::uint32_t round = 0; round < 5 + fewer(20); ++round) {
            auto listener = std::make_unique<Listener>(1 << 16);
            const int fd = listener->fd();
            addresses.add(round * 20, 20);
            std::atomic<bool> over = false;
            std::thread reader([&] {
                while (!over) next_address(fd);
            });
            listener.reset();
            over = true;
            reader.join();
        }
    });
}

TEST(CInterface, AReaderWaitsAsLongAsItsTimeout) {
    in_new_network([] {
        const Listener listener;
        const timeval timeout{.tv_sec = 0, .tv_usec = 20000};
        ASSERT_EQ(setsockopt(listener.fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
        EXPECT_EQ(next_address(listener.fd(), 0), -1);
        EXPECT_EQ(errno, EAGAIN);
        Addresses addresses;
        addresses.add(0, 1);
        EXPECT_EQ(next_address(listener.fd(), 0), 0);
    });
}

TEST(CInterface, AWaitingReaderIsWoken) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        std::atomic<std::uint32_t> seen = 0;
        std::thread reader([&] {
            for (std::uint32_t i = 0; i < 50; ++i) {
                EXPECT_EQ(next_address(listener.fd(), 0), i);
                seen = i + 1;
            }
        });
        for (std::uint32_t i = 0; i < 50; ++i) {
            addresses.add(i, 1);
            // Awake at one, asleep at the other.
            if (i % 2 != 0) continue;
            EXPECT_TRUE(guest::eventually([&] { return seen == i + 1; })) << i;
        }
        reader.join();
    });
}

std::atomic<int> signals{0};

// Sends itself signals while it waits, until `over`. What the wait answered: an errno, or 0.
int wait_through_signals(int fd, int action_flags, const std::function<void()>& after_the_signals) {
    struct sigaction action{};
    action.sa_handler = [](int) { ++signals; };
    action.sa_flags = action_flags;
    sigaction(SIGUSR1, &action, nullptr);
    signals = 0;
    std::atomic<bool> returned = false;
    int errnum = 0;
    std::thread reader([&] {
        errnum = next_address(fd, 0) >= 0 ? 0 : errno;
        returned = true;
    });
    EXPECT_TRUE(guest::eventually([&] {
        if (!returned) pthread_kill(reader.native_handle(), SIGUSR1);
        usleep(1000);
        return returned || signals >= 10;
    }));
    after_the_signals();
    reader.join();
    return errnum;
}

TEST(CInterface, ASignalEndsOrRestartsAWaitAsItDoesRecvmsg) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        EXPECT_EQ(wait_through_signals(listener.fd(), 0, [] {}), EINTR);
        EXPECT_EQ(wait_through_signals(listener.fd(), SA_RESTART, [&] { addresses.add(0, 1); }), 0);
        // With a timeout it is not restarted.
        const timeval timeout{.tv_sec = 30, .tv_usec = 0};
        ASSERT_EQ(setsockopt(listener.fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
        EXPECT_EQ(wait_through_signals(listener.fd(), SA_RESTART, [] {}), EINTR);
    });
}

TEST(CInterface, ReceivingMakesNoSystemCallWhileThereAreMessages) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        addresses.add(0, 400);
        EXPECT_EQ(in_child([&]() -> std::string {
                      std::array<int, 2> channel{};
                      if (pipe(channel.data()) != 0) return "no pipe";
                      // Maps the ring in this process.
                      if (next_address(listener.fd()) != 0) return "message 0 did not come";
                      // From here on any other system call than read(), write() and _exit() kills.
                      if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return "no seccomp";
                      std::int64_t received = 1;
                      while (received < 300 && next_address(listener.fd(), 0) == received)
                          ++received;
                      nlmmap_datagram datagram;
                      while (received < 400 && nlmmap_next(listener.fd(), &datagram) == 1)
                          ++received;
                      nlmmap_release(listener.fd());
                      const char verdict = received == 400 ? 'y' : 'n';
                      char heard = 0;
                      const bool passed = write(channel[1], &verdict, 1) == 1 &&
                                          read(channel[0], &heard, 1) == 1 && heard == 'y';
                      // Not _exit(), which is exit_group().
                      syscall(SYS_exit, passed ? 0 : 1);
                      return "";
                  }),
                  "");
        // The child took them all.
        EXPECT_EQ(next_address(listener.fd()), -1);
        EXPECT_EQ(errno, EAGAIN);
    });
}

TEST(CInterface, MessagesAreReadInPlace) {
    in_new_network([] {
        const Listener listener(1 << 13);
        Addresses addresses;
        std::uint32_t number = 0;
        // Some times around the ring.
        for (int round = 0; round < 10; ++round) {
            addresses.add(number, 40);
            for (std::uint32_t i = 0; i < 40; ++i) {
                nlmmap_datagram datagram;
                ASSERT_EQ(nlmmap_next(listener.fd(), &datagram), 1);
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(datagram.data) % 8, 0U);
                EXPECT_EQ(address_number(static_cast<const nlmsghdr*>(datagram.data)), number);
                EXPECT_EQ(datagram.seq, number + 1);
                EXPECT_EQ(datagram.group, RTNLGRP_IPV4_IFADDR);
                EXPECT_EQ(datagram.portid, 0U);
                EXPECT_EQ(datagram.nsid, -1);
                EXPECT_EQ(datagram.lost_before, 0U);
                EXPECT_EQ(datagram.flags, 0U);
                EXPECT_EQ(datagram.error, 0);
                ++number;
            }
            nlmmap_datagram none;
            EXPECT_EQ(nlmmap_next(listener.fd(), &none), 0);
            nlmmap_release(listener.fd());
        }
        nlmmap_datagram datagram;
        EXPECT_EQ(nlmmap_next(STDIN_FILENO, &datagram), -1);
        EXPECT_EQ(errno, ENODEV);
        // And by recvmsg() in between.
        addresses.add(number, 3);
        EXPECT_EQ(next_address(listener.fd()), number);
        ASSERT_EQ(nlmmap_next(listener.fd(), &datagram), 1);
        EXPECT_EQ(address_number(static_cast<const nlmsghdr*>(datagram.data)), number + 1);
        nlmmap_release(listener.fd());
        expect_addresses(listener.fd(), number + 2, 1);
    });
}

TEST(CInterface, LossesAreCountedInPlace) {
    in_new_network([] {
        const Listener listener(kSmallRing, kSmallBuffer);
        Addresses addresses;
        addresses.add(0, kTooMany);
        std::uint64_t received = 0;
        std::uint64_t lost = 0;
        EXPECT_TRUE(guest::eventually([&] {
            nlmmap_datagram datagram;
            while (nlmmap_next(listener.fd(), &datagram) == 1) {
                lost += datagram.lost_before;
                if ((datagram.flags & NLMMAP_DATAGRAM_NONE) != 0) {
                    // It takes a number, and stands for nothing.
                    EXPECT_EQ(datagram.bytes, 0U);
                    continue;
                }
                ++received;
            }
            nlmmap_release(listener.fd());
            pollfd readable{.fd = listener.fd(), .events = POLLIN, .revents = 0};
            poll(&readable, 1, 0);
            return received + lost >= kTooMany;
        })) << received
            << " and " << lost << " lost";
        EXPECT_EQ(received + lost, kTooMany);
        EXPECT_GT(lost, 0U);
    });
}

TEST(CInterface, ARingThatAnotherProgramAttachedIsTakenOver) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 2);
        // Without this library's knowledge.
        ASSERT_TRUE(guest::succeeded(guest::attach(fd, 1 << 16, NLMMAP_SETUP_CREDENTIALS)));
        EXPECT_EQ(nlmmap_recv(fd, nullptr, 0, MSG_DONTWAIT), -1);
        EXPECT_EQ(errno, EBUSY);
        ASSERT_EQ(nlmmap_adopt(fd), 0) << nlmmap_error();
        addresses.add(2, 2);
        EXPECT_TRUE(
            guest::eventually([&] { return next_address(fd, MSG_DONTWAIT | MSG_PEEK) == 0; }));
        expect_addresses(fd, 0, 4);
        EXPECT_EQ(nlmmap_adopt(fd), -1);
        EXPECT_EQ(errno, EBUSY);
        nlmmap_close(fd);
        const RawSocket plain = family_socket(NETLINK_ROUTE);
        EXPECT_EQ(nlmmap_adopt(plain.fd()), -1);
        EXPECT_EQ(errno, ENODEV);
    });
}

TEST(CInterface, SeveralMessagesAreReceivedByOneCall) {
    in_new_network([] {
        const Listener listener;
        Addresses addresses;
        addresses.add(0, 10);
        std::array<std::array<char, 1024>, 8> buffers;
        std::array<iovec, 8> parts;
        std::array<mmsghdr, 8> messages{};
        for (std::size_t i = 0; i < messages.size(); ++i) {
            parts[i] = {.iov_base = buffers[i].data(), .iov_len = buffers[i].size()};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        ASSERT_EQ(nlmmap_recvmmsg(listener.fd(), messages.data(), 8, 0, nullptr), 8);
        for (std::size_t i = 0; i < messages.size(); ++i) {
            EXPECT_GT(messages[i].msg_len, sizeof(nlmsghdr));
            EXPECT_EQ(address_number(reinterpret_cast<const nlmsghdr*>(buffers[i].data())), i);
        }
        EXPECT_EQ(nlmmap_recvmmsg(listener.fd(), messages.data(), 8, MSG_WAITFORONE, nullptr), 2);
        EXPECT_EQ(nlmmap_recvmmsg(listener.fd(), messages.data(), 8, MSG_DONTWAIT, nullptr), -1);
        EXPECT_EQ(errno, EAGAIN);
        timespec wrong{.tv_sec = 0, .tv_nsec = 2'000'000'000};
        EXPECT_EQ(nlmmap_recvmmsg(listener.fd(), messages.data(), 8, 0, &wrong), -1);
        EXPECT_EQ(errno, EINVAL);
    });
}

}  // namespace
}  // namespace drop_in
