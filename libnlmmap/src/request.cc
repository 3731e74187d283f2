// SPDX-License-Identifier: MIT
#include "request.hpp"

#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlmmap/error.hpp>
#include <utility>

namespace nlmmap {

namespace {

// A dump that changes under the kernel's hands is asked for again this often.
constexpr int kDumpTries = 32;

std::string sentence_in(nlattr* attributes, int bytes) {
    std::array<nla_policy, NLMSGERR_ATTR_MAX + 1> policy{};
    policy.at(NLMSGERR_ATTR_MSG).type = NLA_STRING;
    std::array<nlattr*, NLMSGERR_ATTR_MAX + 1> found{};
    if (nla_parse(found.data(), NLMSGERR_ATTR_MAX, attributes, bytes, policy.data()) < 0) return {};
    const nlattr* sentence = found.at(NLMSGERR_ATTR_MSG);
    if (sentence == nullptr) return {};
    const auto* text = static_cast<const char*>(nla_data(sentence));
    return {text, ::strnlen(text, static_cast<std::size_t>(nla_len(sentence)))};
}

// What the callbacks gather while libnl receives.
struct Receipt {
    std::uint32_t seq;
    int answer_type;
    const Request::Answer& answer;
    Verdict verdict;
    bool done = false;
    bool interrupted = false;
    std::exception_ptr thrown;  // must not fly through libnl's frames
};

// Anything but the kernel's answer to this very request: late answers to an earlier one that was
// given up, messages of a group, messages of other processes.
int on_seq_check(nl_msg* message, void* argument) {
    const auto& receipt = *static_cast<Receipt*>(argument);
    return nlmsg_hdr(message)->nlmsg_seq == receipt.seq && nlmsg_get_src(message)->nl_pid == 0
               ? NL_OK
               : NL_SKIP;
}

int on_valid(nl_msg* message, void* argument) {
    auto& receipt = *static_cast<Receipt*>(argument);
    nlmsghdr* header = nlmsg_hdr(message);
    if (header->nlmsg_type != receipt.answer_type || receipt.thrown) return NL_OK;
    try {
        receipt.answer(header);
    } catch (...) {
        receipt.thrown = std::current_exception();
    }
    return NL_OK;
}

int on_ack(nl_msg* /*message*/, void* argument) {
    static_cast<Receipt*>(argument)->done = true;
    return NL_STOP;
}

int on_error(sockaddr_nl* /*sender*/, nlmsgerr* error, void* argument) {
    auto& receipt = *static_cast<Receipt*>(argument);
    receipt.verdict.errnum = -error->error;
    try {
        receipt.verdict.sentence = extended_ack_sentence(
            reinterpret_cast<nlmsghdr*>(reinterpret_cast<char*>(error) - NLMSG_HDRLEN));
    } catch (...) {
        receipt.thrown = std::current_exception();
    }
    receipt.done = true;
    return NL_STOP;
}

// The end of a dump carries the dump's own error, and its sentence.
int on_finish(nl_msg* message, void* argument) {
    auto& receipt = *static_cast<Receipt*>(argument);
    receipt.done = true;
    nlmsghdr* header = nlmsg_hdr(message);
    int error = 0;
    if (nlmsg_datalen(header) < static_cast<int>(sizeof(error))) return NL_STOP;
    std::memcpy(&error, nlmsg_data(header), sizeof(error));
    if (error >= 0) return NL_STOP;
    receipt.verdict.errnum = -error;
    try {
        if ((header->nlmsg_flags & NLM_F_ACK_TLVS) != 0)
            receipt.verdict.sentence = sentence_in(nlmsg_attrdata(header, sizeof(error)),
                                                   nlmsg_attrlen(header, sizeof(error)));
    } catch (...) {
        receipt.thrown = std::current_exception();
    }
    return NL_STOP;
}

int on_interrupted(nl_msg* /*message*/, void* argument) {
    static_cast<Receipt*>(argument)->interrupted = true;
    return NL_OK;
}

struct FreeCallbacks {
    void operator()(nl_cb* callbacks) const noexcept { nl_cb_put(callbacks); }
};

}  // namespace

std::string extended_ack_sentence(nlmsghdr* acknowledgement) {
    if ((acknowledgement->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
    std::size_t fixed = sizeof(nlmsgerr);
    if (acknowledgement->nlmsg_len < NLMSG_LENGTH(fixed)) return {};
    // Unless capped, the attributes come after the whole request that failed.
    const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(acknowledgement));
    if ((acknowledgement->nlmsg_flags & NLM_F_CAPPED) == 0) {
        if (error->msg.nlmsg_len < NLMSG_HDRLEN) return {};
        fixed += error->msg.nlmsg_len - NLMSG_HDRLEN;
    }
    // Not NLMSG_ALIGN(), which is made of 32 bits.
    const std::size_t aligned = (fixed + NLMSG_ALIGNTO - 1) / NLMSG_ALIGNTO * NLMSG_ALIGNTO;
    if (acknowledgement->nlmsg_len < NLMSG_HDRLEN + aligned) return {};
    return sentence_in(nlmsg_attrdata(acknowledgement, static_cast<int>(fixed)),
                       nlmsg_attrlen(acknowledgement, static_cast<int>(fixed)));
}

void Request::Free::operator()(nl_msg* message) const noexcept { nlmsg_free(message); }

void Request::fail(int errnum, const char* what) const {
    throw Error(errnum != 0 ? errnum : EIO, operation_ + ": " + what);
}

Request::Request(std::string operation, std::uint16_t type, int flags)
    : operation_(std::move(operation)), message_(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)) {
    if (!message_) fail(ENOMEM, "make the request");
}

Request& Request::put_u32(int attribute, std::uint32_t value) {
    if (nla_put_u32(message_.get(), attribute, value) < 0) fail(ENOMEM, "make the request");
    return *this;
}

Request& Request::put_string(int attribute, std::string_view text) {
    if (nla_put_string(message_.get(), attribute, std::string(text).c_str()) < 0)
        fail(ENOMEM, "make the request");
    return *this;
}

Verdict Request::run(nl_sock* socket, int answer_type, const Answer& answer,
                     const std::function<void()>& restart) {
    const std::unique_ptr<nl_cb, FreeCallbacks> callbacks(nl_cb_alloc(NL_CB_CUSTOM));
    if (!callbacks) fail(ENOMEM, "allocate callbacks");

    for (int tries = 0; tries < kDumpTries; ++tries) {
        // A number and the socket's port each time; NLM_F_ACK, which a dump ignores.
        nlmsg_hdr(message_.get())->nlmsg_seq = NL_AUTO_SEQ;
        nl_complete_msg(socket, message_.get());
        errno = 0;
        if (nl_send(socket, message_.get()) < 0) fail(errno, "send the request");

        Receipt receipt{
            .seq = nlmsg_hdr(message_.get())->nlmsg_seq,
            .answer_type = answer_type,
            .answer = answer,
            .verdict = {},
            .thrown = {},
        };
        nl_cb_set(callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_seq_check, &receipt);
        nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &receipt);
        nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_ack, &receipt);
        nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_finish, &receipt);
        nl_cb_set(callbacks.get(), NL_CB_DUMP_INTR, NL_CB_CUSTOM, on_interrupted, &receipt);
        nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &receipt);
        while (!receipt.done) {
            errno = 0;
            const int result = nl_recvmsgs(socket, callbacks.get());
            if (result < 0 && !receipt.done) fail(errno, nl_geterror(result));
        }
        if (receipt.thrown) std::rethrow_exception(receipt.thrown);
        if (!receipt.interrupted || receipt.verdict.errnum != 0) return receipt.verdict;
        if (restart) restart();
    }
    throw Error(EAGAIN, operation_, {}, "it kept changing while the kernel listed it");
}

}  // namespace nlmmap
