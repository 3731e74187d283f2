// SPDX-License-Identifier: MIT
//
// An attach that fails leaves the socket as it was, one that takes long leaves other descriptors
// alone, and a ring that is there without a reader is adopted.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nlmmap/nlmmap.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/drop_in/listener.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::Addresses;
using guest::attached_info;
using guest::in_child;
using guest::in_new_network;
using guest::RawSocket;
using nlmmap::Error;
using nlmmap::Receiver;
using nlmmap::Record;

constexpr std::size_t kLargeRing = 16 << 20;
// Less than the ring's addresses, and enough for what else may want some.
constexpr rlim_t kRoom = 8 << 20;

rlim_t address_space() {
    std::ifstream sizes("/proc/self/statm");
    rlim_t pages = 0;
    sizes >> pages;
    return pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
}

// Lets this process have hardly more addresses than it has, while it lives.
class NoRoom {
  public:
    NoRoom() {
        getrlimit(RLIMIT_AS, &before_);
        const rlimit limit{.rlim_cur = address_space() + kRoom, .rlim_max = before_.rlim_max};
        setrlimit(RLIMIT_AS, &limit);
    }
    NoRoom(const NoRoom&) = delete;
    NoRoom& operator=(const NoRoom&) = delete;
    ~NoRoom() { setrlimit(RLIMIT_AS, &before_); }

  private:
    rlimit before_{};
};

// Libc's and the kernel's, not the library's: the next address's number, or minus an errno.
std::int64_t plain_address(int fd) {
    std::vector<char> buffer(4096);
    if (recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) < 0) return -errno;
    return guest::address_number(reinterpret_cast<const nlmsghdr*>(buffer.data()));
}

// Tries to attach a large ring where there is no room for it: "" or what is wrong afterwards.
std::string after_no_room(int fd, const std::function<int()>& attach) {
    {
        const NoRoom no_room;
        if (const int errnum = attach(); errnum != ENOMEM)
            return "attaching said " + std::to_string(errnum);
    }
    if (attached_info(fd).error != ENODEV) return "the kernel made a ring";
    for (std::int64_t number = 0; number < 3; ++number)
        if (const std::int64_t got = plain_address(fd); got != number)
            return "plain recv() said " + std::to_string(got);
    return plain_address(fd) == -EAGAIN ? "" : "more came than was to come";
}

TEST(Refusal, WithoutRoomForTheRingRecvmsgGoesOn) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 3);
        EXPECT_EQ(in_child([&] {
                      return after_no_room(
                          fd, [&] { return nlmmap_attach(fd, kLargeRing) == 0 ? 0 : errno; });
                  }),
                  "");
        EXPECT_EQ(nlmmap_is_attached(fd), 0);
        // The same socket, later.
        ASSERT_EQ(nlmmap_attach(fd, 1 << 16), 0) << nlmmap_error();
        addresses.add(3, 2);
        expect_addresses(fd, 3, 2);
        nlmmap_close(fd);
    });
}

int errno_of(const std::function<void()>& action) {
    try {
        action();
        return 0;
    } catch (const Error& error) {
        return error.code().value();
    }
}

TEST(Refusal, WithoutRoomForAReceiverRecvmsgGoesOn) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 3);
        EXPECT_EQ(in_child([&] {
                      return after_no_room(fd, [&] {
                          return errno_of([&] {
                              const Receiver receiver =
                                  Receiver::attach(fd, {.ring_bytes = kLargeRing});
                          });
                      });
                  }),
                  "");
        {
            Receiver receiver = Receiver::attach(fd, {.ring_bytes = 1 << 16});
            addresses.add(3, 2);
            ASSERT_EQ(receiver.wait(std::chrono::seconds(30)), nlmmap::Wait::readable);
        }
        close(fd);
    });
}

// Its limits of locked memory count for this process from now on.
bool give_up_ipc_lock() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (syscall(SYS_capget, &header, sets.data()) != 0) return false;
    sets[0].effective &= ~(1U << CAP_IPC_LOCK);
    return syscall(SYS_capset, &header, sets.data()) == 0;
}

// After mlockall() each mapping counts: the addresses that were taken, and the ring in their place.
TEST(Refusal, AddressesThatWereTakenAreNotCountedTwiceAsLocked) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 3);
        EXPECT_EQ(in_child([&]() -> std::string {
                      // The ring's addresses are twice its size: once, and not twice.
                      constexpr rlim_t kLimit = 2 * kLargeRing + kRoom;
                      const rlimit limit{.rlim_cur = kLimit, .rlim_max = kLimit};
                      if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || !give_up_ipc_lock() ||
                          mlockall(MCL_FUTURE) != 0)
                          return std::string("no mlockall(): ") + std::strerror(errno);
                      if (nlmmap_attach(fd, kLargeRing) != 0) return nlmmap_error();
                      for (std::int64_t number = 0; number < 3; ++number)
                          if (next_address(fd) != number) return "messages are missing";
                      return "";
                  }),
                  "");
        close(fd);
    });
}

TEST(Refusal, LockedMemoryThatIsTooLittleIsSaidAndRecvmsgGoesOn) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 3);
        EXPECT_EQ(in_child([&]() -> std::string {
                      // Enough for the ring, and not for its addresses.
                      constexpr rlim_t kLimit = kLargeRing + kRoom;
                      const rlimit limit{.rlim_cur = kLimit, .rlim_max = kLimit};
                      if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || !give_up_ipc_lock() ||
                          mlockall(MCL_FUTURE) != 0)
                          return std::string("no mlockall(): ") + std::strerror(errno);
                      if (nlmmap_attach(fd, kLargeRing) == 0 || errno != ENOMEM)
                          return "attaching said " + std::to_string(errno);
                      if (std::string(nlmmap_error()).find("RLIMIT_MEMLOCK") == std::string::npos)
                          return nlmmap_error();
                      if (attached_info(fd).error != ENODEV) return "the kernel made a ring";
                      return plain_address(fd) == 0 ? "" : "plain recv() failed";
                  }),
                  "");
        close(fd);
    });
}

TEST(Refusal, ARingThatCouldNotBeMappedIsAdoptedWhenItCan) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        Addresses addresses;
        addresses.add(0, 3);
        ASSERT_TRUE(guest::succeeded(guest::attach(fd, kLargeRing)));
        EXPECT_EQ(
            in_child([&]() -> std::string {
                {
                    const NoRoom no_room;
                    if (nlmmap_adopt(fd) == 0 || errno != ENOMEM)
                        return "it was adopted where there was no room";
                    if (errno_of([&] { const Receiver adopted = Receiver::adopt(fd); }) != ENOMEM)
                        return "a receiver adopted it where there was no room";
                }
                if (plain_address(fd) != -EBUSY) return "the ring is gone";
                return nlmmap_adopt(fd) == 0 && next_address(fd) == 0
                           ? ""
                           : std::string("later it was not adopted: ") + nlmmap_error();
            }),
            "");
        close(fd);
    });
}

// The numbers of the addresses that wait.
std::vector<std::uint32_t> read_numbers(Receiver& receiver) {
    std::vector<std::uint32_t> numbers;
    for (const Record& record : receiver.read()) {
        EXPECT_EQ(record.lost_before(), 0U);
        numbers.push_back(
            guest::address_number(reinterpret_cast<const nlmsghdr*>(record.bytes().data())));
    }
    return numbers;
}

TEST(Adoption, AReceiverGoesOnWhereAnotherReaderLeftOff) {
    in_new_network([] {
        const int fd = Listener::opened(0);
        EXPECT_EQ(errno_of([&] { const Receiver none = Receiver::adopt(fd); }), ENODEV);
        EXPECT_EQ(errno_of([&] { const Receiver none = Receiver::adopt(-1); }), EBADF);
        Addresses addresses;
        using Numbers = std::vector<std::uint32_t>;
        {
            Receiver first = Receiver::attach(fd, {.ring_bytes = 1 << 16, .timestamps = true});
            addresses.add(0, 2);
            EXPECT_EQ(read_numbers(first), (Numbers{0, 1}));
            addresses.add(2, 3);
        }
        {
            // What waits already, with the options of who attached,
            Receiver second = Receiver::adopt(fd);
            EXPECT_EQ(second.ring_bytes(), std::size_t{1} << 16);
            for (const Record& record : second.read()) {
                EXPECT_TRUE(record.time().has_value());
                // What was not reached stays.
                break;
            }
            EXPECT_EQ(second.lost(), 0U);
        }
        {
            Receiver again = Receiver::adopt(fd);
            EXPECT_EQ(read_numbers(again), (Numbers{3, 4}));
            EXPECT_EQ(again.wait(std::chrono::seconds(0)), nlmmap::Wait::timed_out);
        }
        {
            // and what comes, when nothing waits.
            Receiver third = Receiver::adopt(fd);
            EXPECT_EQ(read_numbers(third), Numbers{});
            addresses.add(5, 2);
            ASSERT_EQ(third.wait(std::chrono::seconds(30)), nlmmap::Wait::readable);
            EXPECT_EQ(read_numbers(third), (Numbers{5, 6}));
        }
        close(fd);
    });
}

TEST(Adoption, APositionThatIsNoRecordsIsRefused) {
    in_new_network([] {
        constexpr std::uint32_t kRingBytes = 1 << 16;
        RawSocket socket(Listener::opened(0));
        const int fd = dup(socket.fd());
        ASSERT_TRUE(guest::succeeded(guest::attach(fd, kRingBytes)));
        Addresses addresses;
        addresses.add(0, 3);
        guest::RawAttached neighbour(std::move(socket), kRingBytes);
        ASSERT_TRUE(guest::eventually([&] { return neighbour.ring.readable(); }));
        for (const std::uint64_t position : {std::uint64_t{4}, std::uint64_t{sizeof(nlmmap_record)},
                                             std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
            neighbour.ring.forge(position);
            EXPECT_EQ(errno_of([&] { const Receiver spoilt = Receiver::adopt(fd); }), EIO)
                << position;
        }
        neighbour.ring.forge(0);
        {
            Receiver receiver = Receiver::adopt(fd);
            EXPECT_EQ(read_numbers(receiver), (std::vector<std::uint32_t>{0, 1, 2}));
        }
        close(fd);
    });
}

// The kernel tries for a while to wake who sleeps on the socket, and this one takes no notice.
class DeafSleeper {
  public:
    explicit DeafSleeper(int fd) : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLEXCLUSIVE;
        EXPECT_EQ(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), 0);
    }
    DeafSleeper(const DeafSleeper&) = delete;
    DeafSleeper& operator=(const DeafSleeper&) = delete;
    ~DeafSleeper() { close(epoll_); }

  private:
    int epoll_;
};

// Whether `action` began and ended while another thread was attaching a ring to `fd`: after the
// kernel had made the ring, and before that thread came back to register it. That thread is told
// that the descriptor is attached.
bool happens_during_an_attach(const std::function<void(int fd)>& action) {
    const int fd = Listener::opened(0);
    bool happened = false;
    {
        // Somebody else who uses the socket, so that the kernel looks for sleepers at all.
        const int copy = dup(fd);
        const DeafSleeper sleeper(copy);
        std::atomic<bool> over = false;
        std::thread attaching([&] {
            EXPECT_EQ(nlmmap_attach(fd, kLargeRing), 0) << nlmmap_error();
            over = true;
        });
        EXPECT_TRUE(guest::eventually([&] { return attached_info(fd).error == 0 || over; }));
        action(fd);
        happened = !over;
        attaching.join();
        close(copy);
    }
    EXPECT_EQ(nlmmap_is_attached(fd), 1);
    nlmmap_close(fd);
    return happened;
}

TEST(Refusal, OthersAttachForkAndCloseWhileAnAttachWaits) {
    in_new_network([] {
        const auto others = [](int /*fd*/) {
            const Listener other(1 << 13);
            Addresses addresses;
            addresses.add(0, 1);
            expect_addresses(other.fd(), 0, 1);
            const rlim_t here = address_space();
            // Nor does a child inherit the addresses that wait for the ring.
            EXPECT_EQ(in_child([&] {
                          return address_space() + 2 * kLargeRing <= here ? std::string()
                                                                          : "it has the addresses";
                      }),
                      "");
            addresses.remove(0, 1);
        };
        // Once is the proof; a busy machine may keep this thread from running for as long as the
        // other one waits.
        EXPECT_TRUE(guest::eventually([&] { return happens_during_an_attach(others); }));
    });
}

// As a thread does that slept in recvmsg() there, and was woken with EBUSY.
TEST(Refusal, AnAttachSucceedsThoughAnotherThreadAdoptsTheRingBefore) {
    in_new_network([] {
        Addresses addresses;
        std::uint32_t number = 0;
        EXPECT_TRUE(guest::eventually([&] {
            bool adopted = false;
            const bool happened = happens_during_an_attach([&](int fd) {
                adopted = nlmmap_adopt(fd) == 0;
                if (!adopted) {
                    EXPECT_EQ(errno, EBUSY) << nlmmap_error();
                }
                addresses.add(number, 1);
                expect_addresses(fd, number, 1);
                ++number;
            });
            return happened && adopted;
        }));
    });
}

// Closes a descriptor while another thread is attaching a ring to it: what that thread was told, an
// errno or 0. Whenever it happened, nothing is registered, and a copy may have the ring.
int close_during_an_attach(std::uint32_t address) {
    const int fd = Listener::opened(0);
    const int copy = dup(fd);
    int errnum = 0;
    {
        const DeafSleeper sleeper(copy);
        std::atomic<bool> over = false;
        std::thread attaching([&] {
            errnum = nlmmap_attach(fd, 1 << 16) == 0 ? 0 : errno;
            over = true;
        });
        EXPECT_TRUE(guest::eventually([&] { return attached_info(copy).error == 0 || over; }));
        EXPECT_EQ(nlmmap_close(fd), 0);
        attaching.join();
    }
    EXPECT_EQ(nlmmap_is_attached(fd), 0);
    EXPECT_EQ(nlmmap_adopt(copy), 0) << nlmmap_error();
    Addresses addresses;
    addresses.add(address, 1);
    expect_addresses(copy, address, 1);
    nlmmap_close(copy);
    return errnum;
}

TEST(Refusal, ADescriptorThatIsClosedWhileItIsAttachedIsNotRegistered) {
    in_new_network([] {
        std::uint32_t address = 0;
        EXPECT_TRUE(guest::eventually([&] {
            const int errnum = close_during_an_attach(address++);
            EXPECT_TRUE(errnum == EBADF || errnum == 0) << errnum;
            return errnum == EBADF;
        }));
    });
}

}  // namespace
}  // namespace drop_in
