// SPDX-License-Identifier: MIT
//
// Tries to make the kernel believe what is not so: writes the consumer's words in
// every way that memory can be written, by instructions of every width and
// alignment and by the kernel's own hand, while messages flow; and tries to write
// the producer's words and the data by the same means.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/kernel_writes.h"
#include "tests/hostile/memory_attack.h"

namespace hostile {
namespace {

using guest::Check;
using guest::counter;
using guest::in_child;
using guest::Order;
using guest::RawMember;

// Instructions that write memory.
struct Store {
    const char* name;
    std::size_t bytes;
    void (*write)(std::byte* at, std::uint64_t value);
};

template <typename T>
void store(std::byte* at, std::uint64_t value) {
    const T narrow = static_cast<T>(value);
    // As one instruction of that width, whatever the alignment.
    asm volatile("mov %1, %0" : "=m"(*reinterpret_cast<T*>(at)) : "r"(narrow) : "memory");
}

template <typename T>
void exchange(std::byte* at, std::uint64_t value) {
    T narrow = static_cast<T>(value);
    asm volatile("xchg %1, %0" : "+m"(*reinterpret_cast<T*>(at)), "+r"(narrow) : : "memory");
}

template <typename T>
void add(std::byte* at, std::uint64_t value) {
    T narrow = static_cast<T>(value);
    asm volatile("lock xadd %1, %0" : "+m"(*reinterpret_cast<T*>(at)), "+r"(narrow) : : "memory");
}

// Writes what is there already if it is not equal: needs the right all the same.
void compare_and_swap(std::byte* at, std::uint64_t value) {
    std::uint64_t expected = ~value;
    asm volatile("lock cmpxchg %2, %0"
                 : "+m"(*reinterpret_cast<std::uint64_t*>(at)), "+a"(expected)
                 : "r"(value)
                 : "memory");
}

void store_16(std::byte* at, std::uint64_t value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                     _mm_set1_epi64x(static_cast<long long>(value)));
}

void stream(std::byte* at, std::uint64_t value) {
    asm volatile("movnti %1, %0" : "=m"(*reinterpret_cast<std::uint64_t*>(at)) : "r"(value));
}

void set_bit(std::byte* at, std::uint64_t value) {
    asm volatile("lock btsq %1, %0"
                 : "+m"(*reinterpret_cast<std::uint64_t*>(at))
                 : "r"(value & 63)
                 : "memory");
}

void rep_bytes(std::byte* at, std::uint64_t value) {
    std::uint64_t count = 32;
    asm volatile("rep stosb"
                 : "+D"(at), "+c"(count)
                 : "a"(static_cast<std::uint8_t>(value))
                 : "memory");
}

constexpr std::array kStores{
    Store{"mov 1", 1, store<std::uint8_t>},
    Store{"mov 2", 2, store<std::uint16_t>},
    Store{"mov 4", 4, store<std::uint32_t>},
    Store{"mov 8", 8, store<std::uint64_t>},
    Store{"movdqu", 16, store_16},
    Store{"movnti", 8, stream},
    Store{"xchg 1", 1, exchange<std::uint8_t>},
    Store{"xchg 4", 4, exchange<std::uint32_t>},
    Store{"xchg 8", 8, exchange<std::uint64_t>},
    Store{"xadd 4", 4, add<std::uint32_t>},
    Store{"xadd 8", 8, add<std::uint64_t>},
    Store{"cmpxchg", 8, compare_and_swap},
    Store{"bts", 8, set_bit},
    Store{"rep stosb", 32, rep_bytes},
};

// A position that is worth a try: near what the kernel compares with.
std::uint64_t tempting(const OwnRing& ring, Dice& dice) {
    const std::uint64_t produced =
        __atomic_load_n(&ring.producer_words().position, __ATOMIC_RELAXED);
    const std::uint64_t size = ring.data_bytes();
    const std::uint64_t near = dice.below(2 * size);
    const std::array candidates{produced,
                                produced + 1,
                                produced - 1,
                                produced + near,
                                produced - near,
                                produced - size,
                                produced + size,
                                produced ^ size,
                                produced | (std::uint64_t{1} << 32),
                                produced << 32,
                                std::uint64_t{1} << 63,
                                (std::uint64_t{1} << 63) + produced,
                                ~std::uint64_t{0},
                                ~std::uint64_t{0} - near,
                                std::uint64_t{0},
                                near,
                                dice.next()};
    return candidates[dice.below(candidates.size())];
}

class Forging : public MemoryAttack {
  protected:
    // What must hold for a ring whatever its owner did, and that it works again as
    // soon as he behaves.
    void expect_sane(OwnRing& ring) {
        const guest::Outcome info = ring.socket().info();
        ASSERT_TRUE(guest::succeeded(info));
        const guest::Reply& reply = info.replies.at(0);
        const std::uint64_t produced = reply.get<std::uint64_t>(NLMMAP_A_PRODUCED).value();
        const std::uint64_t consumed = reply.get<std::uint64_t>(NLMMAP_A_CONSUMED).value();
        EXPECT_LE(consumed, produced);
        EXPECT_LE(produced - consumed, ring.data_bytes()) << "unread records were overwritten";
        EXPECT_LE(reply.get<std::uint64_t>(NLMMAP_A_HIGH_WATER).value(), ring.data_bytes());
        EXPECT_LE(reply.get<std::uint64_t>(NLMMAP_A_LOST).value(),
                  reply.get<std::uint64_t>(NLMMAP_A_SEQ).value());
        const nlmmap_producer& words = ring.producer_words();
        EXPECT_EQ(words.abi_version, std::uint32_t{NLMMAP_ABI_VERSION});
        EXPECT_EQ(words.data_bytes, ring.data_bytes());
        EXPECT_EQ(words.header_bytes, sizeof(nlmmap_record));
        EXPECT_EQ(words.features, 0U);
        for (const std::uint64_t reserved : words.reserved) {
            EXPECT_EQ(reserved, 0U);
        }
    }

    // Alone in the still group from here on: reads as it should, and gets all.
    void expect_honesty_to_be_rewarded(OwnRing& ring) {
        ring.join(still_);
        guest::RawRing reader(ring.socket(), ring.data_bytes());
        __atomic_store_n(&ring.consumer_words().position, reader.produced(), __ATOMIC_RELEASE);
        ring.consumer_words().watermark = 0;
        const std::uint64_t before = reader.produced();
        const Order order{.group = still_group_, .count = 20};
        EXPECT_EQ(producer_.publish(order).delivered, 20U);
        EXPECT_EQ(reader.produced(), before + 20 * 88U);
        Check check(order);
        for (std::uint64_t at = before; at < reader.produced(); at += 88) {
            const std::byte* record = ring.data() + (at & (ring.data_bytes() - 1));
            check.message(reinterpret_cast<const nlmsghdr*>(record + sizeof(nlmmap_record)));
        }
        EXPECT_EQ(check.received(), 20U);
        EXPECT_TRUE(guest::succeeded(ring.socket().leave(still_)));
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Forging);

TEST_P(Forging, ByStoresOfEveryWidthAndAlignmentHurtsNobody) {
    attack_in_flow([&] {
        OwnRing small(kPage * 2);
        OwnRing large(kPage * 16);
        for (OwnRing* ring : {&small, &large}) {
            ring->join(flow_->copied());
            ring->join(flow_->in_place());
        }
        std::atomic<bool> stop{false};
        std::thread poller([&] {
            while (!stop) {
                guest::poll_now(small.fd(), POLLIN);
                guest::poll_now(large.fd(), POLLIN);
                std::this_thread::yield();
            }
        });
        std::thread other([&] {
            Dice dice(2);
            while (!stop) {
                const Store& store = kStores[dice.below(kStores.size())];
                store.write(large.consumer() + dice.below(24), tempting(large, dice));
                store.write(small.consumer() + dice.below(24), dice.next());
            }
        });
        Dice dice(1);
        for (Rounds rounds(20000, std::chrono::milliseconds(150)); rounds.more();) {
            OwnRing& ring = dice.below(2) == 0 ? small : large;
            for (const Store& store : kStores) {
                store.write(ring.consumer() + dice.below(24), tempting(ring, dice));
            }
            store<std::uint64_t>(ring.consumer(), tempting(ring, dice));
            if (dice.below(64) == 0) {
                std::memset(ring.consumer(), static_cast<int>(dice.next()), kPage);
            }
        }
        stop = true;
        poller.join();
        other.join();
        for (OwnRing* ring : {&small, &large}) {
            expect_sane(*ring);
            ASSERT_TRUE(guest::succeeded(ring->socket().leave(flow_->copied())));
            ASSERT_TRUE(guest::succeeded(ring->socket().leave(flow_->in_place())));
            expect_honesty_to_be_rewarded(*ring);
        }
    });
}

TEST_P(Forging, BesideRequestsHurtsNobody) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        std::atomic<bool> stop{false};
        std::thread forger([&] {
            Dice dice(3);
            while (!stop) {
                store<std::uint64_t>(ring.consumer(), tempting(ring, dice));
                store<std::uint32_t>(ring.consumer() + 8, dice.next());
                store<std::uint64_t>(ring.consumer() + 16, dice.next());
            }
        });
        std::set<int> answers;
        for (Rounds rounds(300, std::chrono::milliseconds(150)); rounds.more();) {
            for (const std::string& group : {flow_->copied(), flow_->in_place()}) {
                answers.insert(ring.socket().join(group).error);
                answers.insert(ring.socket().info().error);
                guest::fdinfo(ring.fd());
                answers.insert(ring.socket().leave(group).error);
            }
        }
        stop = true;
        forger.join();
        // Unread records may stand where a notice's room should be.
        for (const int error : answers) {
            EXPECT_TRUE(error == 0 || error == EAGAIN || error == ENOENT)
                << "a request was refused: " << strerrorname_np(error);
        }
        expect_sane(ring);
        ring.socket().leave(flow_->copied());
        ring.socket().leave(flow_->in_place());
        expect_honesty_to_be_rewarded(ring);
    });
}

// Right when it is tested, wrong when it is taken: harmless if that is one look.
// Without messages, which would keep the forger's CPU from forging.
TEST_P(Forging, BetweenTwoLooksHurtsNobody) {
    attack([&] {
        OwnRing ring(kPage);
        std::atomic<bool> stop{false};
        std::thread forger([&] {
            const guest::OnCpu here(1);
            while (!stop) {
                const std::uint64_t produced =
                    __atomic_load_n(&ring.producer_words().position, __ATOMIC_RELAXED);
                for (int i = 0; i < 16; ++i) {
                    store<std::uint64_t>(ring.consumer(), produced);
                    store<std::uint64_t>(ring.consumer(), produced + (std::uint64_t{1} << 40));
                }
            }
        });
        {
            const guest::OnCpu here(0);
            for (Rounds rounds(2000, std::chrono::milliseconds(500)); rounds.more();) {
                for (const guest::Reply& reply : ring.socket().info().replies) {
                    EXPECT_LE(reply.get<std::uint64_t>(NLMMAP_A_CONSUMED).value(),
                              reply.get<std::uint64_t>(NLMMAP_A_PRODUCED).value())
                        << "the kernel took a position that it had not tested";
                }
            }
        }
        stop = true;
        forger.join();
        __atomic_store_n(&ring.consumer_words().position, 0, __ATOMIC_RELEASE);
        expect_sane(ring);
        expect_honesty_to_be_rewarded(ring);
    });
}

// A position in the middle of a record is a step forward over what was produced:
// it is taken. What lies behind it is not overwritten, whatever is published.
TEST_P(Forging, AnyByteAsPositionGivesBackThatFarAndNoFurther) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        ring.join(still_);
        const Order order{.group = still_group_, .count = 60, .min_bytes = 8, .max_bytes = 100};
        std::uint64_t position = 0;
        for (unsigned step = 1; step < 40; ++step) {
            producer_.publish(order);
            const std::uint64_t produced = ring.producer_words().position;
            ASSERT_GE(produced, position);
            ASSERT_LE(produced - position, kPage) << "what was not given back was overwritten";
            // Everything from the reader's position on, as it is now.
            std::vector<std::byte> unread;
            position += std::min<std::uint64_t>(step * 7, produced - position);
            for (std::uint64_t at = position; at < produced; ++at) {
                unread.push_back(ring.data()[at & (kPage - 1)]);
            }
            store<std::uint64_t>(ring.consumer(), position);
            EXPECT_EQ(counter(ring.socket(), NLMMAP_A_CONSUMED), position);
            producer_.publish(order);
            for (std::size_t i = 0; i < unread.size(); ++i) {
                ASSERT_EQ(ring.data()[(position + i) & (kPage - 1)], unread[i])
                    << "byte " << i << " behind the reader's position";
            }
        }
        EXPECT_EQ(counter(ring.socket(), NLMMAP_A_FORGED), 0U);
        expect_sane(ring);
    });
}

// Every word of the kernel's part, by every instruction, and across the border
// from the page that may be written.
TEST_P(Forging, TheKernelsPartByStoresIsASegmentationFault) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 40});
        ring.remember();
        unsigned stores = 0;
        unsigned faults = 0;
        for (const Store& store : kStores) {
            std::vector<std::byte*> places;
            for (const std::size_t word : {0U, 4U, 8U, 16U, 24U, 64U, 72U, 80U}) {
                places.push_back(ring.rest() + word);
                places.push_back(ring.rest() + word + 1);
            }
            // The data's first page, its border to the second mapping, and the end.
            for (const std::size_t at :
                 {std::size_t{0}, std::size_t{16}, kPage - 1, 4 * kPage - 3, 4 * kPage}) {
                places.push_back(ring.data() + at);
            }
            places.push_back(ring.rest() + ring.rest_bytes() - store.bytes);
            if (store.bytes > 1) {
                places.push_back(ring.rest() - store.bytes / 2);
            }
            for (std::byte* place : places) {
                ++stores;
                faults +=
                    signal_of([&] { store.write(place, 0xa5a5a5a5a5a5a5a5); }) == SIGSEGV ? 1U : 0U;
            }
            EXPECT_EQ(ring.changed(), "") << store.name;
        }
        EXPECT_EQ(faults, stores) << "stores to the kernel's part that went through";
    });
}

// The kernel writes for a program by its own hand: into the consumer's page it
// may, which forges; elsewhere it must find that it may not.
TEST_P(Forging, TheKernelsPartBySystemCallsIsRefused) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 20});
        ring.remember();
        for (const KernelWrite& call : kernel_writes()) {
            for (std::byte* place : {ring.rest() + 64, ring.data(), ring.data() + ring.data_bytes(),
                                     ring.rest() + ring.rest_bytes() - 256}) {
                EXPECT_EQ(call.write(place), EFAULT) << call.name;
            }
            EXPECT_EQ(ring.changed(), "") << call.name;
        }
        // From the page that may be written into the one that may not.
        std::array<char, 64> bytes{};
        bytes.fill('\xa5');
        std::array<int, 2> pipe{};
        ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
        ASSERT_EQ(write(pipe[1], bytes.data(), bytes.size()), 64);
        const ssize_t got = read(pipe[0], ring.rest() - 32, 64);
        EXPECT_LE(got, 32) << "it went on behind the border";
        EXPECT_EQ(ring.changed(), "");
        close(pipe[0]);
        close(pipe[1]);
    });
}

TEST_P(Forging, ByTheKernelsOwnHandHurtsNobody) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        ring.join(flow_->copied());
        ring.join(flow_->in_place());
        for (Rounds rounds(200, std::chrono::milliseconds(150)); rounds.more();) {
            for (const KernelWrite& call : kernel_writes()) {
                // What fits no page boundary and is no forgery: at every word.
                const int error = call.write(ring.consumer());
                EXPECT_TRUE(error == 0 || error == EINVAL || error == EFAULT)
                    << call.name << ": " << strerrorname_np(error);
                call.write(ring.consumer() + 8);
            }
            guest::poll_now(ring.fd(), POLLIN);
        }
        std::memset(ring.consumer(), 0, kPage);
        expect_sane(ring);
        ASSERT_TRUE(guest::succeeded(ring.socket().leave(flow_->copied())));
        ASSERT_TRUE(guest::succeeded(ring.socket().leave(flow_->in_place())));
        expect_honesty_to_be_rewarded(ring);
    });
}

// What the kernel writes at a time of its own: at a thread's end, at a signal,
// on the way back from a system call.
TEST_P(Forging, TheKernelsPartByWritesOfTheKernelsOwnAccordIsRefused) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        ring.join(still_);
        const auto own = static_cast<pid_t>(syscall(SYS_gettid));
        const auto first = static_cast<std::uint64_t>(own);
        producer_.publish({.group = still_group_, .count = 80, .first_number = first});
        const std::function<std::byte*(pid_t)> word_of = [&](pid_t task) {
            const std::size_t index = static_cast<std::size_t>(task - own) % 80;
            return ring.data() + index * 88 + sizeof(nlmmap_record) + sizeof(nlmsghdr);
        };
        ring.remember();
        for (std::byte* place : {ring.data(), ring.rest() + 64}) {
            end_a_task_with_its_id_at(place);
            EXPECT_EQ(ring.changed(), "") << "the kernel wrote a task's number";
        }
        // A lock belongs to the task whose number it is: so the messages' numbers,
        // which lie in the data, are those of tasks to come.
        end_a_task_with_a_robust_lock_at(word_of);
        EXPECT_EQ(ring.changed(), "") << "the kernel marked a dead task's lock";
        for (std::byte* place : {word_of(own), word_of(own + 1), ring.rest() + 64}) {
            for (const int operation :
                 {FUTEX_WAKE_OP, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, FUTEX_LOCK_PI,
                  FUTEX_LOCK_PI | FUTEX_PRIVATE_FLAG, FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG,
                  FUTEX_UNLOCK_PI, FUTEX_UNLOCK_PI | FUTEX_PRIVATE_FLAG}) {
                EXPECT_EQ(futex(place, operation), -1) << "futex operation " << operation;
            }
            EXPECT_EQ(ring.changed(), "") << "a futex operation wrote";
        }
    });
}

// The same, where the kernel has no one to tell but by a signal.
TEST_P(Forging, TheKernelsPartAsStackOrThreadAreaIsDeadly) {
    const QuietCrashes quiet;
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 20});
        ring.remember();
        // The ring is not inherited: each child maps it anew.
        const auto dies = [&](const std::function<void(OwnRing&)>& code) {
            return in_child([&]() -> std::string {
                ring.map();
                code(ring);
                return "it lives; ";
            });
        };
        const std::string died = "child ended by Segmentation fault";
        EXPECT_EQ(dies([](OwnRing& own) { take_a_signal_on(own.data(), 4 * kPage); }), died)
            << "a signal's frame on the data pages";
        const std::string thread_area = dies([](OwnRing& own) {
            if (register_thread_area(own.data()) == EFAULT) {
                throw std::runtime_error("refused at once");
            }
            sched_yield();
        });
        EXPECT_TRUE(thread_area == died || thread_area == "refused at once") << thread_area;
        EXPECT_EQ(dies([](OwnRing& own) { reinterpret_cast<void (*)()>(own.data() + 64)(); }), died)
            << "data pages were executed";
        EXPECT_EQ(dies([](OwnRing& own) {
                      *own.consumer() = std::byte{0xc3};  // ret
                      reinterpret_cast<void (*)()>(own.consumer())();
                  }),
                  died)
            << "the consumer's page was executed";
        EXPECT_EQ(ring.changed(), "");
    });
}

TEST_P(Forging, ByFramesOfSignalsAndThreadAreasHurtsNobody) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        ring.join(flow_->copied());
        ring.join(flow_->in_place());
        EXPECT_EQ(in_child([&]() -> std::string {
                      // The top of a stack is what the kernel writes: it is where
                      // the words are, and the rest of the stack lies before them.
                      constexpr std::size_t below = 4 * kPage;
                      auto* stack = static_cast<std::byte*>(
                          mmap(nullptr, below + kPage, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                      if (stack == MAP_FAILED ||
                          mmap(stack + below, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                               ring.fd(), 0) == MAP_FAILED) {
                          return "no stack";
                      }
                      for (int i = 0; i < 50; ++i) {
                          take_a_signal_on(stack, below + 64);
                          guest::poll_now(ring.fd(), POLLIN);
                      }
                      std::memset(stack + below, 0, kPage);
                      // The kernel writes there whenever the thread moves.
                      if (register_thread_area(stack + below) != 0) {
                          return "no thread area";
                      }
                      for (int i = 0; i < 50; ++i) {
                          sched_yield();
                          guest::poll_now(ring.fd(), POLLIN);
                      }
                      end_a_task_with_its_id_at(stack + below + 32);
                      end_a_task_with_a_robust_lock_at([&](pid_t task) {
                          std::memcpy(stack + below + 64, &task, sizeof(task));
                          return stack + below + 64;
                      });
                      pid_t left = 0;
                      std::memcpy(&left, stack + below + 64, sizeof(left));
                      return (left & FUTEX_OWNER_DIED) != 0 ? "" : "no lock was marked";
                  }),
                  "");
        std::memset(ring.consumer(), 0, kPage);
        expect_sane(ring);
    });
}

}  // namespace
}  // namespace hostile
