// SPDX-License-Identifier: MIT
//
// Who attacks: root, an ordinary user, or the root of a user namespace that an
// ordinary user made. And a witness, who must not notice.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/surroundings.h"

namespace hostile {

enum class Attacker {
    root,            // all capabilities
    user,            // guest::kSomebody, without any capability, and never to get one
    user_namespace,  // guest::kSomebody outside, root with all capabilities in a user namespace of
                     // its own; the network namespace stays the one of the test
};

using guest::patience;

std::string name_of(Attacker attacker);
void PrintTo(Attacker attacker, std::ostream* out);  // NOLINT: GoogleTest looks for this name

// Makes the calling process that attacker, for good. The process must have one
// thread. Throws std::system_error.
void become(Attacker attacker);

// While it lives, the kernel does not log crashes, which a guest's log may not
// show: for crashes on purpose.
class QuietCrashes {
  public:
    QuietCrashes();
    QuietCrashes(const QuietCrashes&) = delete;
    QuietCrashes& operator=(const QuietCrashes&) = delete;
    ~QuietCrashes();

  private:
    std::string before_;
};

// An attack under way, in a child process in a session of its own.
//
// In the child, GoogleTest's failures (and skips), exceptions and an early exit
// are noted and told here by finish(). The child has no thread but the one that
// started it, so no lock that another thread of this process held may be wanted
// there: start attacks while nobody else reports failures.
class Assault {
  public:
    Assault(Attacker attacker, const std::function<void()>& code);
    Assault(Assault&& other) noexcept;
    Assault& operator=(Assault&&) = delete;
    // Kills what is left of it, the processes that it made included.
    ~Assault();

    pid_t pid() const { return pid_; }

    // Waits for its end. "" if the code returned and nothing failed in it; else
    // what went wrong. With a signal (see QuietCrashes): "" if this signal ended it.
    std::string outcome(int expected_signal = 0,
                        std::chrono::seconds limit = std::chrono::seconds(100 * patience()));
    // The same; what went wrong fails the calling test.
    void finish(int expected_signal = 0,
                std::chrono::seconds limit = std::chrono::seconds(100 * patience()));

  private:
    // What it has told of its failures since the last call.
    std::string told() const;

    Attacker attacker_;
    pid_t pid_ = -1;
    int told_ = -1;  // where the child's failures are read
};

// A test that each attacker runs:
//
//     class Forging : public hostile::Attack {};
//     INSTANTIATE_FOR_ALL_ATTACKERS(Forging);
//     TEST_P(Forging, HurtsNobodyElse) {
//         guest::Producer producer;                // the test stays root
//         ...
//         attack([&] { ... });                     // the child is the attacker
//     }
class Attack : public testing::TestWithParam<Attacker> {
  protected:
    // Whether the attacker has capabilities towards the test's own network namespace.
    static bool privileged() { return GetParam() == Attacker::root; }

    // Runs the code as the attacker, to its end.
    static void attack(const std::function<void()>& code) { start(code).finish(); }
    // The same, where the attack is its own end.
    static void attack_ending_by(int signal, const std::function<void()>& code) {
        const QuietCrashes quiet;
        start(code).finish(signal);
    }
    // Runs it beside the test.
    [[nodiscard]] static Assault start(const std::function<void()>& code) {
        return {GetParam(), code};
    }
};

#define INSTANTIATE_FOR_ALL_ATTACKERS(Suite)                                                   \
    INSTANTIATE_TEST_SUITE_P(, Suite,                                                          \
                             testing::Values(hostile::Attacker::root, hostile::Attacker::user, \
                                             hostile::Attacker::user_namespace),               \
                             [](const testing::TestParamInfo<hostile::Attacker>& attacker) {   \
                                 return hostile::name_of(attacker.param);                      \
                             })

// Sockets with rings of this size until one is refused, or there are so many.
// Fails the calling test if the refusal is not ENOMEM.
std::vector<guest::RawSocket> as_many_as_possible(std::uint32_t ring_bytes, std::size_t at_most);

// A parameter of the module while it lives.
class Parameter {
  public:
    Parameter(const std::string& name, unsigned value);
    Parameter(const Parameter&) = delete;
    Parameter& operator=(const Parameter&) = delete;
    ~Parameter();

  private:
    std::string path_;
    unsigned before_ = 0;
};

// An honest reader: a ring of its own and a thread that reads it, checks every
// byte, and sleeps in poll() when there is nothing. Made before the attack; what
// it is to see is published to its group by one order, in as many parts as one likes
// (the order's count is the number of all messages).
class Witness {
  public:
    Witness(std::string_view group, const guest::Order& all, std::uint32_t ring_bytes = 1U << 20);
    Witness(const Witness&) = delete;
    Witness& operator=(const Witness&) = delete;
    ~Witness();

    std::uint64_t received() const { return received_.load(); }
    // Waits until it has as many messages as that, and fails the calling test if
    // they do not come, if one of them is not as it was published, or any was lost.
    void expect_all(std::uint64_t messages);

  private:
    void read();

    guest::RawMember member_;
    guest::Check check_;
    std::atomic<std::uint64_t> received_{0};
    std::atomic<std::uint64_t> missing_{0};
    std::atomic<bool> stop_{false};
    std::atomic<bool> failed_{false};
    std::string wrong_;  // set before failed_
    std::thread thread_;
};

}  // namespace hostile
