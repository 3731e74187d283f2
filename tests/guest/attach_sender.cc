// SPDX-License-Identifier: MIT
#include "tests/guest/attach_sender.h"

#include <sys/socket.h>

#include <stdexcept>

#include "tests/guest/module/nlmmap_test.h"
#include "tests/guest/rtnl.h"

namespace guest {
namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::runtime_error(what); }

template <typename T>
Outcome ask(RawSocket& socket, std::uint16_t type, const T& fixed) {
    Request request(type);
    request.raw(std::as_bytes(std::span(&fixed, 1)));
    const Outcome outcome = socket.ask(request);
    if (outcome.error != 0) {
        wrong("nlmmap_sender refused request " + std::to_string(type) + ": errno " +
              std::to_string(outcome.error) + " " + outcome.sentence);
    }
    return outcome;
}

}  // namespace

Senders::Senders() : socket_(family_socket(NLMMAP_SENDER_FAMILY)) {}

Sent Senders::send(const Sending& sending) {
    const nlmmap_sender_send order{.portid = sending.portid,
                                   .group = sending.group,
                                   .context = sending.context,
                                   .senders = sending.senders,
                                   .bytes = sending.bytes,
                                   .nlmsg_flags = sending.nlmsg_flags,
                                   .first = sending.first,
                                   .count = sending.count};
    // A guest with one slow CPU may take long for all of them.
    Request request(NLMMAP_SENDER_SEND);
    request.raw(std::as_bytes(std::span(&order, 1)));
    if (::send(socket_.fd(), request.bytes().data(), request.bytes().size(), 0) < 0) {
        wrong("asking nlmmap_sender: errno " + std::to_string(errno));
    }
    const Outcome outcome = socket_.answer(60000);
    if (outcome.error != 0 || outcome.replies.empty() ||
        outcome.replies.front().payload.size() < sizeof(nlmmap_sender_sent)) {
        wrong("nlmmap_sender did not send: errno " + std::to_string(outcome.error) + " " +
              outcome.sentence);
    }
    nlmmap_sender_sent sent{};
    std::memcpy(&sent, outcome.replies.front().payload.data(), sizeof(sent));
    return {sent.accepted, sent.refused, static_cast<int>(sent.error)};
}

std::future<Sent> Senders::start(Sending sending) {
    return std::async(std::launch::async, [this, sending] { return send(sending); });
}

void Senders::error(std::uint32_t group, int error) {
    ask(socket_, NLMMAP_SENDER_ERROR,
        nlmmap_sender_error{.group = group, .error = static_cast<std::uint32_t>(error)});
}

SentCheck::SentCheck(const Sending& sending)
    : sending_(sending), expected_(sending.senders * sending.count) {
    next_.fill(sending.first);
}

void SentCheck::datagram(std::span<const std::byte> datagram) {
    nlmsghdr header{};
    if (datagram.size() != sizeof(header) + sending_.bytes) {
        wrong("a datagram of " + std::to_string(datagram.size()) + " bytes");
    }
    std::memcpy(&header, datagram.data(), sizeof(header));
    const std::uint32_t sender = header.nlmsg_type - std::uint32_t{NLMMAP_SENDER_DATA};
    if (header.nlmsg_type < NLMMAP_SENDER_DATA || sender >= sending_.senders ||
        header.nlmsg_len != datagram.size() || header.nlmsg_flags != sending_.nlmsg_flags) {
        wrong("a header that was not sent: type " + std::to_string(header.nlmsg_type) + " len " +
              std::to_string(header.nlmsg_len) + " flags " + std::to_string(header.nlmsg_flags));
    }
    std::uint64_t number = 0;
    const std::byte* words = datagram.data() + sizeof(header);
    std::memcpy(&number, words, sizeof(number));
    if (number < next_[sender] || number >= sending_.first + sending_.count) {
        wrong("message " + std::to_string(number) + " of sender " + std::to_string(sender) +
              " where " + std::to_string(next_[sender]) + " was due");
    }
    for (std::uint32_t index = 1; index < sending_.bytes / sizeof(number); ++index) {
        std::uint64_t word = 0;
        std::memcpy(&word, words + index * sizeof(word), sizeof(word));
        if (word != nlmmap_test_word(sender, number, index)) {
            wrong("word " + std::to_string(index) + " of message " + std::to_string(number) +
                  " of sender " + std::to_string(sender) + " is not what was sent");
        }
    }
    missing_ += number - next_[sender];
    next_[sender] = number + 1;
    ++received_;
}

Bytes sent_message(std::uint32_t sender, std::uint64_t number, std::uint32_t bytes,
                   std::uint16_t nlmsg_flags) {
    Bytes message(sizeof(nlmsghdr) + bytes);
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(message.size());
    header.nlmsg_type = static_cast<std::uint16_t>(NLMMAP_SENDER_DATA + sender);
    header.nlmsg_flags = nlmsg_flags;
    std::memcpy(message.data(), &header, sizeof(header));
    for (std::uint32_t index = 0; index < bytes / sizeof(std::uint64_t); ++index) {
        const std::uint64_t word = nlmmap_test_word(sender, number, index);
        std::memcpy(message.data() + sizeof(header) + index * sizeof(word), &word, sizeof(word));
    }
    return message;
}

}  // namespace guest
