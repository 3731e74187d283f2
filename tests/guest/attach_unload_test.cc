// SPDX-License-Identifier: MIT
//
// Unloading the module while sockets of other families have rings, and right after
// the last of them is closed, with senders that may still be about to call it. The
// module is loaded again at the end of each test.
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <optional>
#include <string>

#include "tests/guest/attach_reader.h"
#include "tests/guest/attach_sender.h"
#include "tests/guest/modules.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

const char kModule[] = "nlmmap";
const char kProducerModule[] = "nlmmap_test";

class AttachedUnloading : public testing::Test {
  protected:
    // The producer's module holds ours.
    void SetUp() override {
        load_module();
        if (loaded(kProducerModule)) {
            ASSERT_TRUE(unloads(kProducerModule));
        }
    }
    void TearDown() override {
        load_module();
        ASSERT_EQ(load(kProducerModule), 0);
    }
    static void load_module() {
        if (!loaded(kModule)) {
            ASSERT_EQ(load(kModule), 0);
        }
    }
};

TEST_F(AttachedUnloading, IsRefusedWhileASocketIsAttachedAndCleanAfterwards) {
    std::optional<RawAttached> attached(std::in_place, NETLINK_ROUTE, 1 << 16);
    EXPECT_EQ(unload(kModule), EWOULDBLOCK);
    attached->socket.close();
    EXPECT_EQ(unload(kModule), EWOULDBLOCK) << "the map holds the socket";
    attached.reset();
    EXPECT_TRUE(unloads(kModule));
    EXPECT_FALSE(loaded(kModule));
}

TEST_F(AttachedUnloading, LeavesNoReferenceBehindWhateverWasRefused) {
    const long before = references(kModule);
    for (int round = 0; round < 10; ++round) {
        RawAttached attached(NETLINK_ROUTE, 4096);
        EXPECT_TRUE(refused(attach(attached.socket.fd(), 4096), EBUSY));
        EXPECT_TRUE(refused(attach(-1, 4096), EBADF));
        EXPECT_GE(references(kModule), before + 1);
    }
    EXPECT_TRUE(eventually([&] { return references(kModule) == before; }))
        << references(kModule) << " references, " << before << " before the test";
}

TEST_F(AttachedUnloading, RightAfterTheLastSocketIsClosedIsCleanWhileSendersSend) {
    std::atomic<bool> stop{false};
    // To a group, so that there is always somebody to send to; and as often as it goes.
    const RawSocket listener = family_socket(NLMMAP_SENDER_FAMILY);
    const int group = 6;
    ASSERT_EQ(setsockopt(listener.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)),
              0);
    auto sending = std::async(std::launch::async, [&] {
        Senders senders;
        for (std::uint64_t first = 0; !stop.load(); first += 200) {
            senders.send({.group = 6,
                          .context = NLMMAP_SENDER_CPUS,
                          .senders = 2,
                          .first = first,
                          .count = 200});
        }
    });
    for (int round = 0; round < 20; ++round) {
        load_module();
        {
            RawAttached attached(NLMMAP_SENDER_FAMILY, 1 << 14);
            attached.listen(6);
            // Dumps and answers keep its work item busy to the end.
            const nlmmap_sender_dump fixed{
                .messages = 500, .bytes = 96, .flags = 0, .min_dump_alloc = 0};
            Request request(NLMMAP_SENDER_DUMP, NLM_F_REQUEST | NLM_F_DUMP);
            request.raw(std::as_bytes(std::span(&fixed, 1)));
            EXPECT_GT(send(attached.socket.fd(), request.bytes().data(), request.bytes().size(), 0),
                      0);
            for (int at = 0; at < round; ++at) {
                while (attached.ring.next()) {
                }
                find_empty(attached);
            }
        }
        ASSERT_TRUE(unloads(kModule)) << "in round " << round;
        ASSERT_FALSE(loaded(kModule));
    }
    stop.store(true);
    sending.get();
}

}  // namespace
}  // namespace guest
