// SPDX-License-Identifier: MIT
//
// Tries to have the kernel's memory management take a ring's pages away, merge,
// move, lock, dump or fill them: every advice of madvise, mlock and mlockall,
// userfaultfd, KSM, migration and compaction, soft-dirty tracking, sealing, and
// the file operations of the descriptor, while messages flow.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/memory_attack.h"

namespace hostile {
namespace {

using guest::Check;
using guest::in_child;
using guest::RawMember;

// All that a kernel may know, and some that it may not.
constexpr int kAdvices = 32;
constexpr int kHwPoison = 100;
constexpr int kSoftOffline = 101;
// Younger than the C library's header.
constexpr int kCollapse = 25;
constexpr std::uint64_t kWriteProtectAsync = 1U << 15;

// madvise()'s errno.
int advise(std::byte* at, std::size_t bytes, int advice) {
    return madvise(at, bytes, advice) != 0 ? errno : 0;
}

// Writes to a file as far as the kernel lets; the errno.
int write_to(const std::string& path, const std::string& text) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    const int error = write(fd, text.data(), text.size()) < 0 ? errno : 0;
    close(fd);
    return error;
}

class Advice : public MemoryAttack {
  protected:
    void fill(OwnRing& ring) {
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 30});
        ring.remember();
        ring.consumer()[200] = std::byte{0x42};
    }
    void expect_unharmed(OwnRing& ring, const std::string& after) {
        SCOPED_TRACE(after);
        EXPECT_EQ(ring.changed(), "");
        EXPECT_EQ(ring.consumer()[200], std::byte{0x42}) << "the consumer's page is another";
        EXPECT_EQ(rights_gained(ring.consumer(), kPage, true), "");
        EXPECT_EQ(rights_gained(ring.rest(), ring.rest_bytes(), false), "");
        EXPECT_EQ(signal_of([&] { ring.data()[3] = std::byte{1}; }), SIGSEGV);
    }
    // The kernel writes to the pages that the attacker sees.
    void expect_live(OwnRing& ring) {
        const std::uint64_t before = ring.producer_words().position;
        EXPECT_EQ(producer_.publish({.group = still_group_, .count = 2}).delivered, 2U);
        EXPECT_EQ(ring.producer_words().position, before + 2U * 88);
        std::uint64_t number = ~std::uint64_t{0};
        std::memcpy(&number, ring.data() + before + sizeof(nlmmap_record) + sizeof(nlmsghdr), 8);
        EXPECT_EQ(number, 0U) << "the message is not where the kernel wrote it";
        __atomic_store_n(&ring.consumer_words().position, before, __ATOMIC_RELEASE);
        EXPECT_EQ(guest::counter(ring.socket(), NLMMAP_A_CONSUMED), before)
            << "the kernel reads another page than the attacker writes";
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Advice);

TEST_P(Advice, OfEveryKindOnEveryPartChangesNothing) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        struct Part {
            std::byte* at;
            std::size_t bytes;
        };
        const std::array parts{Part{ring.consumer(), kPage}, Part{ring.rest(), ring.rest_bytes()},
                               Part{ring.rest(), kPage}, Part{ring.data() + kPage, 2 * kPage},
                               Part{ring.consumer(), kPage + ring.rest_bytes()}};
        std::vector<int> advices;
        advices.reserve(kAdvices);
        for (int advice = 0; advice < kAdvices; ++advice) {
            advices.push_back(advice);
        }
        advices.insert(advices.end(), {kSoftOffline, 102, -1});
        // Poisoned memory is lost for good by definition, and root may do that.
        if (!privileged()) {
            advices.push_back(kHwPoison);
        }
        for (const Part& part : parts) {
            const bool consumer = part.bytes == kPage && part.at == ring.consumer();
            for (const int advice : advices) {
                const int error = advise(part.at, part.bytes, advice);
                const std::string what =
                    "advice " + std::to_string(advice) + " answered " + std::to_string(error);
                EXPECT_EQ(ring.changed(), "") << what;
                EXPECT_EQ(ring.consumer()[200], std::byte{0x42}) << what;
                switch (advice) {
                    case MADV_DONTNEED:
                    case MADV_DOFORK:
                    case MADV_DONTFORK:
                        EXPECT_EQ(error, 0) << what;
                        break;
                    case MADV_FREE:
                    case MADV_WIPEONFORK:
                    case MADV_DODUMP:
                    case kCollapse:
                        EXPECT_EQ(error, EINVAL) << what;
                        break;
                    case MADV_REMOVE:
                    case kHwPoison:
                        EXPECT_NE(error, 0) << what;
                        break;
                    case MADV_POPULATE_WRITE:
                        EXPECT_EQ(error == 0, consumer) << what;
                        break;
                    default:
                        break;
                }
            }
            // As another process may give it, which may be this one.
            const int self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
            const iovec range{.iov_base = part.at, .iov_len = part.bytes};
            for (const int advice : advices) {
                syscall(SYS_process_madvise, self, &range, 1, advice, 0);
            }
            close(self);
            expect_unharmed(ring, "all advices");
        }
        expect_live(ring);
    });
}

TEST_P(Advice, WhileAReaderReadsCostsItNothing) {
    attack_in_flow([&] {
        for (const bool in_place : {false, true}) {
            RawMember own(in_place ? flow_->in_place() : flow_->copied(), 1U << 16);
            auto* rest =
                reinterpret_cast<std::byte*>(const_cast<nlmmap_producer*>(&own.ring.producer()));
            auto* consumer = reinterpret_cast<std::byte*>(&own.ring.consumer());
            const std::size_t pages = 1 + 2 * own.ring.data_bytes() / kPage;
            std::atomic<bool> stop{false};
            std::thread adviser([&] {
                Dice dice(in_place ? 7 : 8);
                const std::array advices{MADV_DONTNEED,   MADV_DONTNEED, MADV_COLD,
                                         MADV_PAGEOUT,    MADV_WILLNEED, MADV_POPULATE_READ,
                                         MADV_HUGEPAGE,   MADV_RANDOM,   MADV_NOHUGEPAGE,
                                         MADV_SEQUENTIAL, MADV_MERGEABLE};
                while (!stop) {
                    const int advice = advices[dice.below(advices.size())];
                    const std::size_t first = dice.below(pages);
                    madvise(rest + first * kPage, (1 + dice.below(pages - first)) * kPage, advice);
                    madvise(consumer, kPage, advice);
                }
            });
            Check check(flow_->order(in_place));
            std::uint64_t read = 0;
            // However slow the kernel, something is read.
            for (Rounds rounds(1000, std::chrono::milliseconds(100)); rounds.more() || read < 50;) {
                while (const auto record = own.ring.next()) {
                    check.message(record->message());
                    ++read;
                }
                own.ring.release();
                guest::poll_now(own.socket.fd(), POLLIN);
            }
            stop = true;
            adviser.join();
        }
    });
}

TEST_P(Advice, ToLockMemoryLocksNoRingAndCountsNoneTwice) {
    const guest::MemlockLimit limit(std::uint64_t{1} << 30);
    attack_in_flow([&] {
        OwnRing before(kPage * 2);
        fill(before);
        for (const int flags : {MCL_FUTURE, MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT}) {
            ASSERT_EQ(mlockall(flags), 0) << strerrorname_np(errno);
            OwnRing during(kPage * 4);
            EXPECT_EQ(mlock(during.consumer(), kPage), 0);
            EXPECT_EQ(mlock(during.rest(), during.rest_bytes()), 0);
            EXPECT_EQ(syscall(SYS_mlock2, during.data(), kPage, 1), 0);
            EXPECT_EQ(rights_gained(during.consumer(), kPage, true), "");
            EXPECT_EQ(rights_gained(during.rest(), during.rest_bytes(), false), "");
            expect_unharmed(before, "mlockall");
            EXPECT_EQ(madvise(during.rest(), during.rest_bytes(), MADV_DONTNEED), 0);
            EXPECT_EQ(during.producer_words().data_bytes, kPage * 4);
            EXPECT_EQ(munlock(during.rest(), kPage), 0);
            EXPECT_EQ(munlockall(), 0);
            EXPECT_EQ(munlock(before.consumer(), kPage + before.rest_bytes()), 0);
        }
        expect_live(before);
    });
}

// The kernel's promise to a program that its faults are its own to serve.
class Faults {
  public:
    // The kernel's own faults, too, where one may ask for that.
    explicit Faults(bool kernels_too, std::uint64_t features = 0)
        : fd_(static_cast<int>(syscall(
              SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | (kernels_too ? 0 : UFFD_USER_MODE_ONLY)))) {
        uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
        ready_ = fd_ >= 0 && ioctl(fd_, UFFDIO_API, &api) == 0;
    }
    Faults(const Faults&) = delete;
    Faults& operator=(const Faults&) = delete;
    ~Faults() { close(fd_); }
    bool ready() const { return ready_; }
    int fd() const { return fd_; }
    int watch(std::byte* at, std::size_t bytes, std::uint64_t mode) const {
        uffdio_register area{};
        area.range = {.start = reinterpret_cast<std::uint64_t>(at), .len = bytes};
        area.mode = mode;
        return ioctl(fd_, UFFDIO_REGISTER, &area) != 0 ? errno : 0;
    }
    int put(std::byte* at, const std::byte* from) const {
        uffdio_copy copy{};
        copy.dst = reinterpret_cast<std::uint64_t>(at);
        copy.src = reinterpret_cast<std::uint64_t>(from);
        copy.len = kPage;
        return ioctl(fd_, UFFDIO_COPY, &copy) != 0 ? errno : 0;
    }
    // Waits until a thread stands at a fault.
    bool somebody_waits() const {
        return guest::eventually([this] {
            uffd_msg message{};
            return read(fd_, &message, sizeof(message)) == sizeof(message);
        });
    }

  private:
    int fd_;
    bool ready_ = false;
};

TEST_P(Advice, ToServeFaultsIsRefusedForRings) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        alignas(4096) static std::array<std::byte, kPage> page{};
        page.fill(std::byte{0xa5});
        for (const std::uint64_t features : {std::uint64_t{0}, kWriteProtectAsync}) {
            const Faults faults(false, features);
            if (!faults.ready()) {
                // The asynchronous kind came later than the rest.
                EXPECT_NE(features, 0U) << "userfaultfd: " << strerrorname_np(errno);
                continue;
            }
            for (std::uint64_t mode = 1; mode < 8; ++mode) {
                EXPECT_NE(faults.watch(ring.consumer(), kPage, mode), 0) << "mode " << mode;
                EXPECT_NE(faults.watch(ring.rest(), ring.rest_bytes(), mode), 0) << mode;
                EXPECT_NE(faults.watch(ring.data(), kPage, mode), 0) << mode;
                EXPECT_NE(faults.watch(ring.consumer(), kPage + ring.rest_bytes(), mode), 0);
            }
            madvise(ring.consumer(), kPage + ring.rest_bytes(), MADV_DONTNEED);
            for (std::byte* at : {ring.consumer(), ring.rest(), ring.data()}) {
                EXPECT_NE(faults.put(at, page.data()), 0) << "a page was put into a ring";
                uffdio_zeropage zero{};
                zero.range = {.start = reinterpret_cast<std::uint64_t>(at), .len = kPage};
                EXPECT_NE(ioctl(faults.fd(), UFFDIO_ZEROPAGE, &zero), 0);
                uffdio_writeprotect protect{};
                protect.range = zero.range;
                EXPECT_NE(ioctl(faults.fd(), UFFDIO_WRITEPROTECT, &protect), 0);
            }
            expect_unharmed(ring, "userfaultfd");
        }
        // Over an area that is watched already.
        const Faults faults(false);
        auto* area =
            static_cast<std::byte*>(mmap(nullptr, ring.rest_bytes(), PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(area, MAP_FAILED);
        ASSERT_EQ(faults.watch(area, ring.rest_bytes(), UFFDIO_REGISTER_MODE_MISSING), 0);
        ASSERT_NE(
            mmap(area, ring.rest_bytes(), PROT_READ, MAP_SHARED | MAP_FIXED, ring.fd(), kPage),
            MAP_FAILED);
        madvise(area, ring.rest_bytes(), MADV_DONTNEED);
        EXPECT_NE(faults.put(area + kPage, page.data()), 0);
        EXPECT_EQ(std::memcmp(area, ring.rest(), ring.rest_bytes()), 0);
        munmap(area, ring.rest_bytes());
        expect_unharmed(ring, "userfaultfd over an area");
        expect_live(ring);
    });
}

// A request that lies in memory that does not come, and an answer that is to go
// there: whoever sent it waits alone.
TEST_P(Advice, RequestsFromMemoryThatNeverComesStallNobodyElse) {
    attack_in_flow([&] {
        const Faults faults(privileged());
        ASSERT_TRUE(faults.ready());
        auto* area = static_cast<std::byte*>(
            mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(area, MAP_FAILED);
        ASSERT_EQ(faults.watch(area, 2 * kPage, UFFDIO_REGISTER_MODE_MISSING), 0);
        guest::Request request(NLMMAP_MSG_SETUP);
        request.u32(NLMMAP_A_RX_BYTES, kPage);
        const std::size_t bytes = request.bytes().size();
        guest::RawSocket socket;
        if (!privileged()) {
            // Only the program's own faults are served, so this one cannot be.
            EXPECT_EQ(send(socket.fd(), area, bytes, 0), -1);
            EXPECT_EQ(errno, EFAULT);
            EXPECT_EQ(socket.info().error, ENODEV);
            return;
        }
        alignas(4096) static std::array<std::byte, kPage> page{};
        std::memcpy(page.data(), request.bytes().data(), bytes);
        std::atomic<ssize_t> sent{0};
        std::thread sender([&] { sent = send(socket.fd(), area, bytes, 0); });
        EXPECT_TRUE(faults.somebody_waits());
        {
            // Everything that others do goes on, and so does this very socket's.
            OwnRing other(kPage);
            other.join(flow_->copied());
            EXPECT_TRUE(guest::succeeded(other.socket().info()));
            EXPECT_EQ(guest::poll_now(socket.fd(), POLLIN | POLLERR), 0);
        }
        EXPECT_EQ(sent, 0) << "it did not wait";
        EXPECT_EQ(faults.put(area, page.data()), 0);
        sender.join();
        EXPECT_EQ(sent, static_cast<ssize_t>(bytes));
        std::atomic<ssize_t> received{0};
        std::thread receiver([&] { received = recv(socket.fd(), area + kPage, kPage, 0); });
        EXPECT_TRUE(faults.somebody_waits());
        {
            OwnRing other(kPage);
            other.join(flow_->in_place());
        }
        EXPECT_EQ(faults.put(area + kPage, page.data()), 0);
        receiver.join();
        EXPECT_GT(received, 0) << "the answer to the set-up";
        guest::RawRing ring(socket, kPage);
    });
}

// Equal pages are to become one, which nobody may write.
TEST_P(Advice, ToMergeEqualPagesMergesNoRings) {
    ASSERT_EQ(write_to("/sys/kernel/mm/ksm/sleep_millisecs", "1"), 0);
    ASSERT_EQ(write_to("/sys/kernel/mm/ksm/pages_to_scan", "2000"), 0);
    ASSERT_EQ(write_to("/sys/kernel/mm/ksm/run", "1"), 0);
    attack_in_flow([&] {
        prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
        OwnRing one(kPage * 2);
        OwnRing two(kPage * 2);
        for (OwnRing* ring : {&one, &two}) {
            madvise(ring->consumer(), kPage, MADV_MERGEABLE);
            madvise(ring->rest(), ring->rest_bytes(), MADV_MERGEABLE);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(60));
        for (OwnRing* ring : {&one, &two}) {
            EXPECT_EQ(rights_gained(ring->consumer(), kPage, true), "");
            EXPECT_EQ(rights_gained(ring->rest(), ring->rest_bytes(), false), "");
        }
        one.consumer()[100] = std::byte{1};
        EXPECT_EQ(two.consumer()[100], std::byte{0});
        fill(one);
        EXPECT_EQ(two.producer_words().position, 0U) << "the other ring's";
        EXPECT_EQ(two.data()[0], std::byte{0});
        madvise(one.rest(), one.rest_bytes(), MADV_UNMERGEABLE);
        expect_unharmed(one, "KSM");
        expect_live(one);
    });
    EXPECT_EQ(write_to("/sys/kernel/mm/ksm/run", "2"), 0);
    EXPECT_EQ(write_to("/sys/kernel/mm/ksm/run", "0"), 0);
}

// Whatever a system call about NUMA answers, the kernel has it: else nothing was tried.
void expect_numa(long answer) {
    const int error = answer < 0 ? errno : 0;
    EXPECT_TRUE(error == 0 || error == EINVAL || error == EPERM) << strerrorname_np(error);
}

// While root tidies up the machine's memory.
TEST_P(Advice, ToMoveAndTidyMemoryMovesNoRing) {
    std::atomic<bool> stop{false};
    std::thread tidying([&] {
        while (!stop) {
            // Some kernels have no compaction.
            write_to("/proc/sys/vm/compact_memory", "1");
            write_to("/proc/sys/vm/drop_caches", "3");
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    });
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        std::array<unsigned long, 16> nodes{};
        nodes[0] = 1;
        for (Rounds rounds(20, std::chrono::milliseconds(100)); rounds.more();) {
            for (std::byte* at : {ring.consumer(), ring.rest(), ring.data()}) {
                for (unsigned mode = 0; mode < 6; ++mode) {
                    expect_numa(syscall(SYS_mbind, at, kPage, mode, nodes.data(), 64, 7));
                    expect_numa(syscall(SYS_mbind, at, kPage, mode | 0x8000, nodes.data(), 64, 3));
                }
                void* page = at;
                int node = 0;
                int status = 0;
                expect_numa(syscall(SYS_move_pages, 0, 1, &page, &node, &status, 2));
                expect_numa(syscall(SYS_move_pages, 0, 1, &page, &node, &status, 4));
                expect_numa(syscall(SYS_move_pages, 0, 1, &page, nullptr, &status, 2));
            }
            expect_numa(syscall(SYS_migrate_pages, 0, 64, nodes.data(), nodes.data()));
            // What was accessed and written since is to be marked.
            for (const char* what : {"1", "2", "3", "4", "5"}) {
                EXPECT_EQ(write_to("/proc/self/clear_refs", what), 0) << what;
            }
            ring.consumer()[200] = std::byte{0x42};
            for (const int flags : {MS_SYNC, MS_ASYNC, MS_INVALIDATE, MS_SYNC | MS_INVALIDATE}) {
                msync(ring.consumer(), kPage, flags);
                msync(ring.rest(), ring.rest_bytes(), flags);
            }
            expect_unharmed(ring, "moving and marking");
        }
        expect_live(ring);
    });
    stop = true;
    tidying.join();
}

// The descriptor is a file's, and the mapping a mapping of that file.
TEST_P(Advice, ToTheFileIsRefused) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        const int fd = ring.fd();
        EXPECT_EQ(ftruncate(fd, 0), -1);
        EXPECT_EQ(ftruncate(fd, 1 << 20), -1);
        for (const int mode : {0, 1, 2, 3, 8, 16, 32, 64}) {
            EXPECT_EQ(fallocate(fd, mode, 0, kPage), -1) << "fallocate " << mode;
        }
        for (int advice = 0; advice < 8; ++advice) {
            posix_fadvise(fd, 0, 1 << 20, advice);
        }
        EXPECT_EQ(readahead(fd, 0, kPage), -1);
        EXPECT_EQ(sync_file_range(fd, 0, kPage, 7), -1);
        EXPECT_EQ(fsync(fd), -1);
        EXPECT_EQ(lseek(fd, 0, SEEK_SET), -1);
        std::array<std::byte, 64> bytes{};
        EXPECT_EQ(pread(fd, bytes.data(), bytes.size(), 0), -1);
        EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), kPage), -1);
        EXPECT_EQ(sendfile(fd, fd, nullptr, kPage), -1);
        EXPECT_EQ(copy_file_range(fd, nullptr, fd, nullptr, kPage, 0), -1);
        EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        std::array<char*, 2> nothing{};
        EXPECT_EQ(syscall(SYS_execveat, fd, "", nothing.data(), nothing.data(), AT_EMPTY_PATH), -1);
        // Whose it is now said to be is not who pays for it.
        EXPECT_EQ(fchown(fd, guest::kSomebodyElse, guest::kSomebodyElse) == 0, privileged());
        // The same file once more would have operations of its own.
        const std::string path = "/proc/self/fd/" + std::to_string(fd);
        for (const int flags : {O_RDONLY, O_RDWR, O_RDWR | O_TRUNC, O_RDWR | O_DIRECT}) {
            EXPECT_EQ(open(path.c_str(), flags), -1) << "opened again with " << flags;
        }
        std::array<char, 64> range{};
        for (std::byte* at : {ring.consumer(), ring.rest()}) {
            const Mapped mapped = mapped_at(at);
            std::snprintf(range.data(), range.size(), "/proc/self/map_files/%lx-%lx", mapped.begin,
                          mapped.end);
            for (const int flags : {O_RDONLY, O_RDWR}) {
                EXPECT_EQ(open(range.data(), flags), -1) << range.data();
            }
        }
        flock(fd, LOCK_EX);
        expect_unharmed(ring, "file operations");
        expect_live(ring);
    });
}

// Sealed, a mapping can be neither undone nor changed: but it ends with the process.
TEST_P(Advice, ToSealMappingsKeepsNothingAlive) {
    attack_in_flow([&] {
        EXPECT_EQ(in_child([&]() -> std::string {
                      OwnRing ring(kPage * 4);
                      fill(ring);
                      constexpr long mseal = 462;
                      const bool sealed = syscall(mseal, ring.consumer(), kPage, 0) == 0 &&
                                          syscall(mseal, ring.rest(), ring.rest_bytes(), 0) == 0;
                      if (!sealed && errno != ENOSYS) {
                          return std::string("mseal: ") + strerrorname_np(errno);
                      }
                      if (sealed && munmap(ring.rest(), kPage) == 0) {
                          return "a sealed mapping was undone";
                      }
                      madvise(ring.rest(), ring.rest_bytes(), MADV_DONTNEED);
                      expect_unharmed(ring, "mseal");
                      ring.socket().close();
                      _exit(0);
                  }),
                  "");
    });
}

}  // namespace
}  // namespace hostile
