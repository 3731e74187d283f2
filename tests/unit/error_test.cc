// SPDX-License-Identifier: MIT
// Errors say what was tried, what the kernel said, and what to do.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <random>
#include <request.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "datagram.hpp"

namespace nlmmap {
namespace {

TEST(Errors, HaveEverythingInOneLine) {
    const Error error(ENOENT, "join group \"x\"", "no such group", "groups here: a b");
    EXPECT_STREQ(error.what(),
                 "join group \"x\": No such file or directory: no such group; groups here: a b");
    EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
    EXPECT_EQ(error.operation(), "join group \"x\"");
    EXPECT_EQ(error.sentence(), "no such group");
    EXPECT_EQ(error.advice(), "groups here: a b");
}

TEST(Errors, LeaveOutWhatNobodySaid) {
    EXPECT_STREQ(Error(EPERM, "join").what(), "join: Operation not permitted");
    EXPECT_STREQ(Error(EPERM, "join", "", "be root").what(),
                 "join: Operation not permitted; be root");
}

TEST(Errors, AreSystemErrorsThatCopyWithoutThrowing) {
    static_assert(std::is_nothrow_copy_constructible_v<Error>);
    try {
        throw Error(ENOMEM, "set up a ring");
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), ENOMEM);
        EXPECT_STREQ(error.what(), "set up a ring: Cannot allocate memory");
    }
}

TEST(Errors, TellHowToLoadTheModule) {
    if (::access("/sys/module/nlmmap", F_OK) == 0)
        GTEST_SKIP() << "the module is loaded on this machine";
    for (const auto& action : std::vector<std::function<void()>>{
             [] { static_cast<void>(family()); },
             [] { const Socket socket; },
             [] { const Receiver receiver = Receiver::join("process_events"); },
             [] { const Receiver receiver = Receiver::join({"one", "two"}); },
         }) {
        try {
            action();
            FAIL() << "it worked without the module";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), std::errc::protocol_not_supported);
            EXPECT_NE(std::string(error.what()).find("modprobe nlmmap"), std::string::npos)
                << error.what();
        }
    }
}

// An acknowledgement as the kernel writes it.
struct Ack {
    std::vector<std::byte> bytes;

    Ack(std::uint16_t flags, std::size_t request_payload, const std::string& sentence) {
        nlmsghdr header{};
        header.nlmsg_type = NLMSG_ERROR;
        header.nlmsg_flags = flags;
        nlmsgerr error{};
        error.error = -ENOENT;
        error.msg.nlmsg_len = static_cast<std::uint32_t>(NLMSG_HDRLEN + request_payload);
        append(&header, sizeof(header));
        append(&error, sizeof(error));
        if ((flags & NLM_F_CAPPED) == 0) bytes.resize(NLMSG_ALIGN(bytes.size() + request_payload));
        nlattr attribute{};
        attribute.nla_type = NLMSGERR_ATTR_OFFS;
        attribute.nla_len = NLA_HDRLEN + 4;
        append(&attribute, sizeof(attribute));
        bytes.resize(bytes.size() + 4);
        attribute.nla_type = NLMSGERR_ATTR_MSG;
        attribute.nla_len = static_cast<std::uint16_t>(NLA_HDRLEN + sentence.size() + 1);
        append(&attribute, sizeof(attribute));
        append(sentence.c_str(), sentence.size() + 1);
        bytes.resize(NLMSG_ALIGN(bytes.size()));
        const auto len = static_cast<std::uint32_t>(bytes.size());
        std::memcpy(bytes.data(), &len, sizeof(len));
    }
    void append(const void* data, std::size_t size) {
        const auto* from = static_cast<const std::byte*>(data);
        bytes.insert(bytes.end(), from, from + size);
    }
    // In memory that ends where the message does.
    [[nodiscard]] std::string sentence() const {
        const auto exact = std::make_unique<std::byte[]>(bytes.size());
        std::memcpy(exact.get(), bytes.data(), bytes.size());
        return extended_ack_sentence(reinterpret_cast<nlmsghdr*>(exact.get()));
    }
};

TEST(ExtendedAck, GivesTheSentence) {
    EXPECT_EQ(Ack(NLM_F_CAPPED | NLM_F_ACK_TLVS, 24, "no such group").sentence(), "no such group");
}

TEST(ExtendedAck, GivesTheSentenceAfterARequestThatWasNotCapped) {
    for (const std::size_t payload : {0U, 4U, 8U, 21U, 24U})
        EXPECT_EQ(Ack(NLM_F_ACK_TLVS, payload, "no such group").sentence(), "no such group")
            << payload << " bytes of request";
}

TEST(ExtendedAck, IsSilentWhereTheKernelSaidNothing) {
    EXPECT_EQ(Ack(NLM_F_CAPPED, 24, "not flagged").sentence(), "");
}

TEST(ExtendedAck, SurvivesRandomBytes) {
    std::mt19937 random(5);
    const Ack good(NLM_F_ACK_TLVS, 16, "sentence");
    for (int round = 0; round < 20'000; ++round) {
        Ack broken = good;
        for (unsigned changes = 1 + random() % 4; changes > 0; --changes)
            broken.bytes[4 + random() % (broken.bytes.size() - 4)] =
                static_cast<std::byte>(random());
        EXPECT_LT(broken.sentence().size(), broken.bytes.size());
    }
}

}  // namespace
}  // namespace nlmmap
