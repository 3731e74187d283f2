// SPDX-License-Identifier: MIT
//
// Loading and unloading: refused while anybody uses the module, clean when
// nobody does. Both modules are loaded again at the end of each test.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <nlmmap/nlmmap.hpp>
#include <optional>
#include <string>

#include "tests/guest/modules.h"
#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kPage = 4096;
const char kModule[] = "nlmmap";
const char kProducerModule[] = "nlmmap_test";

class Unloading : public testing::Test {
  protected:
    void SetUp() override { load_both(); }
    void TearDown() override { load_both(); }
    static void load_both() {
        if (!loaded(kModule)) {
            ASSERT_EQ(load(kModule), 0);
        }
        if (!loaded(kProducerModule)) {
            ASSERT_EQ(load(kProducerModule), 0);
        }
    }
    static void unload_both() {
        ASSERT_TRUE(unloads(kProducerModule));
        ASSERT_TRUE(unloads(kModule));
        ASSERT_FALSE(loaded(kModule));
    }
};

TEST_F(Unloading, IsRefusedWhileAProducerUsesTheModule) {
    ASSERT_GT(references(kModule), 0);
    EXPECT_EQ(unload(kModule), EWOULDBLOCK);
    EXPECT_TRUE(loaded(kModule));
}

TEST_F(Unloading, IsRefusedWhileSocketsWithRingsAreOpenAndCleanAfterwards) {
    ASSERT_TRUE(unloads(kProducerModule));
    std::optional<RawSocket> socket(std::in_place);
    ASSERT_TRUE(succeeded(socket->setup(kPage)));
    EXPECT_EQ(unload(kModule), EWOULDBLOCK);
    std::optional<RawRing> ring(std::in_place, *socket, kPage);
    socket.reset();
    EXPECT_EQ(unload(kModule), EWOULDBLOCK) << "the map holds the socket";
    ring->forge(0);
    EXPECT_EQ(poll(nullptr, 0, 0), 0);
    ring.reset();
    EXPECT_TRUE(unloads(kModule)) << "nobody uses it any more";
    EXPECT_FALSE(loaded(kModule));
}

TEST_F(Unloading, IsRefusedWhilePlainSocketsAreOpen) {
    ASSERT_TRUE(unloads(kProducerModule));
    std::optional<RawSocket> socket(std::in_place);
    EXPECT_EQ(unload(kModule), EWOULDBLOCK);
    socket.reset();
    EXPECT_TRUE(unloads(kModule));
    EXPECT_FALSE(loaded(kModule));
}

TEST_F(Unloading, LeavesNoReferenceBehindWhateverSocketsDid) {
    const long before = references(kModule);
    {
        Producer producer;
        const std::string name = unique_name("references");
        const std::uint32_t group = producer.add_group(name);
        for (int i = 0; i < 10; ++i) {
            RawMember member(name, kPage);
            EXPECT_TRUE(refused(member.socket.setup(kPage), EBUSY));
            RawSocket plain;
            ASSERT_EQ(plain.add_membership(group), 0);
            EXPECT_GE(references(kModule), before + 2) << "one for each socket, at least";
            RawSocket refused_one;
            EXPECT_TRUE(refused(refused_one.setup(3), EINVAL));
        }
    }
    EXPECT_TRUE(eventually([&] { return references(kModule) == before; }))
        << references(kModule) << " references, " << before << " before the test";
}

TEST_F(Unloading, RightAfterTheLastPublisherAndReaderAreGoneIsClean) {
    for (int i = 0; i < 5; ++i) {
        load_both();
        {
            Producer producer;
            const std::string name = unique_name("last");
            const std::uint32_t group = producer.add_group(name);
            RawMember member(name, 1 << 16);
            RawSocket plain;
            ASSERT_EQ(plain.add_membership(group), 0);
            poll_now(member.socket.fd(), POLLIN);
            producer.publish(
                {.group = group, .count = 200, .context = NLMMAP_TEST_KTHREAD, .producers = 2});
        }
        unload_both();
    }
}

TEST_F(Unloading, LeavesNothingThatAProgramCouldUse) {
    const int number = family();
    unload_both();
    EXPECT_EQ(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, number), -1);
    EXPECT_EQ(errno, EPROTONOSUPPORT);
    try {
        nlmmap::Receiver receiver = nlmmap::Receiver::join("anything");
        FAIL() << "joined without the module";
    } catch (const nlmmap::Error& error) {
        EXPECT_EQ(error.code().value(), EPROTONOSUPPORT);
        EXPECT_NE(std::string(error.what()).find("modprobe nlmmap"), std::string::npos)
            << "what() should say how to load it: " << error.what();
    }
}

TEST_F(Unloading, LoadingWithANumberThatIsTakenSaysSoAndAFreeOneWorks) {
    unload_both();
    // rtnetlink has 0, generic netlink 16, the uevents 15.
    for (const int taken : {15, 16}) {
        KernelLog log;
        EXPECT_NE(load(kModule, "family=" + std::to_string(taken)), 0);
        EXPECT_FALSE(loaded(kModule));
        const std::string line = log.line_with("nlmmap:");
        EXPECT_NE(line.find(std::to_string(taken)), std::string::npos) << line;
        EXPECT_NE(line.find("taken"), std::string::npos) << line;
    }
    for (const int nonsense : {-1, 0, 32, 1000000}) {
        KernelLog log;
        EXPECT_EQ(load(kModule, "family=" + std::to_string(nonsense)), EINVAL) << nonsense;
        EXPECT_NE(log.line_with("nlmmap:").find("family"), std::string::npos) << nonsense;
    }
    ASSERT_EQ(load(kModule, "family=22"), 0);
    EXPECT_EQ(nlmmap::family(), 22);
    ASSERT_EQ(load(kProducerModule), 0);
    {
        Producer producer;
        const std::string name = unique_name("number");
        const std::uint32_t group = producer.add_group(name);
        nlmmap::Receiver receiver = nlmmap::Receiver::join(name);
        EXPECT_EQ(producer.publish({.group = group}).delivered, 1U);
        EXPECT_FALSE(receiver.read().empty());
    }
    unload_both();
}

TEST_F(Unloading, ParametersLimitRingsAndMembers) {
    unload_both();
    ASSERT_EQ(load(kModule, "max_ring_bytes=65536 max_members=2"), 0);
    ASSERT_EQ(load(kProducerModule), 0);
    {
        RawSocket socket;
        EXPECT_TRUE(refused(socket.setup(131072), ERANGE));
        EXPECT_TRUE(succeeded(socket.setup(65536)));
        Producer producer;
        const std::string name = unique_name("limits");
        producer.add_group(name);
        RawMember first(name);
        RawMember second(name);
        EXPECT_TRUE(refused(socket.join(name), ENOSPC));
        first.ring.unmap();
        first.socket.close();
        EXPECT_TRUE(succeeded(socket.join(name)));
    }
    unload_both();
}

// bind() with a mask reaches the first 32 groups alone, so this wants a module
// that has just been loaded.
TEST_F(Unloading, AFreshModulesPrivateGroupsAreClosedToAUsersBindMask) {
    unload_both();
    load_both();
    Producer producer;
    const std::uint32_t closed = producer.add_group(unique_name("closed"), 0);
    const std::uint32_t open = producer.add_group(unique_name("open"));
    ASSERT_LE(open, 32U);
    as_user(kSomebody, [&] {
        const auto bind_to = [](std::uint32_t mask) {
            const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family());
            sockaddr_nl address{};
            address.nl_family = AF_NETLINK;
            address.nl_groups = mask;
            const int error =
                bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ? errno : 0;
            close(fd);
            return error;
        };
        const std::uint32_t closed_bit = 1U << (closed - 1);
        const std::uint32_t open_bit = 1U << (open - 1);
        EXPECT_EQ(bind_to(closed_bit), EPERM);
        EXPECT_EQ(bind_to(closed_bit | open_bit), EPERM);
        EXPECT_EQ(bind_to(open_bit), 0);
        EXPECT_EQ(bind_to(1U << 31), ENOENT);
    });
}

}  // namespace
}  // namespace guest
