// SPDX-License-Identifier: MIT
// Reading allocates nothing. A program of its own, because it replaces operator new.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <random>
#include <span>
#include <vector>

#include "datagram.hpp"

namespace {

std::atomic<std::uint64_t> allocations = 0;

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    ++allocations;
    // aligned_alloc() wants a multiple of the alignment.
    return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
    void* memory = allocate(bytes, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

constexpr std::size_t kDefault = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

// All the others call one of these.
void* operator new(std::size_t bytes) { return allocate_or_throw(bytes, kDefault); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
    return allocate(bytes, kDefault);
}
void* operator new(std::size_t bytes, std::align_val_t alignment,
                   const std::nothrow_t& /*tag*/) noexcept {
    return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes) { return allocate_or_throw(bytes, kDefault); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }

namespace nlmmap {
namespace {

using testing::Loopback;

// What happens to the batch.
enum class End { whole, left, kept, never_begun };

// How much of it there is; touched, so that the compiler leaves nothing out.
std::uint64_t look_at(const Record& record) {
    std::uint64_t sum =
        record.seq() + record.lost_before() + record.group() + record.portid() +
        record.bytes().size() + (record.is_notice() ? 1 : 0) +
        static_cast<std::uint64_t>(record.time().value_or(std::chrono::nanoseconds()).count());
    for (const Message& message : record) {
        sum += message.type() + message.payload().size();
        for (const Attribute& attribute : message.attributes()) {
            sum += attribute.type() + attribute.as<std::uint32_t>().value_or(0) +
                   attribute.string().size();
            for (const Attribute& nested : attribute.nested()) sum += nested.payload().size();
        }
        sum += message.attributes().find(7) != nullptr ? 1 : 0;
    }
    return sum;
}

std::uint64_t read(Receiver& receiver, End end, std::uint64_t limit) {
    std::uint64_t sum = receiver.lost() + receiver.pending_bytes();
    Batch batch = receiver.read();
    if (end == End::never_begun) return sum;
    for (const Record& record : batch) {
        sum += look_at(record);
        if (end == End::whole || --limit > 0) continue;
        if (end == End::kept) batch.keep_current();
        break;
    }
    return sum;
}

TEST(Allocation, IsSeenWhereThereIsOne) {
    Loopback kernel({.ring_bytes = 4096});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(unit::message(1, 64)));
    for (const Record& record : receiver.read()) {
        for (const Message& message : record) {
            const std::uint64_t before = allocations;
            const OwnedMessage copy = message.copy();
            ASSERT_NE(copy.get(), nullptr);
            EXPECT_EQ(allocations, before + 1) << "a copy has memory of its own";
        }
    }
}

TEST(Allocation, IsNotWhereRecordsAreRead) {
    constexpr int rounds = unit::kSanitized ? 5'000 : 50'000;
    std::mt19937_64 random(23);
    for (const bool timestamps : {false, true}) {
        Loopback kernel({.ring_bytes = 16384, .timestamps = timestamps});
        Receiver receiver = kernel.receiver();
        std::uint64_t sum = 0;
        std::uint64_t ends[4] = {};
        for (int round = 0; round < rounds; ++round) {
            for (std::uint64_t count = random() % 12; count > 0; --count) {
                const std::size_t bytes = 16 + random() % 600;
                static_cast<void>(kernel.publish(random() % 8 == 0
                                                     ? unit::raw_datagram(random(), bytes)
                                                     : unit::message(random(), bytes)));
            }
            if (random() % 16 == 0) kernel.count_loss(1 + static_cast<std::uint32_t>(random() % 5));
            const auto end = static_cast<End>(random() % 4);
            const std::uint64_t limit = 1 + random() % 6;
            const std::uint64_t before = allocations;
            sum += read(receiver, end, limit);
            ASSERT_EQ(allocations, before) << "round " << round;
            ++ends[static_cast<std::size_t>(end)];
        }
        kernel.delete_group();
        const std::uint64_t before = allocations;
        sum += read(receiver, End::whole, 0);
        EXPECT_EQ(allocations, before) << "the notice of the group's deletion";
        EXPECT_EQ(receiver.wait(), Wait::group_gone);
        EXPECT_GT(receiver.lost(), 0U);
        EXPECT_NE(sum, 0U);
        for (const std::uint64_t count : ends) EXPECT_GT(count, 0U);
    }
}

}  // namespace
}  // namespace nlmmap
