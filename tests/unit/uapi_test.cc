// SPDX-License-Identifier: MIT
// The wire contract as user space sees it: offsets and values that no release may move.
#include <gtest/gtest.h>
#include <nlmmap/linux/nlmmap.h>

#include <cstddef>
#include <type_traits>

namespace {

static_assert(sizeof(nlmmap_record) == 24);
static_assert(offsetof(nlmmap_record, len) == 0);
static_assert(offsetof(nlmmap_record, group) == 4);
static_assert(offsetof(nlmmap_record, flags) == 6);
static_assert(offsetof(nlmmap_record, portid) == 8);
static_assert(offsetof(nlmmap_record, nsid) == 12);
static_assert(offsetof(nlmmap_record, seq) == 16);

static_assert(offsetof(nlmmap_consumer, position) == 0);
static_assert(offsetof(nlmmap_consumer, watermark) == 8);
static_assert(offsetof(nlmmap_consumer, lost_seen) == 16);

static_assert(offsetof(nlmmap_producer, abi_version) == 0);
static_assert(offsetof(nlmmap_producer, header_bytes) == 4);
static_assert(offsetof(nlmmap_producer, data_bytes) == 8);
static_assert(offsetof(nlmmap_producer, features) == 16);
static_assert(offsetof(nlmmap_producer, position) == 64);
static_assert(offsetof(nlmmap_producer, lost) == 72);
static_assert(offsetof(nlmmap_producer, state) == 80);

static_assert(sizeof(nlmmap_credentials) == 16);
static_assert(offsetof(nlmmap_credentials, pid) == 0);
static_assert(offsetof(nlmmap_credentials, uid) == 4);
static_assert(offsetof(nlmmap_credentials, gid) == 8);

static_assert(std::is_trivially_copyable_v<nlmmap_record>);
static_assert(std::is_standard_layout_v<nlmmap_consumer>);
static_assert(std::is_standard_layout_v<nlmmap_producer>);

TEST(Uapi, KeepsTheValuesOfFlagsTypesAndAttributes) {
    EXPECT_EQ(NLMMAP_ABI_VERSION, 0);
    EXPECT_EQ(NETLINK_NLMMAP, 30);
    EXPECT_EQ(NLMMAP_RECORD_SINGLE, 1);
    EXPECT_EQ(NLMMAP_RECORD_LOST, 2);
    EXPECT_EQ(NLMMAP_RECORD_NOTICE, 4);
    EXPECT_EQ(NLMMAP_RECORD_LOST_UNKNOWN, 8);
    EXPECT_EQ(NLMMAP_RECORD_LOST_NEARBY, 16);
    EXPECT_EQ(NLMMAP_RECORD_ERROR, 32);
    EXPECT_EQ(NLMMAP_RECORD_NO_DATAGRAM, 64);
    EXPECT_EQ(NLMMAP_STATE_STALLED, 1);
    EXPECT_EQ(NLMMAP_SETUP_TIME, 1);
    EXPECT_EQ(NLMMAP_SETUP_CREDENTIALS, 2);
    EXPECT_EQ(NLMMAP_SETUP_TIME, NLMMAP_FEATURE_TIME) << "a set-up flag is its feature's bit";
    EXPECT_EQ(NLMMAP_SETUP_CREDENTIALS, NLMMAP_FEATURE_CREDENTIALS) << "likewise";
    EXPECT_EQ(NLMMAP_FEATURE_ATTACH, 1 << 16);
    EXPECT_EQ(NLMMAP_FEATURE_WAIT, 1 << 17);
    EXPECT_EQ(NLMMAP_MSG_SETUP, 16);
    EXPECT_EQ(NLMMAP_MSG_GROUP_GET, 20);
    EXPECT_EQ(NLMMAP_MSG_ATTACH, 21);
    EXPECT_EQ(NLMMAP_MSG_SOCKET, 32);
    EXPECT_EQ(NLMMAP_MSG_GROUP_DELETED, 34);
    EXPECT_EQ(NLMMAP_MSG_PRODUCER_MIN, 256);
    EXPECT_EQ(NLMMAP_A_RX_BYTES, 2);
    EXPECT_EQ(NLMMAP_A_GROUP_ID, 5);
    EXPECT_EQ(NLMMAP_A_ABI_VERSION, 6);
    EXPECT_EQ(NLMMAP_A_PUBLISHED, 23);
    EXPECT_EQ(NLMMAP_A_FD, 24);
    EXPECT_EQ(NLMMAP_A_PROTOCOL, 25);
}

TEST(Uapi, KeepsThePositionsOfBothSidesOnCacheLinesOfTheirOwn) {
    EXPECT_EQ(offsetof(nlmmap_producer, position) % 64, 0U);
    EXPECT_LE(sizeof(nlmmap_producer), 4096U);
    EXPECT_LE(sizeof(nlmmap_consumer), 4096U);
}

}  // namespace
