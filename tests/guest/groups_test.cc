// SPDX-License-Identifier: MIT
//
// Named groups: who may join, who hears, and what becomes of members when a
// group or its network namespace goes.
#include <gtest/gtest.h>

#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using nlmmap::Receiver;
using nlmmap::Record;
using nlmmap::Socket;

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kPrivate = 0;

std::uint64_t drain(RawRing& ring) {
    std::uint64_t records = 0;
    while (ring.next()) {
        ++records;
    }
    ring.release();
    return records;
}

class Group : public testing::Test {
  protected:
    const std::string name_ = unique_name("group");
    Producer producer_;
    const std::uint32_t id_ = producer_.add_group(name_);
};

TEST_F(Group, IsListedWithAllThatThereIsToKnow) {
    RawMember first(name_);
    RawMember second(name_);
    RawSocket plain;
    ASSERT_EQ(plain.add_membership(id_), 0);
    producer_.publish({.group = id_, .count = 3});

    Socket socket;
    const nlmmap::GroupInfo info = socket.group(name_);
    EXPECT_EQ(info.id, id_);
    EXPECT_EQ(info.name, name_);
    EXPECT_TRUE(info.is_public);
    EXPECT_EQ(info.max_bytes, 1024U);
    EXPECT_EQ(info.members, 2U);
    EXPECT_TRUE(info.plain);
    EXPECT_EQ(info.published, 3U);
    std::size_t found = 0;
    for (const nlmmap::GroupInfo& group : socket.groups()) {
        found += group.id == id_ && group.name == name_ && group.members == 2;
    }
    EXPECT_EQ(found, 1U);
}

TEST_F(Group, ListsHundredsOfGroupsInOneDump) {
    std::vector<std::string> names;
    for (int i = 0; i < 200; ++i) {
        names.push_back(unique_name("many"));
        producer_.add_group(names.back());
    }
    Socket socket;
    std::size_t found = 0;
    for (const nlmmap::GroupInfo& group : socket.groups()) {
        found += group.name.starts_with("many");
    }
    EXPECT_EQ(found, names.size()) << "a dump of several packets lost groups, or told some twice";
}

TEST_F(Group, IsJoinedByNameOrNumberOnce) {
    RawSocket socket;
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    EXPECT_TRUE(succeeded(socket.join(id_)));
    EXPECT_TRUE(refused(socket.join(name_), EALREADY));
    EXPECT_TRUE(refused(socket.join(id_), EALREADY));
    EXPECT_TRUE(succeeded(socket.leave(name_)));
    EXPECT_TRUE(refused(socket.leave(name_), ENOENT));
    EXPECT_TRUE(succeeded(socket.join(name_)));
}

TEST_F(Group, ReachesWhoJoinedFromThenOnUntilTheyLeave) {
    RawSocket socket;
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    RawRing ring(socket, kPage);
    producer_.publish({.group = id_, .count = 5});
    EXPECT_FALSE(producer_.has_listeners(id_));
    ASSERT_TRUE(succeeded(socket.join(name_)));
    EXPECT_TRUE(producer_.has_listeners(id_));
    producer_.publish({.group = id_, .count = 3});
    ASSERT_TRUE(succeeded(socket.leave(name_)));
    EXPECT_FALSE(producer_.has_listeners(id_));
    producer_.publish({.group = id_, .count = 7});
    EXPECT_EQ(drain(ring), 3U) << "what came before leaving stays";
    ASSERT_TRUE(succeeded(socket.join(name_)));
    producer_.publish({.group = id_, .count = 2});
    EXPECT_EQ(drain(ring), 2U);
    EXPECT_EQ(ring.missing(), 0U) << "what was not meant for this ring is no loss";
}

TEST_F(Group, TellsItsMembersThatItIsGoneEvenInFullRings) {
    const std::string other = unique_name("other");
    const std::uint32_t other_id = producer_.add_group(other);
    RawMember full(name_, kPage);
    ASSERT_TRUE(succeeded(full.socket.join(other)));
    producer_.publish({.group = id_, .count = 100});
    const std::uint64_t lost = full.ring.lost();
    ASSERT_GT(lost, 0U);
    producer_.remove_group(id_);
    producer_.publish({.group = other_id, .count = 5});
    producer_.remove_group(other_id);

    std::vector<std::uint32_t> gone;
    while (const auto record = full.ring.next()) {
        if (record->header.flags & NLMMAP_RECORD_NOTICE) {
            Reply notice;
            notice.header = *record->message();
            notice.payload.assign(record->datagram.begin() + NLMSG_HDRLEN, record->datagram.end());
            EXPECT_EQ(notice.header.nlmsg_type, NLMMAP_MSG_GROUP_DELETED);
            EXPECT_TRUE(record->header.flags & NLMMAP_RECORD_SINGLE);
            EXPECT_EQ(notice.get<std::uint32_t>(NLMMAP_A_GROUP_ID), record->header.group);
            gone.push_back(record->header.group);
        }
    }
    EXPECT_EQ(gone, (std::vector<std::uint32_t>{id_, other_id}));
    EXPECT_EQ(full.ring.lost(), lost + 5) << "the room for a notice is for notices alone";
    full.ring.release();

    EXPECT_TRUE(refused(full.socket.join(name_), ENOENT));
    EXPECT_TRUE(full.socket.info().replies.at(0).all(NLMMAP_A_GROUP_ID).empty());
    // The ring outlived its groups; it serves the next one.
    const std::string next = unique_name("next");
    const std::uint32_t next_id = producer_.add_group(next);
    ASSERT_TRUE(succeeded(full.socket.join(next)));
    ASSERT_EQ(producer_.publish({.group = next_id, .count = 10}).delivered, 10U);
    EXPECT_EQ(drain(full.ring), 10U);
}

TEST_F(Group, OfTheSameNameMayBeMadeAgainAfterItIsGone) {
    EXPECT_EQ(producer_.try_group(name_, NLMMAP_GROUP_PUBLIC, 1024), EEXIST);
    producer_.remove_group(id_);
    EXPECT_EQ(producer_.try_group(name_, NLMMAP_GROUP_PUBLIC, 1024), 0);
}

TEST_F(Group, WithABadNameOrSizeIsRefused) {
    const std::vector<std::string> names{"",
                                         std::string(32, 'x'),
                                         std::string(60, 'x'),
                                         "UPPER",
                                         "with space",
                                         "slash/",
                                         "tab\t",
                                         "\xc3\xa4"};
    for (const std::string& name : names) {
        EXPECT_EQ(producer_.try_group(name, NLMMAP_GROUP_PUBLIC, 1024), EINVAL)
            << '"' << name << '"';
    }
    for (const std::uint32_t bytes : {0U, 15U, 65537U, 0xffffffffU}) {
        EXPECT_EQ(producer_.try_group(unique_name("size"), NLMMAP_GROUP_PUBLIC, bytes), EINVAL)
            << bytes;
    }
    EXPECT_EQ(producer_.try_group(unique_name("flag"), 2, 1024), EINVAL);
    EXPECT_EQ(producer_.try_group(std::string(31, 'y'), NLMMAP_GROUP_PUBLIC, 16), 0);
    EXPECT_EQ(producer_.try_group("a.b_c-9", NLMMAP_GROUP_PUBLIC, 65536), 0);
}

TEST_F(Group, NumberOfAPrivateOneIsNeverUsedAgain) {
    const std::uint32_t number = producer_.add_group(unique_name("secret"), kPrivate);
    producer_.remove_group(number);
    for (int i = 0; i < 24; ++i) {
        const std::uint32_t next = producer_.add_group(unique_name("public"));
        EXPECT_NE(next, number) << "who listens to the old group would hear the new one";
        producer_.remove_group(next);
    }
}

TEST_F(Group, NumberOfAPublicOneIsNotUsedAgainWhileAPlainSocketListens) {
    RawSocket listener;
    ASSERT_EQ(listener.add_membership(id_), 0);
    producer_.remove_group(id_);
    for (int i = 0; i < 24; ++i) {
        const std::uint32_t next = producer_.add_group(unique_name("public"));
        EXPECT_NE(next, id_);
        producer_.remove_group(next);
    }
}

TEST_F(Group, PrivateOnesAreForAdministratorsAlone) {
    const std::string name = unique_name("private");
    const std::uint32_t id = producer_.add_group(name, kPrivate);
    RawMember administrator(name);
    as_user(kSomebody, [&] {
        RawSocket user;
        ASSERT_TRUE(succeeded(user.setup(kPage)));
        EXPECT_TRUE(refused(user.join(name), EPERM));
        EXPECT_TRUE(refused(user.join(id), EPERM));
        EXPECT_EQ(user.add_membership(id), EPERM);
        EXPECT_TRUE(succeeded(user.join(name_))) << "public groups are for everybody";
        EXPECT_EQ(user.add_membership(id_), 0);
        EXPECT_TRUE(succeeded(user.group(name))) << "anybody may ask what there is";
    });
    // A privileged program is not to be used by who passed it a socket.
    std::optional<RawSocket> opened_by_user;
    as_user(kSomebody, [&] { opened_by_user.emplace(); });
    ASSERT_TRUE(succeeded(opened_by_user->setup(kPage)));
    EXPECT_TRUE(refused(opened_by_user->join(name), EPERM))
        << "the opener of the socket has no right to the group";
    EXPECT_EQ(producer_.publish({.group = id}).delivered, 1U);
    EXPECT_EQ(drain(administrator.ring), 1U);
}

TEST_F(Group, NamesAreOfOneNetworkNamespaceAlone) {
    RawMember here(name_);
    in_new_network([&] {
        RawSocket there;
        ASSERT_TRUE(succeeded(there.setup(kPage)));
        RawRing ring(there, kPage);
        EXPECT_TRUE(refused(there.join(name_), ENOENT));
        EXPECT_TRUE(refused(there.join(id_), ENOENT));
        EXPECT_EQ(there.add_membership(id_), ENOENT);
        Request dump(NLMMAP_MSG_GROUP_GET, NLM_F_REQUEST | NLM_F_DUMP);
        EXPECT_TRUE(there.ask(dump).replies.empty()) << "groups of another namespace are listed";

        Producer producer;
        const std::uint32_t same_name = producer.add_group(name_);
        EXPECT_NE(same_name, id_) << "numbers are unique over all namespaces";
        ASSERT_TRUE(succeeded(there.join(name_)));
        EXPECT_EQ(producer.publish({.group = same_name, .count = 2}).delivered, 2U);
        EXPECT_EQ(producer_.publish({.group = id_, .count = 3}).delivered, 3U);
        EXPECT_EQ(drain(ring), 2U);
    });
    EXPECT_EQ(drain(here.ring), 3U);
}

TEST_F(Group, GoesWithItsNetworkNamespaceAndEverythingInIt) {
    Producer producer;
    std::uint32_t id = 0;
    in_new_network([&] {
        const std::string name = unique_name("doomed");
        id = producer.add_group(name);
        const std::uint32_t hidden = producer.add_group(unique_name("hidden"), kPrivate);
        std::vector<RawMember> members;
        members.reserve(5);
        for (int i = 0; i < 5; ++i) {
            members.emplace_back(name);
        }
        RawSocket plain;
        ASSERT_EQ(plain.add_membership(id), 0);
        ASSERT_EQ(plain.add_membership(hidden), 0);
        producer.publish({.group = id, .count = 500});
    });
    // The namespace is taken down some time after its last user is gone; while
    // it lasts, publishing to it is harmless.
    EXPECT_TRUE(eventually([&] {
        try {
            return producer.publish({.group = id}).ended != 0;
        } catch (const std::system_error& error) {
            return error.code().value() == ENOENT;
        }
    })) << "the group outlives its network namespace";
}

TEST_F(Group, TakesAsManyRingsAsItsRingHasRoomForNotices) {
    RawSocket socket;
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    for (std::uint32_t i = 0; i < kPage / 256; ++i) {
        const std::string name = unique_name("small");
        producer_.add_group(name, NLMMAP_GROUP_PUBLIC, 128);
        ASSERT_TRUE(succeeded(socket.join(name))) << i;
    }
    EXPECT_TRUE(refused(socket.join(name_), ENOSPC));
}

TEST_F(Group, WantsARingOfFourOfItsLargestMessages) {
    const std::string name = unique_name("big");
    producer_.add_group(name, NLMMAP_GROUP_PUBLIC, 1025);
    RawSocket socket;
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    EXPECT_TRUE(refused(socket.join(name), EMSGSIZE));
    EXPECT_TRUE(succeeded(socket.join(name_)));
}

TEST_F(Group, IsNotJoinedByARingThatIsFull) {
    RawMember member(name_, kPage);
    producer_.publish({.group = id_, .count = 100, .min_bytes = 8});
    const std::string other = unique_name("later");
    producer_.add_group(other);
    EXPECT_TRUE(refused(member.socket.join(other), EAGAIN));
    drain(member.ring);
    EXPECT_TRUE(succeeded(member.socket.join(other)));
}

TEST(UnknownGroup, IsRefusedWithAListOfThoseThatThereAre) {
    Producer producer;
    const std::string name = unique_name("known");
    producer.add_group(name);
    try {
        Receiver receiver = Receiver::join("no-such-group");
        FAIL() << "joined a group that is not there";
    } catch (const nlmmap::Error& error) {
        EXPECT_EQ(error.code().value(), ENOENT);
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos)
            << "what() should list the groups: " << error.what();
        EXPECT_FALSE(error.sentence().empty());
    }
}

}  // namespace
}  // namespace guest
