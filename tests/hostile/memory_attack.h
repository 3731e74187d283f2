// SPDX-License-Identifier: MIT
//
// What attacks on a ring's memory have in common: messages that flow to honest
// readers all the while, a ring of the attacker's own, and the books that have
// to be right when the attack is over.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/race.h"

namespace hostile {

constexpr std::size_t kPage = 4096;

// Two groups, one published by copying and one in place, with a witness each.
// The kernel publishes to them all the time; no faster than the witnesses read,
// so nothing may be lost.
class Flow {
  public:
    explicit Flow(guest::Producer& producer);
    Flow(const Flow&) = delete;
    Flow& operator=(const Flow&) = delete;
    ~Flow();

    // The groups' names: an attacker's ring joins them.
    const std::string& copied() const { return channels_[0]->name; }
    const std::string& in_place() const { return channels_[1]->name; }
    // What is published there, for a Check.
    const guest::Order& order(bool in_place) const { return channels_[in_place ? 1 : 0]->all; }

    // Waits until both groups got more, and the witnesses read it.
    void expect_more();
    // Both witnesses have everything up to now, byte for byte.
    void expect_all();

    static constexpr std::uint64_t kRingBytes = 1 << 18;
    // What the witnesses' rings are charged.
    static constexpr std::uint64_t kPages = 2 * (2 + kRingBytes / kPage);

  private:
    struct Channel {
        Channel(guest::Producer& producer, bool in_place);
        bool complete() const { return witness.received() >= numbers * all.producers; }
        std::string name;
        guest::Order all;  // numbers up to more than will ever be published
        Witness witness;
        std::uint64_t numbers = 0;
    };
    void run();

    guest::Producer& producer_;
    std::array<std::unique_ptr<Channel>, 2> channels_;
    std::mutex publishing_;  // held for a round
    std::atomic<std::uint64_t> rounds_{0};
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

// The base of a test's fixture. The test says attack_in_flow() for each attack;
// what must hold afterwards is looked at when the test is over.
class MemoryAttack : public Attack {
  public:
    static void SetUpTestSuite();
    static void TearDownTestSuite();

  protected:
    void SetUp() override;
    void TearDown() override;

    // attack(), while messages flow: before it, beside it and after it.
    void attack_in_flow(const std::function<void()>& code);

  private:
    struct Shared {
        guest::Producer producer;
        std::string still = guest::unique_name("still");
        std::uint32_t still_group = producer.add_group(still);
        Flow flow{producer};
    };
    static std::unique_ptr<Shared> shared_;

    std::set<std::uint64_t> sockets_;  // with rings, by inode
    long references_ = 0;              // to the module

  protected:
    guest::Producer& producer_ = shared_->producer;
    // A group to which nobody publishes but the attack itself.
    const std::string& still_ = shared_->still;
    const std::uint32_t still_group_ = shared_->still_group;
    Flow* const flow_ = &shared_->flow;
};

// A ring of the attacker's own, both parts mapped side by side: the kernel's page
// right behind the one that may be written.
class OwnRing {
  public:
    explicit OwnRing(std::uint32_t data_bytes);
    OwnRing(const OwnRing&) = delete;
    OwnRing& operator=(const OwnRing&) = delete;
    ~OwnRing();

    guest::RawSocket& socket() { return socket_; }
    int fd() const { return socket_.fd(); }
    std::byte* consumer() const { return base_; }
    std::byte* rest() const { return base_ + kPage; }
    std::byte* data() const { return base_ + 2 * kPage; }
    std::size_t data_bytes() const { return data_bytes_; }
    std::size_t rest_bytes() const { return kPage + 2 * data_bytes_; }
    nlmmap_consumer& consumer_words() const { return *reinterpret_cast<nlmmap_consumer*>(base_); }
    const nlmmap_producer& producer_words() const {
        return *reinterpret_cast<const nlmmap_producer*>(rest());
    }
    void join(const std::string& group);
    void unmap();
    // Maps again, at the same place, what was unmapped or replaced.
    void map();

    // What the kernel wrote, to be compared later: "" or what is different now.
    void remember();
    std::string changed() const;

  private:
    guest::RawSocket socket_;
    std::size_t data_bytes_;
    std::byte* base_ = nullptr;
    std::vector<std::byte> remembered_;
};

// Runs code that touches memory: the signal that it got (SIGSEGV, SIGBUS) and
// that ended the code, or 0. For code without destructors.
int signal_of(const std::function<void()>& code);

// What /proc/self/smaps says of the mappings.
struct Mapped {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::string rights;           // "rw-s"; "" if nothing is mapped there
    std::set<std::string> flags;  // VmFlags
};
std::vector<Mapped> mappings();
Mapped mapped_at(const void* address);

// "" or what a part of a ring that is still mapped may do that it must not:
// execution, and writing where the kernel writes, now or by a later mprotect(); being
// locked, growing, being merged; or what it lacks: no expansion, no dump, shared.
std::string rights_gained(const void* at, std::size_t bytes, bool writable);

// Checks that one user's locked memory is so many pages at most; exactly so many.
void expect_locked_at_most(unsigned uid, std::uint64_t pages);
void expect_locked(unsigned uid, std::uint64_t pages);

// Inodes of all sockets with rings in this network namespace.
std::set<std::uint64_t> inodes_with_rings();

// Uses of the module.
long module_references();

}  // namespace hostile
