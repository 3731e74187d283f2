// SPDX-License-Identifier: MIT
//
// What races have in common: threads that begin together, a bound on count and
// time, a neighbour who must not notice, and what must be gone at the end.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/hostile/attacker.h"

namespace hostile {

// The rounds of an attack: at most so many, and no more once the time is over, so
// that a slow kernel has fewer. Never fewer than `least`, unless somebody_failed().
// The time is multiplied by NLMMAP_ATTACK_FACTOR from the environment, and then the
// count is, too.
//
//     for (Rounds rounds(500, 300ms); rounds.more();) {
class Rounds {
  public:
    Rounds(std::uint64_t most, std::chrono::milliseconds time, std::uint64_t least = 3);
    bool more();
    std::uint64_t begun() const { return begun_; }

  private:
    std::uint64_t most_;
    std::uint64_t least_;
    std::uint64_t begun_ = 0;
    std::chrono::steady_clock::time_point end_;
};

// Runs code(0) to code(threads - 1) in threads that begin at the same moment.
// Rethrows the first of their exceptions when all have ended. After an exception or
// a fatal failure in one of them the others' Rounds have no more; a loop that waits
// for another thread, or has no end, has to ask somebody_failed() each time.
void together(int threads, const std::function<void(int)>& code);

// In a thread of together(): whether one of them threw or failed fatally. False elsewhere.
bool somebody_failed();

// Pseudorandom, one for each thread.
class Dice {
  public:
    explicit Dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
    std::uint64_t next();
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }

  private:
    std::uint64_t state_;
};

// A group to which messages are published all the time, as fast as its one
// honest reader reads; others may join.
class Neighbour {
  public:
    explicit Neighbour(std::string_view prefix);
    Neighbour(const Neighbour&) = delete;
    Neighbour& operator=(const Neighbour&) = delete;
    ~Neighbour();

    const std::string& name() const { return name_; }
    std::uint32_t group() const { return group_; }
    guest::Producer& producer() { return producer_; }

    // Publishes no more, and fails the calling test if the reader missed anything
    // of what was, or if anybody else is still a member of the group.
    void expect_unharmed();

  private:
    void publish();
    void stop();

    std::string name_;
    guest::Producer producer_;
    std::uint32_t group_;
    std::unique_ptr<Witness> witness_;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> published_{0};
    std::thread thread_;
};

// The rings that are members of a group, as the kernel says.
std::uint32_t members_of(std::string_view group);

// The sockets with rings in this network namespace, as the kernel says.
std::size_t sockets_with_rings();

// Fails the calling test unless, in a moment, so many sockets have rings and
// nothing is charged to guest::kSomebody any more.
void expect_nothing_left(std::size_t sockets);

}  // namespace hostile
