// SPDX-License-Identifier: MIT
//
// Tries to map what one may not, to make a mapping into more than it was, and to
// tear it to pieces while messages flow: every offset, length, right and flag;
// mprotect, mremap, munmap in the middle, MAP_FIXED over, remap_file_pages,
// personality, and all of them at random from several threads.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/memory_attack.h"

namespace hostile {
namespace {

using guest::in_child;

// The page that a mapping has at an address, as the process itself may copy it;
// false if there is none. Unlike a load, it gets no signal.
bool copy_from(const std::byte* at, std::byte* into, std::size_t bytes) {
    const iovec local{.iov_base = into, .iov_len = bytes};
    const iovec remote{.iov_base = const_cast<std::byte*>(at), .iov_len = bytes};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
}

// The errno of a mapping; 0 if it was made (and is undone).
int try_map(int fd, std::size_t bytes, int rights, int flags, std::uint64_t offset) {
    // Not with the C library, which looks at the offset itself.
    const long at = syscall(SYS_mmap, nullptr, bytes, rights, flags, fd, offset);
    if (at == -1) {
        return errno;
    }
    munmap(reinterpret_cast<void*>(at), bytes);  // NOLINT(performance-no-int-to-ptr)
    return 0;
}

class Mapping : public MemoryAttack {
  protected:
    // A ring with something in it that does not change.
    void fill(OwnRing& ring) {
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 30});
        ring.remember();
    }
    static void expect_no_rights_gained(const OwnRing& ring) {
        EXPECT_EQ(rights_gained(ring.consumer(), kPage, true), "");
        EXPECT_EQ(rights_gained(ring.rest(), ring.rest_bytes(), false), "");
    }
    // Whatever is left of a ring's mapping is what it was, has no right more, and
    // the ring works.
    void expect_unharmed(OwnRing& ring) {
        expect_no_rights_gained(ring);
        ring.map();
        EXPECT_EQ(ring.changed(), "");
        EXPECT_EQ(
            producer_.publish({.group = still_group_, .count = 3, .first_number = 30}).delivered,
            3U);
        EXPECT_EQ(ring.producer_words().position, 33U * 88);
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Mapping);

// What is not one of the two is refused, and how it is refused is the contract's.
TEST_P(Mapping, OfEveryOffsetLengthRightAndKindIsOneOfTwoOrRefused) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        constexpr std::size_t rest = 3;
        unsigned made = 0;
        for (std::size_t offset = 0; offset < 6; ++offset) {
            for (std::size_t pages = 1; pages < 7; ++pages) {
                for (int rights = 0; rights < 8; ++rights) {
                    for (const int kind : {MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE}) {
                        const bool consumer = offset == 0 && pages == 1;
                        const bool producer = offset == 1 && pages == rest;
                        int expected = 0;
                        if (kind == MAP_PRIVATE || !(consumer || producer)) {
                            expected = EINVAL;
                        } else if ((rights & PROT_EXEC) != 0 ||
                                   (producer && (rights & PROT_WRITE) != 0)) {
                            expected = EPERM;
                        }
                        const int error =
                            try_map(ring.fd(), pages * kPage, rights, kind, offset * kPage);
                        EXPECT_EQ(error, expected) << pages << " pages at page " << offset
                                                   << ", rights " << rights << ", kind " << kind;
                        made += error == 0 ? 1U : 0U;
                    }
                }
            }
        }
        EXPECT_EQ(made, 2U * (4 + 2));
    });
}

// The old way into the kernel, for programs of 32 bits.
long mmap_of_32_bits(std::size_t bytes, int rights, int fd, std::size_t page) {
    long answer = 192;  // mmap2
    // The sixth argument goes into the frame pointer.
    asm volatile(
        "sub $128, %%rsp\n\tpush %%rbp\n\tmov %6, %%rbp\n\tint $0x80\n\tpop %%rbp\n\tadd $128, "
        "%%rsp"
        : "+a"(answer)
        : "b"(0L), "c"(bytes), "d"(static_cast<long>(rights)), "S"(static_cast<long>(MAP_SHARED)),
          "D"(static_cast<long>(fd)), "r"(page)
        : "memory", "r8", "r9", "r10", "r11");
    return answer;
}

TEST_P(Mapping, BySystemCallsOf32BitsIsTheSame) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        long answer = -ENOSYS;
        ASSERT_EQ(signal_of([&] {
                      answer = mmap_of_32_bits(kPage, PROT_READ | PROT_WRITE, ring.fd(), 0);
                  }),
                  0)
            << "this kernel has no way in for programs of 32 bits";
        ASSERT_GT(answer, 0) << "the consumer's page";
        EXPECT_EQ(mmap_of_32_bits(kPage, PROT_READ | PROT_EXEC, ring.fd(), 0), -EPERM);
        EXPECT_EQ(mmap_of_32_bits(ring.rest_bytes(), PROT_READ | PROT_WRITE, ring.fd(), 1), -EPERM);
        EXPECT_EQ(mmap_of_32_bits(kPage, PROT_READ | PROT_WRITE, ring.fd(), 2), -EINVAL);
        EXPECT_EQ(mmap_of_32_bits(kPage, PROT_READ, ring.fd(), 1U << 20), -EINVAL);
        const long rest = mmap_of_32_bits(ring.rest_bytes(), PROT_READ, ring.fd(), 1);
        ASSERT_GT(rest, 0);
        EXPECT_EQ(rights_gained(reinterpret_cast<void*>(rest), ring.rest_bytes(), false), "");
        EXPECT_EQ(rights_gained(reinterpret_cast<void*>(answer), kPage, true), "");
    });
}

TEST_P(Mapping, AtOffsetsOfOtherRingsAndBeyondTheEndIsRefused) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        const std::size_t rest = ring.rest_bytes();
        for (unsigned bit = 13; bit < 64; ++bit) {
            for (const std::uint64_t more :
                 {std::uint64_t{0}, std::uint64_t{kPage}, ~std::uint64_t{kPage - 1}}) {
                const std::uint64_t offset = (std::uint64_t{1} << bit) + more;
                if (offset <= kPage) {
                    continue;
                }
                for (const std::size_t bytes : {kPage, rest}) {
                    const int error = try_map(ring.fd(), bytes, PROT_READ, MAP_SHARED, offset);
                    EXPECT_TRUE(error == EINVAL || error == EOVERFLOW)
                        << "offset " << offset << ": " << error;
                }
            }
        }
        for (const std::uint64_t offset : {1U, 8U, 4095U, 4097U}) {
            EXPECT_EQ(try_map(ring.fd(), kPage, PROT_READ, MAP_SHARED, offset), EINVAL);
        }
        // Lengths that are rounded up, and such that overflow.
        EXPECT_EQ(try_map(ring.fd(), 1, PROT_READ, MAP_SHARED, 0), 0) << "a page, after all";
        EXPECT_EQ(try_map(ring.fd(), 0, PROT_READ, MAP_SHARED, 0), EINVAL);
        EXPECT_EQ(try_map(ring.fd(), rest - 1, PROT_READ, MAP_SHARED, kPage), 0);
        EXPECT_EQ(try_map(ring.fd(), rest + 1, PROT_READ, MAP_SHARED, kPage), EINVAL);
        for (const std::size_t bytes :
             {std::size_t{1} << 40, ~std::size_t{0}, ~std::size_t{0} - kPage}) {
            EXPECT_NE(try_map(ring.fd(), bytes, PROT_READ, MAP_SHARED, 0), 0);
            EXPECT_NE(try_map(ring.fd(), bytes, PROT_READ, MAP_SHARED, kPage), 0);
        }
    });
}

TEST_P(Mapping, WithOtherFlagsGivesNoMoreRights) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        for (const int flag : {MAP_LOCKED, MAP_POPULATE, MAP_NONBLOCK | MAP_POPULATE, MAP_NORESERVE,
                               MAP_GROWSDOWN, MAP_STACK, MAP_HUGETLB, MAP_32BIT, MAP_ANONYMOUS,
                               0x80000 /* MAP_SYNC */, 0x20000 /* MAP_STACK */, 0x4000000}) {
            for (const int kind : {MAP_SHARED, MAP_SHARED_VALIDATE, 0, 8 /* MAP_DROPPABLE */}) {
                if (flag == MAP_ANONYMOUS) {
                    continue;  // not the ring's memory
                }
                void* at =
                    mmap(nullptr, ring.rest_bytes(), PROT_READ, kind | flag, ring.fd(), kPage);
                if (at != MAP_FAILED) {
                    EXPECT_EQ(rights_gained(at, ring.rest_bytes(), false), "") << flag;
                    munmap(at, ring.rest_bytes());
                }
                EXPECT_EQ(try_map(ring.fd(), ring.rest_bytes(), PROT_READ | PROT_WRITE, kind | flag,
                                  kPage) == 0,
                          false)
                    << flag;
            }
        }
        expect_unharmed(ring);
    });
}

TEST_P(Mapping, KeepsItsRightsWhateverMprotectIsAsked) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        const std::size_t pages = 1 + ring.rest_bytes() / kPage;
        for (std::size_t first = 0; first < pages; ++first) {
            for (const std::size_t count : {std::size_t{1}, std::size_t{2}, pages - first}) {
                std::byte* at = ring.consumer() + first * kPage;
                for (int rights = 0; rights < 16; ++rights) {  // PROT_SEM is 8
                    mprotect(at, count * kPage, rights);
                    mprotect(at, count * kPage, rights | PROT_GROWSDOWN);
                    mprotect(at, count * kPage, rights | PROT_GROWSUP);
                    syscall(SYS_pkey_mprotect, at, count * kPage, rights, -1);
                }
            }
            expect_no_rights_gained(ring);
            ring.map();
        }
        // In pieces that are each something else, then as a whole again.
        for (std::size_t page = 0; page * kPage < ring.rest_bytes(); page += 2) {
            EXPECT_EQ(mprotect(ring.rest() + page * kPage, kPage, PROT_NONE), 0);
        }
        EXPECT_EQ(signal_of([&] { ring.changed(); }), SIGSEGV);
        EXPECT_EQ(mprotect(ring.rest(), ring.rest_bytes(), PROT_READ), 0);
        EXPECT_EQ(ring.changed(), "");
        EXPECT_EQ(mprotect(ring.rest(), ring.rest_bytes(), PROT_READ | PROT_WRITE), -1);
        EXPECT_EQ(errno, EACCES);
        EXPECT_EQ(signal_of([&] { ring.data()[5] = std::byte{1}; }), SIGSEGV);
        expect_unharmed(ring);
    });
}

// A program that says that whatever it reads it executes.
TEST_P(Mapping, IsNotMadeExecutableByPersonality) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        ASSERT_NE(personality(READ_IMPLIES_EXEC), -1);
        EXPECT_EQ(mprotect(ring.rest(), ring.rest_bytes(), PROT_READ), 0);
        EXPECT_EQ(mprotect(ring.consumer(), kPage, PROT_READ | PROT_WRITE), 0);
        expect_no_rights_gained(ring);
        for (const int rights : {PROT_READ, PROT_READ | PROT_WRITE, PROT_WRITE, PROT_NONE}) {
            for (const std::size_t offset : {std::size_t{0}, kPage}) {
                const std::size_t bytes = offset == 0 ? kPage : ring.rest_bytes();
                void* at =
                    mmap(nullptr, bytes, rights, MAP_SHARED, ring.fd(), static_cast<off_t>(offset));
                if (at != MAP_FAILED) {
                    EXPECT_EQ(rights_gained(at, bytes, offset == 0), "");
                    munmap(at, bytes);
                }
            }
        }
        personality(0);
        expect_unharmed(ring);
    });
}

TEST_P(Mapping, IsMovedShrunkAndSwappedButShowsNothingElse) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        fill(ring);
        const std::size_t pages = ring.rest_bytes() / kPage;
        // Larger, twice, or left where it was: all of that would be new.
        for (std::size_t page = 0; page < pages; ++page) {
            std::byte* at = ring.rest() + page * kPage;
            for (const std::size_t bytes : {std::size_t{0}, kPage, (pages - page) * kPage}) {
                for (const std::size_t more :
                     {bytes + kPage, bytes + ring.rest_bytes(), std::size_t{1} << 40}) {
                    EXPECT_EQ(mremap(at, bytes, more, 0), MAP_FAILED);
                    EXPECT_EQ(mremap(at, bytes, more, MREMAP_MAYMOVE), MAP_FAILED)
                        << "page " << page << " of " << bytes << " bytes grew to " << more;
                }
                EXPECT_EQ(mremap(at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP), MAP_FAILED)
                    << "page " << page << ": there are two of them now";
            }
            EXPECT_EQ(mremap(at, 0, kPage, MREMAP_MAYMOVE), MAP_FAILED) << "a second one";
        }
        EXPECT_EQ(mremap(ring.consumer(), kPage, 2 * kPage, MREMAP_MAYMOVE), MAP_FAILED);
        EXPECT_EQ(mremap(ring.consumer(), 0, kPage, MREMAP_MAYMOVE), MAP_FAILED);
        EXPECT_EQ(mremap(ring.consumer(), 2 * kPage, 3 * kPage, MREMAP_MAYMOVE), MAP_FAILED)
            << "over both parts";
        EXPECT_EQ(ring.changed(), "");

        // Page by page to the other end of a place, so that the pages lie in
        // reverse; each is still what it was, and faults in as what it was.
        auto* place = static_cast<std::byte*>(
            mmap(nullptr, ring.rest_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(place, MAP_FAILED);
        std::vector<std::byte> before(ring.rest(), ring.rest() + ring.rest_bytes());
        for (std::size_t page = 0; page < pages; ++page) {
            std::byte* to = place + (pages - 1 - page) * kPage;
            ASSERT_EQ(
                mremap(ring.rest() + page * kPage, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to),
                to);
            if (page % 2 == 0) {
                EXPECT_EQ(madvise(to, kPage, MADV_DONTNEED), 0);
            }
            EXPECT_EQ(std::memcmp(to, before.data() + page * kPage, kPage), 0) << "page " << page;
        }
        EXPECT_EQ(rights_gained(place, ring.rest_bytes(), false), "");
        EXPECT_EQ(mprotect(place, ring.rest_bytes(), PROT_READ | PROT_WRITE), -1);
        // The consumer's page into the middle of them.
        ASSERT_EQ(
            mremap(ring.consumer(), kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, place + 2 * kPage),
            place + 2 * kPage);
        place[2 * kPage + 100] = std::byte{0x77};
        EXPECT_EQ(madvise(place, ring.rest_bytes(), MADV_DONTNEED), 0);
        EXPECT_EQ(place[2 * kPage + 100], std::byte{0x77}) << "the consumer's own page";
        EXPECT_EQ(signal_of([&] { place[3 * kPage] = std::byte{1}; }), SIGSEGV);
        EXPECT_EQ(signal_of([&] { place[1 * kPage] = std::byte{1}; }), SIGSEGV);
        munmap(place, ring.rest_bytes());
        expect_unharmed(ring);
    });
}

TEST_P(Mapping, WithHolesIsWhatIsLeftOfIt) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        const std::size_t pages = ring.rest_bytes() / kPage;
        const std::vector<std::byte> before(ring.rest(), ring.rest() + ring.rest_bytes());
        for (std::size_t hole = 0; hole < pages; ++hole) {
            for (std::size_t bytes = kPage; hole * kPage + bytes <= ring.rest_bytes();
                 bytes += kPage) {
                ring.map();
                ASSERT_EQ(munmap(ring.rest() + hole * kPage, bytes), 0);
                for (std::size_t page = 0; page < pages; ++page) {
                    std::byte* at = ring.rest() + page * kPage;
                    const bool gone = page >= hole && page * kPage < hole * kPage + bytes;
                    std::array<std::byte, kPage> copy{};
                    EXPECT_EQ(copy_from(at, copy.data(), kPage), !gone) << "page " << page;
                    if (!gone) {
                        EXPECT_EQ(std::memcmp(copy.data(), before.data() + page * kPage, kPage), 0);
                        EXPECT_EQ(madvise(at, kPage, MADV_DONTNEED), 0);
                        EXPECT_EQ(*at, before[page * kPage]);
                    } else if (page == hole) {
                        // The hole cannot be filled with a piece of the ring.
                        EXPECT_EQ(mmap(at, kPage, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
                                       ring.fd(), static_cast<off_t>((1 + page) * kPage)),
                                  MAP_FAILED);
                    }
                }
            }
        }
        ring.map();
        // A ring of which only the data's second copy is left reads on.
        munmap(ring.consumer(), 2 * kPage + ring.data_bytes());
        EXPECT_EQ(std::memcmp(ring.data() + ring.data_bytes(),
                              before.data() + kPage + ring.data_bytes(), ring.data_bytes()),
                  0);
        // Nothing of it is left, but the descriptor.
        munmap(ring.consumer(), kPage + ring.rest_bytes());
        expect_unharmed(ring);
    });
}

TEST_P(Mapping, OverWhichOthersAreMappedIsReplacedAndNoMore) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        OwnRing second(kPage * 2);
        fill(ring);
        second.join(still_);
        second.remember();
        // Memory of one's own over the kernel's part: it is one's own.
        for (const std::size_t offset : {std::size_t{0}, kPage, 2 * kPage, 4 * kPage}) {
            std::byte* at = ring.rest() + offset;
            ASSERT_EQ(mmap(at, kPage, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                      at);
            std::memset(at, 0xa5, kPage);
            std::array<std::byte, 128> made_up{};
            made_up.fill(std::byte{0x5a});
            std::memcpy(at, made_up.data(), made_up.size());
        }
        // The consumer's page over another ring's kernel part, and the reverse.
        ASSERT_NE(mmap(second.rest(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       ring.fd(), 0),
                  MAP_FAILED);
        std::memset(second.rest(), 0xff, kPage);
        ASSERT_NE(mmap(second.consumer(), ring.rest_bytes(), PROT_READ, MAP_SHARED | MAP_FIXED,
                       ring.fd(), kPage),
                  MAP_FAILED);
        EXPECT_EQ(signal_of([&] { *second.consumer() = std::byte{1}; }), SIGSEGV);
        // What the kernel refuses: whatever became of what was there, nothing new.
        EXPECT_EQ(mmap(second.consumer(), kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       ring.fd(), kPage),
                  MAP_FAILED);
        EXPECT_EQ(mmap(second.consumer(), ring.rest_bytes(), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, ring.fd(), kPage),
                  MAP_FAILED);
        const int segment = shmget(IPC_PRIVATE, kPage, 0600);
        ASSERT_GE(segment, 0);
        EXPECT_NE(shmat(segment, second.rest(), SHM_REMAP), reinterpret_cast<void*>(-1));
        std::memset(second.rest(), 0x33, kPage);
        shmdt(second.rest());
        shmctl(segment, IPC_RMID, nullptr);
        second.map();
        __atomic_store_n(&ring.consumer_words().position, 0, __ATOMIC_RELEASE);
        EXPECT_EQ(second.changed(), "");
        second.unmap();
        ASSERT_TRUE(guest::succeeded(second.socket().leave(still_)));
        ring.map();
        expect_unharmed(ring);
    });
}

// An old way to change which page of a file lies where, without a new mapping.
TEST_P(Mapping, CannotBeShiftedByRemapFilePages) {
    attack_in_flow([&] {
        OwnRing ring(kPage);
        fill(ring);
        const std::size_t pages = 1 + ring.rest_bytes() / kPage;
        std::vector<std::byte> marks(kPage, std::byte{0xa5});
        for (std::size_t page = 0; page < pages; ++page) {
            for (const std::size_t count : {std::size_t{1}, std::size_t{2}, pages - 1}) {
                for (std::size_t to = 0; to < pages + 2; ++to) {
                    ring.map();
                    std::byte* at = ring.consumer() + page * kPage;
                    syscall(SYS_remap_file_pages, at, count * kPage, 0, to, 0);
                    syscall(SYS_remap_file_pages, at, count * kPage, 0, to, MAP_NONBLOCK);
                    // Whatever may be written now is not the kernel's.
                    const iovec local{.iov_base = marks.data(), .iov_len = kPage};
                    const iovec remote{.iov_base = at, .iov_len = kPage};
                    process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
                }
            }
            EXPECT_EQ(rights_gained(ring.rest(), ring.rest_bytes(), false), "");
        }
        for (const std::size_t to : {std::size_t{1} << 20, std::size_t{17} << 20,
                                     ~std::size_t{0} >> 12, ~std::size_t{0}}) {
            EXPECT_EQ(syscall(SYS_remap_file_pages, ring.rest(), kPage, 0, to, 0), -1);
        }
        ring.map();
        std::memset(ring.consumer(), 0, kPage);
        expect_unharmed(ring);
    });
}

// What others kept in memory that is a ring's now.
TEST_P(Mapping, ShowsNothingOfWhatTheMemoryHeldBefore) {
    // Root's rings, full of what may not be told, and gone.
    {
        std::vector<guest::RawMember> secret;
        secret.reserve(4);
        for (int i = 0; i < 4; ++i) {
            secret.emplace_back(still_, 1U << 20);
        }
        producer_.publish({.group = still_group_, .count = 1200, .min_bytes = 800});
    }
    // Asks for what is being freed, so the kernel waits until it is.
    expect_locked_at_most(0, Flow::kPages);
    attack_in_flow([&] {
        for (int i = 0; i < 3; ++i) {
            OwnRing ring(1U << 20);
            nlmmap_producer words{};
            std::memcpy(&words, ring.rest(), sizeof(words));
            EXPECT_EQ(words.position, 0U);
            EXPECT_EQ(words.lost, 0U);
            const auto zero = [](std::byte byte) { return byte == std::byte{0}; };
            EXPECT_TRUE(std::all_of(ring.rest() + sizeof(nlmmap_producer),
                                    ring.rest() + ring.rest_bytes(), zero))
                << "a fresh ring holds what somebody wrote before";
            EXPECT_TRUE(std::all_of(ring.consumer(), ring.consumer() + kPage, zero));
        }
    });
}

// Everything at once, at random, from two threads, beside publishing and polling.
TEST_P(Mapping, TornAtRandomByTwoThreadsHurtsNobody) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 4);
        ring.join(flow_->copied());
        ring.join(flow_->in_place());
        // What is torn reaches beyond the place where it begins.
        constexpr std::size_t room = 80 * kPage;
        auto* place = static_cast<std::byte*>(
            mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(place, MAP_FAILED);
        const auto tear = [&](std::uint64_t seed) {
            Dice dice(seed);
            std::array<std::byte, kPage> copy{};
            for (Rounds rounds(4000, std::chrono::milliseconds(250)); rounds.more();) {
                std::byte* at = place + dice.below(63) * kPage;
                std::byte* other = place + dice.below(63) * kPage;
                const std::size_t bytes = (1 + dice.below(8)) * kPage;
                switch (dice.below(10)) {
                    case 0:
                        mmap(at, ring.rest_bytes(), PROT_READ, MAP_SHARED | MAP_FIXED, ring.fd(),
                             kPage);
                        break;
                    case 1:
                        mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ring.fd(),
                             0);
                        break;
                    case 2:
                        munmap(at, bytes);
                        break;
                    case 3:
                        mprotect(at, bytes, static_cast<int>(dice.below(8)));
                        break;
                    case 4:
                        mremap(at, bytes, (1 + dice.below(8)) * kPage,
                               MREMAP_MAYMOVE | MREMAP_FIXED, other);
                        break;
                    case 5:
                        madvise(at, bytes, dice.below(2) == 0 ? MADV_DONTNEED : MADV_POPULATE_READ);
                        break;
                    case 6:
                        syscall(SYS_remap_file_pages, at, bytes, 0, dice.below(12), 0);
                        break;
                    case 7:
                        dice.below(2) == 0 ? mlock(at, bytes) : munlock(at, bytes);
                        break;
                    case 8: {
                        const iovec local{.iov_base = copy.data(), .iov_len = kPage};
                        const iovec remote{.iov_base = at, .iov_len = kPage};
                        process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
                        break;
                    }
                    default:
                        copy_from(at, copy.data(), kPage);
                        guest::poll_now(ring.fd(), POLLIN);
                }
            }
        };
        std::thread second([&] { tear(static_cast<std::uint64_t>(GetParam()) + 20); });
        tear(static_cast<std::uint64_t>(GetParam()) + 10);
        second.join();
        for (const Mapped& mapped : mappings()) {
            const bool of_ring = mapped.begin >= reinterpret_cast<std::uintptr_t>(place) &&
                                 mapped.end <= reinterpret_cast<std::uintptr_t>(place) + room &&
                                 mapped.flags.contains("sh");
            EXPECT_FALSE(of_ring && (mapped.flags.contains("ex") || mapped.flags.contains("me")))
                << mapped.rights;
        }
        munmap(place, room);
        // Through the ring's own mapping: the words are the kernel's, the ring works.
        EXPECT_EQ(ring.producer_words().data_bytes, ring.data_bytes());
        const std::uint64_t before = ring.producer_words().position;
        const std::uint64_t produced = guest::counter(ring.socket(), NLMMAP_A_PRODUCED);
        EXPECT_LE(before, produced);
        EXPECT_LE(produced, ring.producer_words().position);
    });
}

// Whoever it is, the memory is the same.
class LargeRings : public Mapping {};
INSTANTIATE_TEST_SUITE_P(, LargeRings, testing::Values(Attacker::user),
                         [](const auto& attacker) { return name_of(attacker.param); });

// Each is mapped in another odd way when its process goes: the pages come back.
TEST_P(LargeRings, InPiecesAreGivenBackByAProcessThatEnds) {
    constexpr std::uint32_t large = 8U << 20;
    constexpr std::size_t rest = kPage + 2 * std::size_t{large};
    const guest::MemlockLimit limit(256U << 20);
    const std::uint64_t before = guest::free_pages();
    attack_in_flow([&] {
        for (int way = 0; way < 4; ++way) {
            EXPECT_EQ(in_child([&]() -> std::string {
                          OwnRing ring(large);
                          switch (way) {
                              case 0:
                                  munmap(ring.rest() + kPage, large);
                                  break;
                              case 1:
                                  munmap(ring.consumer(), kPage);
                                  mprotect(ring.rest() + kPage, large / 2, PROT_NONE);
                                  break;
                              case 2:
                                  madvise(ring.rest(), rest, MADV_DONTNEED);
                                  break;
                              default:
                                  ring.socket().close();
                                  mremap(ring.rest(), rest, rest / 2 / kPage * kPage, 0);
                          }
                          _exit(0);
                      }),
                      "");
        }
    });
    EXPECT_TRUE(guest::eventually([&] { return guest::free_pages() + large / kPage / 2 > before; }))
        << "of " << before << " free pages " << guest::free_pages() << " are left";
}

}  // namespace
}  // namespace hostile
