// SPDX-License-Identifier: MIT
// One netlink request and its answers. Internal to the library.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct nl_msg;
struct nl_sock;
struct nlmsghdr;

namespace nlmmap {

// What the kernel answered to a request: 0, or an errno and its sentence.
struct Verdict {
    int errnum = 0;
    std::string sentence;
};

class Request {
  public:
    // `flags` besides NLM_F_REQUEST. Throws Error ENOMEM.
    Request(std::string operation, std::uint16_t type, int flags = 0);

    Request& put_u32(int attribute, std::uint32_t value);
    Request& put_string(int attribute, std::string_view text);

    // Sends, and passes every answer of `answer_type` on. A dump that the kernel calls inconsistent
    // is asked for again: `restart` is called before. Throws Error where sending or receiving
    // failed, and what `answer` throws; a refusal is returned.
    using Answer = std::function<void(nlmsghdr*)>;
    [[nodiscard]] Verdict run(nl_sock* socket, int answer_type = 0, const Answer& answer = {},
                              const std::function<void()>& restart = {});

    [[nodiscard]] const std::string& operation() const noexcept { return operation_; }

  private:
    struct Free {
        void operator()(nl_msg* message) const noexcept;
    };
    [[noreturn]] void fail(int errnum, const char* what) const;

    std::string operation_;
    std::unique_ptr<nl_msg, Free> message_;
};

// The sentence in the extended acknowledgement after a struct nlmsgerr; empty if there is none.
// `acknowledgement` is the whole NLMSG_ERROR message.
[[nodiscard]] std::string extended_ack_sentence(nlmsghdr* acknowledgement);

}  // namespace nlmmap
