// SPDX-License-Identifier: MIT
//
// A CPU goes offline and comes back again and again, while messages are published
// on it and readers are asleep whom it was to wake: no wake-up and no message is
// lost with it. The readers are an ordinary user's; to take a CPU away is root's.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/attacker.h"
#include "tests/hostile/race.h"

namespace hostile {
namespace {

using namespace std::chrono_literals;
using guest::Order;
using guest::Producer;
using guest::RawMember;

// The CPU that comes and goes; CPU 0 cannot go.
constexpr unsigned kCpu = 1;
constexpr auto kOnline = "/sys/devices/system/cpu/cpu1/online";

bool set_online(bool online) {
    std::ofstream file(kOnline);
    file << (online ? "1" : "0") << std::flush;
    return static_cast<bool>(file);
}

// Takes the CPU away and brings it back all the time. It is there at the end.
class Hotplug {
  public:
    Hotplug()
        : thread_([this] {
              Dice dice(1);
              while (!stop_) {
                  // EBUSY is the kernel's right, but it has to go sometimes.
                  times_ += set_online(false);
                  usleep(static_cast<useconds_t>(dice.below(3000)));
                  set_online(true);
                  usleep(static_cast<useconds_t>(dice.below(3000)));
              }
          }) {}
    Hotplug(const Hotplug&) = delete;
    Hotplug& operator=(const Hotplug&) = delete;
    ~Hotplug() { stop(); }
    // How often the CPU went.
    unsigned times() const { return times_; }
    void stop() {
        stop_ = true;
        if (thread_.joinable()) {
            thread_.join();
        }
        set_online(true);
    }

  private:
    std::atomic<bool> stop_{false};
    std::atomic<unsigned> times_{0};
    std::thread thread_;
};

// Reads one ring, asleep in one way whenever there is nothing, until the group
// is gone.
class Reader {
  public:
    Reader(const std::string& group, const Order& all, guest::Way way)
        : member_(group, 1 << 18),
          check_(all),
          sleeper_(guest::Sleeper::make(way, member_.socket.fd())),
          thread_([this] { read(); }) {}
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() { end(); }

    std::uint64_t received() const { return received_; }
    std::uint64_t missing() const { return check_.missing(); }
    bool failed() const { return failed_; }
    // Waits for the notice, and tells what went wrong, or "".
    std::string end() {
        if (thread_.joinable()) {
            thread_.join();
        }
        return wrong_;
    }

  private:
    void read() {
        try {
            bool ended = false;
            while (!ended) {
                if (!sleeper_->sleep(20s * patience())) {
                    throw std::runtime_error(member_.ring.readable()
                                                 ? "asleep, though the ring has messages"
                                                 : "nothing came, and nothing is in the ring");
                }
                while (const auto record = member_.ring.next()) {
                    ended = (record->header.flags & NLMMAP_RECORD_NOTICE) != 0;
                    if (!ended) {
                        check_.message(record->message());
                    }
                }
                member_.ring.release();
                received_ = check_.received();
            }
        } catch (const std::exception& error) {
            wrong_ = error.what();
            failed_ = true;
        }
    }

    RawMember member_;
    guest::Check check_;
    std::unique_ptr<guest::Sleeper> sleeper_;
    std::atomic<std::uint64_t> received_{0};
    std::atomic<bool> failed_{false};
    std::string wrong_;  // to be read when the thread has ended
    std::thread thread_;
};

// One message from one context. False if the CPU is not there for it.
bool publish_one(Producer& producer, Order order) {
    order.count = 1;
    order.cpu = order.context == NLMMAP_TEST_NMI ? 0 : kCpu;
    try {
        return producer.publish(order).accepted == 1;
    } catch (const std::system_error& error) {
        if (error.code().value() != EINVAL && error.code().value() != ENXIO) {
            throw;
        }
        return false;
    }
}

class CpuHotplug : public testing::Test {
  protected:
    CpuHotplug() {
        // Their threads are the user's, too.
        guest::as_user(guest::kSomebody, [this] {
            for (const guest::Way way : guest::all_ways()) {
                readers_.push_back(std::make_unique<Reader>(name_, all_, way));
            }
        });
    }
    void TearDown() override {
        set_online(true);
        if (!readers_.empty()) {
            // A case that failed half-way.
            producer_.remove_group(group_);
            readers_.clear();
        }
        expect_nothing_left(0);
    }
    // False if somebody does not get so many: he sleeps.
    bool everybody_has(std::uint64_t count) {
        return guest::eventually([&] {
            for (const auto& reader : readers_) {
                if (reader->received() < count) {
                    return reader->failed();
                }
            }
            return true;
        });
    }
    // The group's end ends the readers.
    void expect_everybody_got(std::uint64_t count) {
        EXPECT_TRUE(everybody_has(count));
        producer_.remove_group(group_);
        const std::vector<guest::Way> ways = guest::all_ways();
        for (std::size_t i = 0; i < readers_.size(); ++i) {
            EXPECT_EQ(readers_[i]->end(), "") << guest::name_of(ways[i]);
            EXPECT_EQ(readers_[i]->received(), count) << guest::name_of(ways[i]);
            EXPECT_EQ(readers_[i]->missing(), 0U) << guest::name_of(ways[i]);
        }
        readers_.clear();
    }

    const std::string name_ = guest::unique_name("hotplug");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
    const Order all_{.group = group_, .count = 1'000'000'000, .producers = 4};
    // More than the readers' rings.
    const guest::MemlockLimit limit_{4U << 20};
    std::vector<std::unique_ptr<Reader>> readers_;
};

// Each message finds everybody asleep, or on the way there.
TEST_F(CpuHotplug, LosesNoWakeUpWhateverTheReadersSleepInAndThePublisherRunsIn) {
    constexpr std::array<std::uint32_t, 7> kContexts = {
        NLMMAP_TEST_PROCESS, NLMMAP_TEST_KTHREAD,  NLMMAP_TEST_SOFTIRQ, NLMMAP_TEST_IRQ_WORK,
        NLMMAP_TEST_IPI,     NLMMAP_TEST_IRQS_OFF, NLMMAP_TEST_NMI};
    Order one = all_;
    one.producers = 1;
    unsigned refused = 0;
    Hotplug hotplug;
    Rounds rounds(1000, 1500ms, 20);
    while (rounds.more() && everybody_has(one.first_number)) {
        one.context = kContexts[rounds.begun() % kContexts.size()];
        one.in_place = rounds.begun() % 2 != 0;
        if (publish_one(producer_, one)) {
            ++one.first_number;
        } else {
            ++refused;
        }
    }
    hotplug.stop();
    EXPECT_GT(hotplug.times(), 0U) << "the CPU never went offline";
    EXPECT_LT(refused, rounds.begun() / 2) << "hardly anything was published";
    expect_everybody_got(one.first_number);
}

// Kernel threads that are bound to the CPU are moved off it and go on.
TEST_F(CpuHotplug, LosesNoMessageOfTheThreadsThatRanThere) {
    Order part = all_;
    part.count = 25;
    part.context = NLMMAP_TEST_KTHREAD;
    part.burst = 5;
    part.pause_us = 100;
    Hotplug hotplug;
    for (Rounds rounds(200, 700ms, 5); rounds.more();) {
        part.in_place = rounds.begun() % 2 != 0;
        // EINTR: the CPU went while the threads were made, and none has begun.
        const guest::Published published = producer_.publish(part);
        ASSERT_EQ(published.accepted, published.ended == 0 ? part.producers * part.count : 0U);
        if (published.ended == 0) {
            part.first_number += part.count;
        }
        ASSERT_TRUE(everybody_has(part.producers * part.first_number));
    }
    hotplug.stop();
    EXPECT_GT(hotplug.times(), 0U) << "the CPU never went offline";
    const std::uint64_t published = part.producers * part.first_number;
    guest::RawSocket socket;
    EXPECT_EQ(socket.group(name_).replies.at(0).get<std::uint64_t>(NLMMAP_A_PUBLISHED), published)
        << "counted by CPU: what one counted must not go with it";
    expect_everybody_got(published);
}

}  // namespace
}  // namespace hostile
