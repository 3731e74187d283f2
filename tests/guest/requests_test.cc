// SPDX-License-Identifier: MIT
//
// Requests that make no sense get a clear error and a sentence, and cost
// nothing: the next good request works, and messages go on.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

constexpr std::uint32_t kPage = 4096;
constexpr std::uint16_t kUnknownAttribute = 200;

class Requests : public testing::Test {
  protected:
    // The socket still does all that a socket does.
    testing::AssertionResult works(RawSocket& socket, RawRing& ring) {
        const Outcome info = socket.info();
        if (info.error != 0 || info.replies.size() != 1) {
            return testing::AssertionFailure()
                   << "SOCKET_GET does not work any more: " << info.sentence;
        }
        producer_.publish({.group = group_, .count = 3, .first_number = number_});
        Check check({.group = group_, .count = 3, .first_number = number_});
        number_ += 3;
        while (const auto record = ring.next()) {
            check.message(record->message());
        }
        ring.release();
        if (check.received() != 3) {
            return testing::AssertionFailure() << "messages do not arrive any more";
        }
        return testing::AssertionSuccess();
    }

    const std::string name_ = unique_name("requests");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
    std::uint64_t number_ = 0;
};

class BadRingSize : public testing::TestWithParam<std::pair<std::uint32_t, int>> {};

INSTANTIATE_TEST_SUITE_P(Guest, BadRingSize,
                         testing::Values(std::pair{0U, EINVAL}, std::pair{1U, EINVAL},
                                         std::pair{2048U, EINVAL}, std::pair{4095U, EINVAL},
                                         std::pair{12288U, EINVAL}, std::pair{0xffffffffU, EINVAL},
                                         std::pair{0x80000000U, ERANGE},
                                         std::pair{128U << 20, ERANGE}),
                         [](const auto& size) { return std::to_string(size.param.first); });

TEST_P(BadRingSize, IsRefusedAndAGoodOneWorksAfterwards) {
    RawSocket socket;
    EXPECT_TRUE(refused(socket.setup(GetParam().first), GetParam().second));
    EXPECT_TRUE(refused(socket.info(), ENODEV)) << "nothing was set up";
    EXPECT_TRUE(succeeded(socket.setup(kPage)));
}

TEST_F(Requests, RingSizesFromAPageToTheLimitWork) {
    for (std::uint32_t bytes = kPage; bytes <= 64U << 20; bytes *= 8) {
        RawSocket socket;
        const Outcome outcome = socket.setup(bytes);
        ASSERT_TRUE(succeeded(outcome)) << bytes;
        ASSERT_EQ(outcome.replies.size(), 1U) << "the answer to SETUP is NLMMAP_MSG_SOCKET";
        const Reply& reply = outcome.replies[0];
        EXPECT_EQ(reply.header.nlmsg_type, NLMMAP_MSG_SOCKET);
        EXPECT_EQ(reply.get<std::uint32_t>(NLMMAP_A_RX_BYTES), bytes);
        EXPECT_EQ(reply.get<std::uint32_t>(NLMMAP_A_ABI_VERSION), NLMMAP_ABI_VERSION);
        EXPECT_EQ(reply.get<std::uint32_t>(NLMMAP_A_HEADER_BYTES), sizeof(nlmmap_record));
        EXPECT_EQ(reply.get<std::uint64_t>(NLMMAP_A_FEATURES),
                  std::uint64_t{NLMMAP_FEATURE_TIME | NLMMAP_FEATURE_CREDENTIALS |
                                NLMMAP_FEATURE_ATTACH | NLMMAP_FEATURE_WAIT});
        RawRing ring(socket, bytes);
        EXPECT_EQ(ring.producer().data_bytes, bytes);
        EXPECT_EQ(ring.producer().header_bytes, sizeof(nlmmap_record));
        EXPECT_EQ(ring.producer().abi_version, std::uint32_t{NLMMAP_ABI_VERSION});
        // The last byte of the second mapping is the last of the first.
        EXPECT_EQ(ring.data()[2 * bytes - 1], std::byte{0});
    }
}

TEST_F(Requests, UnknownSetupFlagsAreRefused) {
    RawSocket socket;
    for (const std::uint32_t flags : {2U, 0x80000000U, 0xffffffffU}) {
        EXPECT_TRUE(refused(socket.setup(kPage, flags), EOPNOTSUPP)) << flags;
    }
    EXPECT_TRUE(succeeded(socket.setup(kPage, NLMMAP_SETUP_TIME)));
}

TEST_F(Requests, ASecondSetupIsRefusedAndTheFirstRingGoesOn) {
    RawMember member(name_);
    EXPECT_TRUE(refused(member.socket.setup(1 << 16), EBUSY));
    EXPECT_TRUE(refused(member.socket.setup(kPage), EBUSY));
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, OfTwoSetupsAtOnceExactlyOneWins) {
    for (int round = 0; round < 20; ++round) {
        RawSocket socket;
        const Request request = Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, 1 << 18);
        std::atomic<int> ready{0};
        std::vector<std::future<void>> threads;
        threads.reserve(4);
        for (int i = 0; i < 4; ++i) {
            threads.push_back(std::async(std::launch::async, [&] {
                ++ready;
                while (ready < 4) {
                }
                send(socket.fd(), request.bytes().data(), request.bytes().size(), 0);
            }));
        }
        for (auto& thread : threads) {
            thread.get();
        }
        int won = 0;
        for (int i = 0; i < 4; ++i) {
            const Outcome outcome = socket.answer();
            won += outcome.error == 0;
            if (outcome.error != 0) {
                EXPECT_TRUE(refused(outcome, EBUSY));
            }
        }
        EXPECT_EQ(won, 1);
        ASSERT_TRUE(succeeded(socket.join(name_)));
        RawRing ring(socket, 1 << 18);
        ASSERT_TRUE(works(socket, ring));
    }
}

TEST_F(Requests, ThatNeedARingSayHowToGetOne) {
    RawSocket socket;
    EXPECT_TRUE(refused(socket.join(name_), ENODEV));
    EXPECT_TRUE(refused(socket.leave(name_), ENODEV));
    EXPECT_TRUE(refused(socket.info(), ENODEV));
    EXPECT_TRUE(succeeded(socket.group(name_))) << "this one does not";
}

TEST_F(Requests, ThatNameNoGroupOrTwoAreRefused) {
    RawMember member(name_);
    for (const std::uint16_t type : {NLMMAP_MSG_JOIN, NLMMAP_MSG_LEAVE, NLMMAP_MSG_GROUP_GET}) {
        EXPECT_TRUE(refused(member.socket.ask(Request(type)), EINVAL)) << type;
        EXPECT_TRUE(refused(
            member.socket.ask(
                Request(type).string(NLMMAP_A_GROUP_NAME, name_).u32(NLMMAP_A_GROUP_ID, group_)),
            EINVAL))
            << type;
        for (const std::uint32_t id : {0U, 1025U, 65536U + group_, 0xffffffffU}) {
            EXPECT_TRUE(
                refused(member.socket.ask(Request(type).u32(NLMMAP_A_GROUP_ID, id)), ENOENT))
                << type << ' ' << id;
        }
        EXPECT_TRUE(refused(member.socket.ask(Request(type).string(NLMMAP_A_GROUP_NAME, "nowhere")),
                            ENOENT));
        EXPECT_TRUE(
            refused(member.socket.ask(Request(type).string(NLMMAP_A_GROUP_NAME, "")), ENOENT));
    }
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, WithAttributesOfAWrongLengthAreRefused) {
    RawMember member(name_);
    RawSocket bare;
    const std::string long_name(200, 'n');
    const std::uint64_t eight = kPage;
    const std::vector<Request> bad{
        Request(NLMMAP_MSG_SETUP).put(NLMMAP_A_RX_BYTES, &eight, 8),
        Request(NLMMAP_MSG_SETUP).put(NLMMAP_A_RX_BYTES, &eight, 2),
        Request(NLMMAP_MSG_SETUP).put(NLMMAP_A_RX_BYTES, &eight, 0),
        Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, kPage).put(NLMMAP_A_FLAGS, &eight, 8),
        Request(NLMMAP_MSG_JOIN).put(NLMMAP_A_GROUP_ID, &eight, 2),
        Request(NLMMAP_MSG_JOIN).put(NLMMAP_A_GROUP_ID, &eight, 8),
        Request(NLMMAP_MSG_JOIN).string(NLMMAP_A_GROUP_NAME, long_name),
        Request(NLMMAP_MSG_JOIN).string(NLMMAP_A_GROUP_NAME, long_name.substr(0, 32)),
        // No terminating NUL.
        Request(NLMMAP_MSG_JOIN).put(NLMMAP_A_GROUP_NAME, name_.data(), name_.size()),
        Request(NLMMAP_MSG_JOIN).put(NLMMAP_A_GROUP_NAME, name_.data(), 0),
    };
    for (std::size_t i = 0; i < bad.size(); ++i) {
        RawSocket& socket = i < 4 ? bare : member.socket;
        const Outcome outcome = socket.ask(bad[i]);
        EXPECT_TRUE(refused(outcome, outcome.error == ERANGE ? ERANGE : EINVAL))
            << "request " << i << " of this test";
    }
    EXPECT_TRUE(succeeded(bare.setup(kPage)));
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, WithUnknownAttributesAreRefused) {
    RawMember member(name_);
    RawSocket bare;
    EXPECT_TRUE(refused(
        bare.ask(Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, kPage).u32(kUnknownAttribute, 1)),
        EINVAL));
    // Known elsewhere, but no part of this request.
    EXPECT_TRUE(refused(
        bare.ask(Request(NLMMAP_MSG_SETUP).u32(NLMMAP_A_RX_BYTES, kPage).u64(NLMMAP_A_LOST, 0)),
        EINVAL));
    for (const std::uint16_t type : {NLMMAP_MSG_JOIN, NLMMAP_MSG_LEAVE, NLMMAP_MSG_GROUP_GET}) {
        EXPECT_TRUE(
            refused(member.socket.ask(
                        Request(type).string(NLMMAP_A_GROUP_NAME, name_).u32(kUnknownAttribute, 1)),
                    EINVAL))
            << type;
    }
    EXPECT_TRUE(refused(member.socket.ask(Request(NLMMAP_MSG_SOCKET_GET).u32(NLMMAP_A_GROUP_ID, 1)),
                        EINVAL));
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, WithAttributesThatAreCutShortAreRefused) {
    RawMember member(name_);
    const auto broken = [](std::uint16_t type, std::uint16_t length) {
        Request request(type);
        nlattr attribute{.nla_len = length, .nla_type = NLMMAP_A_GROUP_ID};
        Bytes bytes(sizeof(attribute) + 4);
        std::memcpy(bytes.data(), &attribute, sizeof(attribute));
        return request.raw(bytes);
    };
    for (const std::uint16_t type :
         {NLMMAP_MSG_SETUP, NLMMAP_MSG_JOIN, NLMMAP_MSG_LEAVE, NLMMAP_MSG_SOCKET_GET,
          NLMMAP_MSG_GROUP_GET, NLMMAP_MSG_ATTACH}) {
        for (const int length : {0, 1, 3, 9, 64, 65535}) {
            EXPECT_TRUE(refused(member.socket.ask(broken(type, static_cast<std::uint16_t>(length))),
                                EINVAL))
                << "type " << type << ", nla_len " << length;
        }
        // Bytes after the last attribute that are none.
        Request trailing(type);
        EXPECT_TRUE(refused(member.socket.ask(trailing.raw(Bytes(3))), EINVAL)) << type;
    }
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, OfAnUnknownTypeAreRefused) {
    RawMember member(name_);
    for (const int type : {NLMMAP_MSG_ATTACH + 1, 31, 32, 33, 34, 255, 256, 65535}) {
        const Request request(static_cast<std::uint16_t>(type));
        EXPECT_TRUE(refused(member.socket.ask(request), EOPNOTSUPP)) << type;
    }
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, ThatAreTruncatedOrLieAboutTheirLengthAreRefused) {
    RawMember member(name_);
    const Request good = Request(NLMMAP_MSG_GROUP_GET).string(NLMMAP_A_GROUP_NAME, name_);
    std::vector<Bytes> bad;
    for (const std::ptrdiff_t bytes : {1, 4, 15}) {
        bad.emplace_back(good.bytes().begin(), good.bytes().begin() + bytes);
    }
    // Cut in the middle of the attribute: nlmsg_len is more than there is.
    bad.emplace_back(good.bytes().begin(), good.bytes().begin() + 20);
    for (const std::uint32_t length : {0U, 1U, 15U, 0x7fffffffU, 0xffffffffU}) {
        Request lying = good;
        lying.header().nlmsg_len = length;
        bad.push_back(lying.bytes());
    }
    for (std::size_t i = 0; i < bad.size(); ++i) {
        EXPECT_TRUE(refused(member.socket.ask_bytes(bad[i]), EBADMSG))
            << "bytes " << i << " of this test";
        EXPECT_TRUE(works(member.socket, member.ring));
    }
}

TEST_F(Requests, AfterABrokenOneInTheSameDatagramAreAnsweredUpToIt) {
    RawMember member(name_);
    Request good(NLMMAP_MSG_SOCKET_GET);
    Bytes datagram = good.bytes();
    Bytes broken = good.bytes();
    broken[0] = std::byte{5};
    datagram.insert(datagram.end(), broken.begin(), broken.end());
    EXPECT_TRUE(succeeded(member.socket.ask_bytes(datagram)));
    EXPECT_TRUE(refused(member.socket.answer(), EBADMSG));
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, SeveralInOneDatagramAreAnsweredInOrder) {
    RawMember member(name_);
    Bytes datagram;
    for (std::uint32_t i = 1; i <= 3; ++i) {
        Request request(NLMMAP_MSG_SOCKET_GET);
        request.header().nlmsg_seq = 1000 + i;
        datagram.insert(datagram.end(), request.bytes().begin(), request.bytes().end());
    }
    Outcome outcome = member.socket.ask_bytes(datagram);
    for (std::uint32_t i = 1; i <= 3; ++i) {
        ASSERT_TRUE(succeeded(outcome));
        ASSERT_EQ(outcome.replies.size(), 1U);
        EXPECT_EQ(outcome.replies[0].header.nlmsg_seq, 1000 + i);
        if (i < 3) {
            outcome = member.socket.answer();
        }
    }
}

TEST_F(Requests, ThatAreHugeAreRefusedAndHarmless) {
    RawMember member(name_);
    const int buffer = 4 << 20;
    setsockopt(member.socket.fd(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    Request many(NLMMAP_MSG_JOIN);
    for (int i = 0; i < 20000; ++i) {
        many.u32(NLMMAP_A_GROUP_ID, group_);
    }
    // The last of repeated attributes counts, as everywhere in netlink.
    EXPECT_TRUE(refused(member.socket.ask(many), EALREADY));
    Request padded(NLMMAP_MSG_SOCKET_GET);
    EXPECT_TRUE(refused(member.socket.ask(padded.raw(Bytes(1 << 20))), EINVAL));
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, OfRandomBytesNeverHurt) {
    RawMember member(name_, 1 << 16);
    const timeval moment{.tv_sec = 0, .tv_usec = 1};
    std::uint64_t state = 0x853c49e6748fea9bULL;
    const auto random = [&state] {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::uint32_t>(state >> 33);
    };
    for (int i = 0; i < 1500; ++i) {
        Request request(static_cast<std::uint16_t>(16 + random() % 6),
                        static_cast<std::uint16_t>(NLM_F_REQUEST | (random() & 0x305)));
        for (std::uint32_t attributes = random() % 4; attributes > 0; --attributes) {
            const std::uint64_t value = random() % 3 == 0 ? random() : group_;
            request.put(static_cast<std::uint16_t>(random() % 8), &value, random() % 9);
        }
        Bytes bytes = request.bytes();
        if (random() % 4 == 0) {
            bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        }
        // What SETUP would do is tried elsewhere; a leave would end the test.
        if (request.header().nlmsg_type != NLMMAP_MSG_LEAVE) {
            send(member.socket.fd(), bytes.data(), bytes.size(), 0);
        }
        // Whatever it answered.
        Bytes answer(65536);
        setsockopt(member.socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &moment, sizeof(moment));
        while (recv(member.socket.fd(), answer.data(), answer.size(), MSG_DONTWAIT) > 0) {
        }
    }
    member.socket.join(name_);  // In case that it left after all.
    EXPECT_TRUE(works(member.socket, member.ring));
}

TEST_F(Requests, WithoutAnAcknowledgementWantedAreCarriedOutAndErrorsStillAnswered) {
    RawSocket socket;
    Outcome outcome =
        socket.ask(Request(NLMMAP_MSG_JOIN, NLM_F_REQUEST).string(NLMMAP_A_GROUP_NAME, name_));
    EXPECT_TRUE(refused(outcome, ENODEV));
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    Request quiet = Request(NLMMAP_MSG_JOIN, NLM_F_REQUEST).string(NLMMAP_A_GROUP_NAME, name_);
    ASSERT_GT(send(socket.fd(), quiet.bytes().data(), quiet.bytes().size(), 0), 0);
    EXPECT_TRUE(refused(socket.join(name_), EALREADY)) << "carried out before send() returned";
}

}  // namespace
}  // namespace guest
