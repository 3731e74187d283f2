// SPDX-License-Identifier: MIT
//
// How a ring may be mapped, and how not.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::uint32_t kRing = 4 * kPage;
constexpr std::size_t kRest = kPage + 2 * kRing;

// The errno of a mapping that should not be; 0 if it was made (and is undone).
int try_map(int fd, std::size_t bytes, int rights, int flags, std::uint64_t offset) {
    errno = 0;
    void* at = mmap(nullptr, bytes, rights, flags, fd, static_cast<off_t>(offset));
    if (at == MAP_FAILED) {
        return errno;
    }
    munmap(at, bytes);
    return 0;
}

class Mapping : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(succeeded(socket_.setup(kRing)));
        ASSERT_TRUE(succeeded(socket_.join(name_)));
        ring_.emplace(socket_, kRing);
    }
    // Whatever was tried cost nothing.
    void TearDown() override {
        ASSERT_EQ(producer_.publish({.group = group_, .count = 5}).delivered, 5U);
        Check check({.group = group_, .count = 5});
        if (!ring_) {
            ring_.emplace(socket_, kRing);
        }
        while (const auto record = ring_->next()) {
            check.message(record->message());
        }
        EXPECT_EQ(check.received(), 5U) << "messages do not arrive any more";
    }
    std::byte* consumer() { return reinterpret_cast<std::byte*>(&ring_->consumer()); }
    std::byte* producer() {
        return reinterpret_cast<std::byte*>(const_cast<nlmmap_producer*>(&ring_->producer()));
    }

    const std::string name_ = unique_name("mapping");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
    RawSocket socket_;
    std::optional<RawRing> ring_;
};

TEST_F(Mapping, IsRefusedBeforeTheSetup) {
    RawSocket bare;
    EXPECT_EQ(try_map(bare.fd(), kPage, PROT_READ, MAP_SHARED, 0), ENODEV);
    EXPECT_EQ(try_map(bare.fd(), kRest, PROT_READ, MAP_SHARED, kPage), ENODEV);
    EXPECT_TRUE(succeeded(bare.setup(kRing)));
    EXPECT_EQ(try_map(bare.fd(), kRest, PROT_READ, MAP_SHARED, kPage), 0);
}

TEST_F(Mapping, RacingWithTheSetupIsRefusedOrWorks) {
    for (int round = 0; round < 20; ++round) {
        RawSocket socket;
        std::atomic<bool> ready{false};
        auto mapper = std::async(std::launch::async, [&] {
            int error = ENODEV;
            while (error == ENODEV) {
                error = try_map(socket.fd(), kRest, PROT_READ, MAP_SHARED, kPage);
                ready = true;
            }
            return error;
        });
        while (!ready) {
        }
        ASSERT_TRUE(succeeded(socket.setup(kRing)));
        EXPECT_EQ(mapper.get(), 0);
    }
}

TEST_F(Mapping, GivesEachPartTheRightsThatTheContractSays) {
    const int fd = socket_.fd();
    EXPECT_EQ(try_map(fd, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 0), 0);
    EXPECT_EQ(try_map(fd, kPage, PROT_READ, MAP_SHARED, 0), 0);
    EXPECT_EQ(try_map(fd, kRest, PROT_READ, MAP_SHARED, kPage), 0);
    EXPECT_EQ(try_map(fd, kRest, PROT_READ | PROT_WRITE, MAP_SHARED, kPage), EPERM)
        << "the kernel's part is not for writing";
    EXPECT_EQ(try_map(fd, kRest, PROT_WRITE, MAP_SHARED, kPage), EPERM);
    for (const int rights : {PROT_EXEC, PROT_READ | PROT_EXEC}) {
        EXPECT_EQ(try_map(fd, kPage, rights, MAP_SHARED, 0), EPERM);
        EXPECT_EQ(try_map(fd, kRest, rights, MAP_SHARED, kPage), EPERM);
    }
    EXPECT_EQ(try_map(fd, kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, 0), EPERM);
}

TEST_F(Mapping, IsRefusedAsPrivate) {
    EXPECT_EQ(try_map(socket_.fd(), kPage, PROT_READ, MAP_PRIVATE, 0), EINVAL);
    EXPECT_EQ(try_map(socket_.fd(), kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0), EINVAL);
    EXPECT_EQ(try_map(socket_.fd(), kRest, PROT_READ, MAP_PRIVATE, kPage), EINVAL);
}

TEST_F(Mapping, IsRefusedAtAnyOtherOffsetOrLength) {
    const int fd = socket_.fd();
    for (const std::size_t bytes :
         {2 * kPage, kPage + kRing, kPage + kRest, std::size_t{1} << 20}) {
        EXPECT_EQ(try_map(fd, bytes, PROT_READ, MAP_SHARED, 0), EINVAL) << bytes;
    }
    for (const std::size_t bytes :
         {kPage, std::size_t{kRing}, kPage + kRing, kRest - kPage, kRest + kPage}) {
        EXPECT_EQ(try_map(fd, bytes, PROT_READ, MAP_SHARED, kPage), EINVAL) << bytes;
    }
    for (const std::uint64_t offset : {2 * kPage, 3 * kPage, kRest, std::uint64_t{1} << 32,
                                       std::uint64_t{17} << 32, std::uint64_t{1} << 62}) {
        EXPECT_EQ(try_map(fd, kPage, PROT_READ, MAP_SHARED, offset), EINVAL) << offset;
        EXPECT_EQ(try_map(fd, kRest, PROT_READ, MAP_SHARED, offset), EINVAL) << offset;
    }
}

TEST_F(Mapping, CannotGainRightsLater) {
    for (const int rights : {PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_EXEC,
                             PROT_READ | PROT_WRITE | PROT_EXEC}) {
        EXPECT_EQ(mprotect(producer(), kRest, rights), -1);
        EXPECT_EQ(errno, EACCES);
        EXPECT_EQ(mprotect(producer() + kPage, kPage, rights), -1) << "not in part either";
    }
    EXPECT_EQ(mprotect(consumer(), kPage, PROT_READ | PROT_EXEC), -1);
    EXPECT_EQ(errno, EACCES);
    EXPECT_EQ(mprotect(consumer(), kPage, PROT_READ), 0) << "giving up rights is fine";
    EXPECT_EQ(mprotect(consumer(), kPage, PROT_READ | PROT_WRITE), 0);
}

TEST_F(Mapping, CannotBeWrittenThroughProcMem) {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    ASSERT_GE(memory, 0);
    const std::uint64_t forged = 1 << 20;
    EXPECT_EQ(pwrite(memory, &forged, sizeof(forged), reinterpret_cast<off_t>(producer() + 64)),
              -1);
    EXPECT_EQ(pwrite(memory, &forged, sizeof(forged), reinterpret_cast<off_t>(producer() + kPage)),
              -1);
    close(memory);
    EXPECT_EQ(ring_->produced(), 0U);
}

sigjmp_buf after_fault;

TEST_F(Mapping, FaultsOnAWriteToTheKernelsPart) {
    struct sigaction action{};
    struct sigaction before{};
    action.sa_handler = [](int) { siglongjmp(after_fault, 1); };
    ASSERT_EQ(sigaction(SIGSEGV, &action, &before), 0);
    volatile int faults = 0;
    for (const std::size_t at : {std::size_t{64}, kPage, kRest - 1}) {
        if (sigsetjmp(after_fault, 1) == 0) {
            *static_cast<volatile std::byte*>(producer() + at) = std::byte{1};
        } else {
            faults = faults + 1;
        }
    }
    sigaction(SIGSEGV, &before, nullptr);
    EXPECT_EQ(faults, 3) << "a program could write what only the kernel may";
}

TEST_F(Mapping, IsNotInheritedByAChild) {
    const std::string said = in_child([this] {
        unsigned char resident = 0;
        for (std::byte* at : {consumer(), producer(), producer() + kPage}) {
            errno = 0;
            if (mincore(at, kPage, &resident) == 0 || errno != ENOMEM) {
                return std::string("a part of the ring is mapped in the child");
            }
        }
        return std::string();
    });
    EXPECT_EQ(said, "");
}

TEST_F(Mapping, MayBeMadeSeveralTimes) {
    RawRing again(socket_, kRing);
    producer_.publish({.group = group_});
    EXPECT_TRUE(ring_->next().has_value());
    EXPECT_TRUE(again.next().has_value());
    EXPECT_EQ(again.consumer().position, ring_->consumer().position);
    ring_->release();
    EXPECT_EQ(again.consumer().position, ring_->position()) << "the same page";
    again.unmap();
}

TEST_F(Mapping, ComesBackAfterItsPagesWereThrownAway) {
    producer_.publish({.group = group_, .count = 10, .first_number = 100});
    ring_->consumer().watermark = 17;
    ASSERT_EQ(madvise(producer(), kRest, MADV_DONTNEED), 0);
    ASSERT_EQ(madvise(consumer(), kPage, MADV_DONTNEED), 0);
    EXPECT_EQ(ring_->consumer().watermark, 17U) << "the page itself is the kernel's and stays";
    ring_->consumer().watermark = 0;
    Check check({.group = group_, .count = 10, .first_number = 100});
    while (const auto record = ring_->next()) {
        check.message(record->message());
    }
    EXPECT_EQ(check.received(), 10U);
    ring_->release();
    // The very last page of the second mapping.
    EXPECT_EQ(producer()[kRest - 1], std::byte{0});
}

TEST_F(Mapping, PutsAllPagesInAtOnce) {
    std::vector<unsigned char> resident(kRest / kPage);
    ring_.reset();
    ring_.emplace(socket_, kRing);
    rusage before{};
    rusage after{};
    getrusage(RUSAGE_THREAD, &before);
    std::byte sum{0};
    for (std::size_t at = 0; at < kRest; at += kPage) {
        sum |= producer()[at + 512];
    }
    sum |= consumer()[512];
    getrusage(RUSAGE_THREAD, &after);
    EXPECT_EQ(sum, std::byte{0});
    EXPECT_EQ(after.ru_minflt, before.ru_minflt) << "a reader never faults";
}

TEST_F(Mapping, MayBeMovedButNotGrown) {
    EXPECT_EQ(mremap(producer(), kRest, kRest + kPage, MREMAP_MAYMOVE), MAP_FAILED);
    EXPECT_EQ(mremap(producer(), 0, kRest, MREMAP_MAYMOVE), MAP_FAILED);
    EXPECT_EQ(mremap(consumer(), kPage, 2 * kPage, MREMAP_MAYMOVE), MAP_FAILED);
    // Moved to another address, it reads as before.
    void* place = mmap(nullptr, kRest, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(place, MAP_FAILED);
    auto* rest = static_cast<const std::byte*>(
        mmap(nullptr, kRest, PROT_READ, MAP_SHARED, socket_.fd(), kPage));
    ASSERT_NE(rest, MAP_FAILED);
    auto* moved = static_cast<std::byte*>(
        mremap(const_cast<std::byte*>(rest), kRest, kRest, MREMAP_MAYMOVE | MREMAP_FIXED, place));
    ASSERT_EQ(moved, place);
    producer_.publish({.group = group_, .first_number = 5});
    const auto* words = reinterpret_cast<const nlmmap_producer*>(moved);
    EXPECT_EQ(words->position, ring_->produced());
    EXPECT_EQ(std::memcmp(moved + kPage, ring_->data(), 88), 0);
    EXPECT_EQ(std::memcmp(moved + kPage + kRing, ring_->data(), 88), 0);
    ASSERT_EQ(madvise(moved, kRest, MADV_DONTNEED), 0);
    EXPECT_EQ(std::memcmp(moved + kPage + kRing, ring_->data(), 88), 0)
        << "faults find their place";
    // Half of it unmapped, the other half stays.
    munmap(moved, kPage + kRing);
    EXPECT_EQ(std::memcmp(moved + kPage + kRing, ring_->data(), 88), 0);
    munmap(moved + kPage + kRing, kRing);
    ASSERT_TRUE(ring_->next().has_value());
    ring_->release();
}

}  // namespace
}  // namespace guest
