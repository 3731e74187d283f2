// SPDX-License-Identifier: MIT
#include "tests/hostile/race.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <barrier>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "tests/guest/surroundings.h"

namespace hostile {
namespace {

// What the neighbour's reader may be behind, far less than its ring.
constexpr std::uint64_t kBehind = 4000;
constexpr std::uint64_t kEndless = 1'000'000'000;
constexpr std::uint64_t kPart = 32;

unsigned factor() {
    const char* text = std::getenv("NLMMAP_ATTACK_FACTOR");
    const int value = text != nullptr ? std::atoi(text) : 1;
    return value > 1 ? static_cast<unsigned>(value) : 1;
}

// Of the calling thread's together(), if it is in one.
thread_local const std::atomic<bool>* failed_together = nullptr;

guest::Order all_of(std::uint32_t group) { return {.group = group, .count = kEndless}; }

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// Whether an ordinary user whose limit is one smallest ring can have that: a ring
// is charged until it is freed.
bool nothing_is_charged() {
    Assault user(Attacker::user, [] {
        const guest::MemlockLimit one_ring(3 * page_bytes());
        guest::RawSocket socket;
        const guest::Outcome outcome = socket.setup(static_cast<std::uint32_t>(page_bytes()));
        if (outcome.error != 0) {
            throw std::runtime_error(outcome.sentence);
        }
    });
    return user.outcome().empty();
}

}  // namespace

Rounds::Rounds(std::uint64_t most, std::chrono::milliseconds time, std::uint64_t least)
    : most_(most * factor()),
      least_(least),
      end_(std::chrono::steady_clock::now() + time * factor()) {}

bool Rounds::more() {
    if (somebody_failed() || begun_ >= most_ ||
        (begun_ >= least_ && std::chrono::steady_clock::now() > end_)) {
        return false;
    }
    ++begun_;
    return true;
}

void together(int threads, const std::function<void(int)>& code) {
    std::barrier<> start(threads);
    std::atomic<bool> failed{false};
    std::mutex lock;
    std::exception_ptr thrown;
    std::vector<std::thread> running;
    running.reserve(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) {
        running.emplace_back([&, i] {
            failed_together = &failed;
            start.arrive_and_wait();
            bool returned = false;
            try {
                [&] {
                    ASSERT_NO_FATAL_FAILURE(code(i)) << "in thread " << i;
                    returned = true;
                }();
            } catch (...) {
                const std::lock_guard<std::mutex> guard(lock);
                thrown = thrown ? thrown : std::current_exception();
            }
            if (!returned) {
                failed = true;
            }
        });
    }
    for (std::thread& thread : running) {
        thread.join();
    }
    if (thrown) {
        std::rethrow_exception(thrown);
    }
}

bool somebody_failed() { return failed_together != nullptr && *failed_together; }

std::uint64_t Dice::next() {
    // splitmix64
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
}

Neighbour::Neighbour(std::string_view prefix)
    : name_(guest::unique_name(prefix)),
      group_(producer_.add_group(name_)),
      witness_(std::make_unique<Witness>(name_, all_of(group_))),
      thread_([this] { publish(); }) {}

Neighbour::~Neighbour() { stop(); }

void Neighbour::publish() {
    guest::Order part = all_of(group_);
    part.count = kPart;
    while (!stop_) {
        if (part.first_number > witness_->received() + kBehind) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            continue;
        }
        // What is filled in place and what is copied go different ways.
        part.in_place = !part.in_place;
        producer_.publish(part);
        part.first_number += kPart;
        published_ = part.first_number;
        // The attack is what the CPUs are for.
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
}

void Neighbour::stop() {
    stop_ = true;
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Neighbour::expect_unharmed() {
    stop();
    witness_->expect_all(published_);
    EXPECT_TRUE(guest::eventually([this] { return members_of(name_) == 1; }))
        << members_of(name_) << " rings are members of the group, and one should be: somebody who "
        << "is gone is still there";
    witness_.reset();
    EXPECT_EQ(members_of(name_), 0U);
}

std::uint32_t members_of(std::string_view group) {
    guest::RawSocket socket;
    const guest::Outcome outcome = socket.group(group);
    if (outcome.error != 0 || outcome.replies.empty()) {
        throw std::runtime_error("GROUP_GET failed: " + outcome.sentence);
    }
    return outcome.replies.front().get<std::uint32_t>(NLMMAP_A_MEMBERS).value();
}

std::size_t sockets_with_rings() {
    guest::RawSocket socket;
    const guest::Outcome outcome =
        socket.ask(guest::Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP));
    if (outcome.error != 0) {
        throw std::runtime_error("dump of the sockets failed: " + outcome.sentence);
    }
    return outcome.replies.size();
}

void expect_nothing_left(std::size_t sockets) {
    EXPECT_TRUE(guest::eventually([&] { return sockets_with_rings() == sockets; }))
        << sockets_with_rings() << " sockets have rings, and " << sockets << " should";
    EXPECT_TRUE(guest::eventually(nothing_is_charged))
        << "a user without any ring is still charged for one (RLIMIT_MEMLOCK)";
}

}  // namespace hostile
