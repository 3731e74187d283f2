// SPDX-License-Identifier: MIT
//
// What an executor thinks of answers.
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/fuzz/control/answer.h"
#include "tests/fuzz/control/executor.h"
#include "tests/fuzz/control/grammar.h"

namespace fuzz {

void Executor::judge_datagram(Endpoint& endpoint, const Bytes& datagram) {
    std::size_t at = 0;
    while (at + sizeof(nlmsghdr) <= datagram.size()) {
        nlmsghdr header{};
        std::memcpy(&header, datagram.data() + at, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size() - at) {
            wrong("the kernel's answer is not well-formed netlink");
            return;
        }
        const auto begin = datagram.begin() + static_cast<std::ptrdiff_t>(at);
        const Bytes payload(begin + sizeof(header), begin + header.nlmsg_len);
        at += NLMSG_ALIGN(header.nlmsg_len);
        if (header.nlmsg_type == NLMSG_ERROR) {
            judge_error(endpoint, header.nlmsg_seq, payload, header.nlmsg_flags);
        } else if (header.nlmsg_type < NLMMAP_MSG_PRODUCER_MIN &&
                   header.nlmsg_type >= NLMMAP_MSG_SOCKET) {
            judge_answer(endpoint, header, payload);
        }
    }
}

void Executor::judge_error(Endpoint& endpoint, std::uint32_t seq, const Bytes& payload,
                           std::uint16_t flags) {
    int error = 0;
    if (payload.size() < sizeof(nlmsgerr)) {
        wrong("an NLMSG_ERROR of " + std::to_string(payload.size()) + " bytes");
        return;
    }
    std::memcpy(&error, payload.data(), sizeof(error));
    error = -error;
    const std::string sentence = sentence_of(payload, flags);
    if (error == EBADMSG) {
        if (endpoint.broken_ends == 0 && endpoint.state.known) {
            wrong("EBADMSG, though every datagram ended as it should");
        }
        if (sentence.empty()) {
            wrong("EBADMSG without a sentence");
        }
        endpoint.broken_ends -= endpoint.broken_ends != 0 ? 1 : 0;
        ++tally_.refused;
        return;
    }
    settle_before(endpoint, seq);
    const auto request = std::ranges::find(endpoint.pending, seq, &Request::seq);
    if (request == endpoint.pending.end()) {
        if (endpoint.state.known) {
            wrong("an answer (" + errno_names({error}) + ", \"" + sentence +
                  "\") to something that was not sent, or answered before");
        }
        return;
    }
    if (error == 0 && !request->wants_ack()) {
        wrong("an acknowledgement that nobody asked for: " + describe(*request));
    }
    settle(endpoint, *request, error, sentence);
    endpoint.pending.erase(request);
}

void Executor::settle_before(Endpoint& endpoint, std::uint32_t seq) {
    while (!endpoint.pending.empty() && endpoint.pending.front().seq < seq) {
        Request request = std::move(endpoint.pending.front());
        endpoint.pending.pop_front();
        // A dump's end is its answer.
        if (request.wants_ack() && !request.is_dump() && endpoint.state.known) {
            wrong("no answer to a request: " + describe(request));
            return;
        }
        settle(endpoint, request, 0, "");
    }
}

void Executor::settle(Endpoint& endpoint, Request& request, int error,
                      const std::string& sentence) {
    SocketState& state = endpoint.state;
    if (error == ENOBUFS && request.is_dump()) {
        // The core's word: the socket is full of answers. The dump goes on when they are read.
        state.dumping = true;
        return;
    }
    if (state.known) {
        const std::set<int> allowed = expected(request, state, rights_, groups_);
        if (!allowed.contains(error)) {
            wrong(describe(request) + ": answered " + errno_names({error}) + " (\"" + sentence +
                  "\"), expected was " + errno_names(allowed));
            return;
        }
    }
    if (error == 0) {
        ++tally_.carried_out;
        carry_out(request, state, groups_);
        if (const auto target = attaching_.find(request.seq); target != attaching_.end()) {
            target->second->state.ring_bytes = request.ring_bytes();
        }
        return;
    }
    ++tally_.refused;
    // ENOBUFS is the core's: there was no room to answer in.
    if (error == ENOBUFS && !state.known) {
        return;
    }
    if (!is_documented(request.type, error)) {
        wrong(describe(request) + ": " + errno_names({error}) +
              ", which the header does not list for it");
    } else if (request.ext_ack && sentence.find(' ') == std::string::npos) {
        wrong(describe(request) + ": " + errno_names({error}) +
              " without a sentence for people: \"" + sentence + "\"");
    }
}

void Executor::judge_answer(const Endpoint& endpoint, const nlmsghdr& header,
                            const Bytes& payload) {
    // A dump tells of others, and what was asked later may have been done already.
    if (header.nlmsg_type != NLMMAP_MSG_SOCKET || (header.nlmsg_flags & NLM_F_MULTI) != 0) {
        return;
    }
    const auto request = std::ranges::find(endpoint.pending, header.nlmsg_seq, &Request::seq);
    if (request != endpoint.pending.end() && request->named) {
        if (u32_of(payload, NLMMAP_A_RX_BYTES) == 0) {
            wrong("SOCKET says that a ring has no bytes");
        }
        return;
    }
    const std::uint32_t bytes = u32_of(payload, NLMMAP_A_RX_BYTES);
    const std::uint32_t before = endpoint.state.ring_bytes;
    if (bytes == 0 || (endpoint.state.known && before != 0 && before != bytes)) {
        wrong("SOCKET says that the ring has " + std::to_string(bytes) + " bytes, after " +
              std::to_string(before));
    }
    if (attributes_of(payload, 0, NLMMAP_A_GROUP_ID).size() > kGroupCount) {
        wrong("SOCKET tells more groups than there are");
    }
}

std::uint32_t Executor::members_of(unsigned group) {
    if (!rights_.sees_groups) {
        return 0;
    }
    Message message{.type = NLMMAP_MSG_GROUP_GET, .flags = NLM_F_REQUEST};
    message.attributes.push_back(
        {.type = NLMMAP_A_GROUP_ID, .value = {.kind = Value::Kind::group, .number = group}});
    const Bytes request = encode(message, 1, groups_, {});
    Bytes answer(4096);
    if (::send(observer_, request.data(), request.size(), 0) < 0) {
        wrong("asking for a group's members: " + std::string(strerrordesc_np(errno)));
        return 0;
    }
    const ssize_t got = recv(observer_, answer.data(), answer.size(), MSG_DONTWAIT);
    nlmsghdr header{};
    std::memcpy(&header, answer.data(), sizeof(header));
    if (got < static_cast<ssize_t>(sizeof(header)) || header.nlmsg_type != NLMMAP_MSG_GROUP) {
        wrong("asking for a group's members: no answer");
        return 0;
    }
    return u32_of(Bytes(answer.begin() + sizeof(header), answer.begin() + got), NLMMAP_A_MEMBERS);
}

void Executor::judge_members() {
    const std::array<unsigned, 2> watched = {kPublic, kLarge};
    for (std::size_t i = 0; i < watched.size(); ++i) {
        std::uint32_t joined = members_before_[i];
        for (const auto& endpoint : endpoints_) {
            if (endpoint->foreign) {
                continue;
            }
            // Of one whose answers were lost nobody knows, and of one that is closed none is left.
            if (!endpoint->state.known && endpoint->state.holders != 0) {
                return;
            }
            joined += endpoint->state.joined.contains(watched[i]) ? 1 : 0;
        }
        const std::uint32_t members = members_of(watched[i]);
        if (wrong_.empty() && members != joined) {
            wrong("group " + std::string(kGroups[watched[i]]) + " has " + std::to_string(members) +
                  " members, " + std::to_string(joined) + " sockets joined it");
        }
    }
}

}  // namespace fuzz
