// SPDX-License-Identifier: MIT
// What the headers promise to the compiler: reading never throws, and ranges are C++20's.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

using testing::Loopback;
using unit::message;

// Iterators and ranges that <ranges> and <algorithm> take.
static_assert(std::input_iterator<BatchIterator>);
static_assert(std::input_iterator<MessageIterator>);
static_assert(std::input_iterator<AttributeIterator>);
static_assert(std::sentinel_for<std::default_sentinel_t, BatchIterator>);
static_assert(std::sentinel_for<std::default_sentinel_t, MessageIterator>);
static_assert(std::sentinel_for<std::default_sentinel_t, AttributeIterator>);
static_assert(std::ranges::input_range<Batch>);
static_assert(std::ranges::input_range<const Record>);
static_assert(std::ranges::input_range<const Attributes>);

// What is read in place cannot be kept by mistake.
static_assert(!std::is_copy_constructible_v<Batch> && !std::is_move_constructible_v<Batch>);
static_assert(!std::is_copy_constructible_v<Record> && !std::is_copy_assignable_v<Record>);
static_assert(!std::is_copy_constructible_v<Message> && !std::is_copy_assignable_v<Message>);
static_assert(!std::is_copy_constructible_v<Attribute> && !std::is_copy_assignable_v<Attribute>);
static_assert(std::is_nothrow_move_constructible_v<Receiver>);
static_assert(std::is_nothrow_move_assignable_v<Receiver>);

// Reading and giving back.
static_assert(noexcept(std::declval<Receiver&>().read()));
static_assert(noexcept(std::declval<Receiver&>().set_watermark(0)));
static_assert(noexcept(std::declval<Receiver&>().fd()));
static_assert(noexcept(std::declval<Receiver&>().lost()));
static_assert(noexcept(std::declval<Receiver&>().ring_bytes()));
static_assert(noexcept(std::declval<Receiver&>().pending_bytes()));
static_assert(noexcept(std::declval<Batch&>().begin()));
static_assert(noexcept(std::declval<Batch&>().end()));
static_assert(noexcept(std::declval<Batch&>().empty()));
static_assert(noexcept(std::declval<Batch&>().keep_current()));
static_assert(std::is_nothrow_destructible_v<Batch>);

template <typename Iterator>
constexpr bool kWalksWithoutThrowing =
    noexcept(*std::declval<Iterator&>()) && noexcept(std::declval<Iterator&>().operator->()) &&
    noexcept(++std::declval<Iterator&>()) && noexcept(std::declval<Iterator&>()++) &&
    noexcept(std::declval<Iterator&>() == std::default_sentinel) &&
    std::is_nothrow_copy_constructible_v<Iterator> && std::is_nothrow_copy_assignable_v<Iterator> &&
    std::is_nothrow_destructible_v<Iterator>;
static_assert(kWalksWithoutThrowing<BatchIterator>);
static_assert(kWalksWithoutThrowing<MessageIterator>);
static_assert(kWalksWithoutThrowing<AttributeIterator>);

// Looking at what was read.
static_assert(noexcept(std::declval<const Record&>().bytes()));
static_assert(noexcept(std::declval<const Record&>().group()));
static_assert(noexcept(std::declval<const Record&>().portid()));
static_assert(noexcept(std::declval<const Record&>().nsid()));
static_assert(noexcept(std::declval<const Record&>().seq()));
static_assert(noexcept(std::declval<const Record&>().lost_before()));
static_assert(noexcept(std::declval<const Record&>().time()));
static_assert(noexcept(std::declval<const Record&>().credentials()));
static_assert(noexcept(std::declval<const Record&>().lost_unknown()));
static_assert(noexcept(std::declval<const Record&>().lost_nearby()));
static_assert(noexcept(std::declval<const Record&>().error()));
static_assert(noexcept(std::declval<const Record&>().is_notice()));
static_assert(noexcept(std::declval<const Record&>().begin()));
static_assert(noexcept(std::declval<const Record&>().end()));
static_assert(noexcept(std::declval<const Message&>().get()));
static_assert(noexcept(std::declval<const Message&>().type()));
static_assert(noexcept(std::declval<const Message&>().flags()));
static_assert(noexcept(std::declval<const Message&>().seq()));
static_assert(noexcept(std::declval<const Message&>().portid()));
static_assert(noexcept(std::declval<const Message&>().bytes()));
static_assert(noexcept(std::declval<const Message&>().payload()));
static_assert(noexcept(std::declval<const Message&>().attributes(4)));
static_assert(!noexcept(std::declval<const Message&>().copy()), "it allocates");
static_assert(noexcept(std::declval<const Attributes&>().begin()));
static_assert(noexcept(std::declval<const Attributes&>().end()));
static_assert(noexcept(std::declval<const Attributes&>().empty()));
static_assert(noexcept(std::declval<const Attributes&>().find(1)));
static_assert(noexcept(std::declval<const Attribute&>().get()));
static_assert(noexcept(std::declval<const Attribute&>().type()));
static_assert(noexcept(std::declval<const Attribute&>().is_nested()));
static_assert(noexcept(std::declval<const Attribute&>().payload()));
static_assert(noexcept(std::declval<const Attribute&>().as<std::uint64_t>()));
static_assert(noexcept(std::declval<const Attribute&>().string()));
static_assert(noexcept(std::declval<const Attribute&>().nested()));

TEST(Interface, BatchesGoThroughViews) {
    Loopback kernel({.ring_bytes = 4096});
    Receiver receiver = kernel.receiver();
    for (std::uint64_t number = 0; number < 20; ++number)
        ASSERT_TRUE(kernel.publish(message(number, 64)));
    std::vector<std::uint64_t> numbers;
    {
        Batch batch = receiver.read();
        const auto is_odd = [](const Record& record) { return record.seq() % 2 != 0; };
        const auto seq = [](const Record& record) { return record.seq(); };
        for (const std::uint64_t number :
             batch | std::views::filter(is_odd) | std::views::transform(seq) | std::views::take(4))
            numbers.push_back(number);
    }
    EXPECT_EQ(numbers, (std::vector<std::uint64_t>{1, 3, 5, 7}));
    std::uint64_t rest = 0;
    Batch batch = receiver.read();
    std::ranges::for_each(batch, [&](const Record& record) { rest += record.seq() != 0 ? 1 : 0; });
    EXPECT_GT(rest, 0U) << "what take() did not reach was kept";
}

TEST(Interface, AnAssignedIteratorGoesOnWhereTheOtherWas) {
    Loopback kernel({.ring_bytes = 4096});
    Receiver receiver = kernel.receiver();
    ASSERT_TRUE(kernel.publish(message(1, 64)));
    kernel.count_loss(3);
    ASSERT_TRUE(kernel.publish(message(2, 64)));
    Loopback other_kernel({.ring_bytes = 4096});
    Receiver other_receiver = other_kernel.receiver();
    {
        Batch batch = receiver.read();
        Batch empty = other_receiver.read();
        BatchIterator iterator = empty.begin();
        EXPECT_TRUE(iterator == std::default_sentinel);
        iterator = batch.begin();
        ASSERT_FALSE(iterator == std::default_sentinel);
        EXPECT_EQ(iterator->seq(), 1U);
        ++iterator;
        EXPECT_EQ(iterator->seq(), 5U);
        EXPECT_EQ(iterator->lost_before(), 3U);
        EXPECT_EQ(iterator->bytes().size(), 64U);
        iterator++;
        EXPECT_TRUE(iterator == std::default_sentinel);
    }
    EXPECT_EQ(receiver.pending_bytes(), 0U);
}

}  // namespace
}  // namespace nlmmap
