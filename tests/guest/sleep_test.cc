// SPDX-License-Identifier: MIT
//
// A reader that sleeps is woken and misses nothing; one that is awake is left
// alone.
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"

namespace guest {
namespace {

using nlmmap::Receiver;
using nlmmap::Record;
using nlmmap::Wait;

constexpr std::uint32_t kPage = 4096;
constexpr std::chrono::seconds kForEver{30};

void read_all(RawRing& ring, Check& check) {
    while (const auto record = ring.next()) {
        check.message(record->message());
    }
    ring.release();
}

// A thread that is asleep in poll() on a descriptor, for these events.
class Asleep {
  public:
    Asleep(int fd, short events)
        : woken_(std::async(std::launch::async, [this, fd, events] {
              pollfd ready{.fd = fd, .events = events, .revents = 0};
              tid_ = gettid();
              const int count = poll(&ready, 1, 30'000);
              return count > 0 ? ready.revents : short{0};
          })) {
        EXPECT_TRUE(eventually([this] { return tid_ != 0 && is_asleep(); }));
    }
    bool is_awake() {
        return woken_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    }
    // The events that ended its sleep, 0 if nothing did.
    short woken_by() { return woken_.get(); }

  private:
    bool is_asleep() const {
        const std::string path = "/proc/self/task/" + std::to_string(tid_) + "/stat";
        FILE* file = fopen(path.c_str(), "r");
        char state = '?';
        const bool read = file != nullptr && fscanf(file, "%*d %*s %c", &state) == 1;
        if (file != nullptr) {
            fclose(file);
        }
        return read && state == 'S';
    }
    std::atomic<pid_t> tid_{0};
    std::future<short> woken_;
};

class Sleeping : public testing::TestWithParam<Way> {
  protected:
    Producer producer_;
};

INSTANTIATE_TEST_SUITE_P(Guest, Sleeping, testing::ValuesIn(all_ways()),
                         [](const auto& way) { return name_of(way.param); });

// The producer goes on as soon as the reader has read: again and again it
// publishes just when the reader goes to sleep.
TEST_P(Sleeping, ReaderIsWokenForEachMessage) {
    const std::string name = unique_name("pingpong");
    Order order{.group = producer_.add_group(name), .count = 150};
    RawMember member(name);
    auto sleeper = Sleeper::make(GetParam(), member.socket.fd());
    std::atomic<std::uint64_t> read{0};
    auto reader = std::async(std::launch::async, [&] {
        Check check(order);
        while (check.received() < order.count) {
            while (!member.ring.readable()) {
                if (!sleeper->sleep(kForEver)) {
                    ADD_FAILURE() << "slept through message " << check.received()
                                  << (member.ring.readable() ? ", which is in the ring"
                                                             : ", which never came");
                    read = order.count;
                    read.notify_one();
                    return;
                }
            }
            read_all(member.ring, check);
            read = check.received();
            read.notify_one();
        }
    });
    for (std::uint64_t i = 0; i < order.count; ++i) {
        producer_.publish({.group = order.group, .first_number = i});
        read.wait(i);
    }
    reader.get();
    EXPECT_EQ(member.ring.lost(), 0U);
}

TEST_P(Sleeping, ReaderOfFourProducersHearsEverything) {
    const std::string name = unique_name("paced");
    const Order order{.group = producer_.add_group(name),
                      .count = 300,
                      .context = NLMMAP_TEST_KTHREAD,
                      .producers = 4,
                      .burst = 5,
                      .pause_us = 150};
    RawMember member(name, 1 << 20);
    auto sleeper = Sleeper::make(GetParam(), member.socket.fd());
    auto published = producer_.start(order);
    Check check(order);
    while (check.received() < order.count * order.producers) {
        ASSERT_TRUE(member.ring.readable() || sleeper->sleep(kForEver))
            << "slept for ever after " << check.received() << " messages; the ring "
            << (member.ring.readable() ? "is" : "is not") << " readable";
        read_all(member.ring, check);
    }
    published.get();
    EXPECT_EQ(check.missing(), 0U);
}

TEST_P(Sleeping, ReaderUnderItsWatermarkIsToldOfALoss) {
    const std::string name = unique_name("underwater");
    const std::uint32_t group = producer_.add_group(name);
    RawMember member(name);
    member.ring.set_watermark(kPage);
    auto sleeper = Sleeper::make(GetParam(), member.socket.fd());
    ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1))) << "nothing happened yet";
    auto woken = std::async(std::launch::async, [&] { return sleeper->sleep(kForEver); });
    producer_.publish({.group = group});  // Under the watermark: 88 bytes.
    // A message that does not fit its room is lost although the ring has room.
    producer_.publish({.group = group, .min_bytes = 100, .in_place = true, .room_bytes = 60});
    EXPECT_TRUE(woken.get()) << "a reader under its watermark slept through a loss";
    EXPECT_EQ(member.ring.lost(), 1U);
}

TEST_P(Sleeping, ReaderUnderItsWatermarkIsToldOfALossThatCameBeforeItWaited) {
    const std::string name = unique_name("before");
    const std::uint32_t group = producer_.add_group(name);
    RawMember member(name);
    member.ring.set_watermark(kPage);
    producer_.publish({.group = group});
    producer_.publish({.group = group, .min_bytes = 100, .in_place = true, .room_bytes = 60});
    auto sleeper = Sleeper::make(GetParam(), member.socket.fd());
    EXPECT_TRUE(sleeper->sleep(std::chrono::milliseconds(3000)))
        << "whoever asks after a loss has to be told, too";
}

TEST_P(Sleeping, ReaderUnderItsWatermarkIsToldThatAGroupIsGone) {
    const std::string name = unique_name("goodbye");
    const std::uint32_t group = producer_.add_group(name);
    RawMember member(name);
    member.ring.set_watermark(kPage);
    auto sleeper = Sleeper::make(GetParam(), member.socket.fd());
    ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1)));
    auto woken = std::async(std::launch::async, [&] { return sleeper->sleep(kForEver); });
    producer_.remove_group(group);
    EXPECT_TRUE(woken.get());
    const auto record = member.ring.next();
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->message()->nlmsg_type, NLMMAP_MSG_GROUP_DELETED);
}

// An event loop may know the descriptor before the ring is set up.
TEST_P(Sleeping, ReaderThatWaitedBeforeTheSetupIsWoken) {
    const std::string name = unique_name("early");
    const std::uint32_t group = producer_.add_group(name);
    RawSocket socket;
    auto sleeper = Sleeper::make(GetParam(), socket.fd());
    ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1)));
    auto reader = std::async(std::launch::async, [&]() -> std::string {
        // The answers to SETUP and JOIN wake it too; the ring is what it waits for.
        while (poll_now(socket.fd(), POLLRDBAND) == 0) {
            if (!sleeper->sleep(kForEver)) {
                return "slept through a message";
            }
        }
        return "";
    });
    ASSERT_TRUE(succeeded(socket.setup(kPage)));
    ASSERT_TRUE(succeeded(socket.join(name)));
    producer_.publish({.group = group});
    EXPECT_EQ(reader.get(), "");
}

class Waking : public testing::Test {
  protected:
    std::uint64_t wakeups(RawMember& member) { return counter(member.socket, NLMMAP_A_WAKEUPS); }
    const std::string name_ = unique_name("waking");
    Producer producer_;
    const std::uint32_t group_ = producer_.add_group(name_);
};

TEST_F(Waking, RousesEveryThreadThatSleepsOnTheSocket) {
    RawMember member(name_);
    Asleep first(member.socket.fd(), POLLIN);
    Asleep second(member.socket.fd(), POLLRDBAND);
    Asleep third(member.socket.fd(), POLLIN | POLLRDNORM | POLLRDBAND);
    producer_.publish({.group = group_});
    EXPECT_EQ(first.woken_by(), POLLIN);
    EXPECT_EQ(second.woken_by(), POLLRDBAND);
    EXPECT_EQ(third.woken_by(), POLLIN | POLLRDBAND) << "POLLRDNORM is the ordinary queue's";
}

// An exclusive wake-up would go to the thread in recv(), which has no use for it.
TEST_F(Waking, IsNotEatenByAThreadThatWaitsForAnAnswer) {
    RawMember member(name_);
    auto answer = std::async(std::launch::async, [&] {
        Bytes bytes(4096);
        return recv(member.socket.fd(), bytes.data(), bytes.size(), 0);
    });
    for (int i = 0; i < 20; ++i) {
        Asleep sleeper(member.socket.fd(), POLLRDBAND);
        producer_.publish({.group = group_});
        EXPECT_EQ(sleeper.woken_by(), POLLRDBAND);
        while (member.ring.next()) {
        }
        member.ring.release();
    }
    EXPECT_EQ(answer.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
        << "recv() must read the ordinary queue, never the ring";
    Request request(NLMMAP_MSG_SOCKET_GET);
    ASSERT_GT(send(member.socket.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
    EXPECT_GT(answer.get(), 0);
}

TEST_F(Waking, LeavesAnAwakeReaderInAnEpollSetAlone) {
    RawMember member(name_);
    auto sleeper = Sleeper::make(Way::epoll_level, member.socket.fd());
    ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1)));
    for (std::uint64_t round = 1; round <= 5; ++round) {
        producer_.publish({.group = group_, .count = 300});
        EXPECT_EQ(wakeups(member), round) << "once for the first message, not for each";
        ASSERT_TRUE(sleeper->sleep(kForEver));
        while (member.ring.next()) {
        }
        member.ring.release();
        ASSERT_FALSE(sleeper->sleep(std::chrono::milliseconds(1)));
    }
}

TEST_F(Waking, WakesNobodyBelowTheWatermark) {
    RawMember member(name_);
    // The first record after the set-up wakes whoever polls since before it.
    producer_.publish({.group = group_});
    ASSERT_TRUE(member.ring.next().has_value());
    member.ring.release();
    const std::uint64_t before = wakeups(member);
    member.ring.set_watermark(10 * 88);
    // Not POLLIN, which the answer to wakeups() is, too.
    Asleep sleeper(member.socket.fd(), POLLRDBAND);
    producer_.publish({.group = group_, .count = 9});
    EXPECT_EQ(wakeups(member), before);
    EXPECT_FALSE(sleeper.is_awake());
    producer_.publish({.group = group_, .count = 1});
    EXPECT_EQ(sleeper.woken_by(), POLLRDBAND);
    EXPECT_EQ(wakeups(member), before + 1);
    EXPECT_EQ(poll_now(member.socket.fd(), POLLIN), POLLIN);
    while (member.ring.next()) {
    }
    member.ring.release();
    producer_.publish({.group = group_, .count = 9});
    EXPECT_EQ(poll_now(member.socket.fd(), POLLIN), 0);
}

TEST_F(Waking, TakesAWatermarkOfMoreThanHalfTheRingForHalf) {
    RawMember member(name_, kPage);
    member.ring.set_watermark(0xffffffff);
    Asleep sleeper(member.socket.fd(), POLLIN);
    producer_.publish({.group = group_, .count = 1 + kPage / 2 / 88});
    EXPECT_EQ(sleeper.woken_by(), POLLIN);
}

TEST_F(Waking, FollowsTheLowestWatermarkOfSeveralSleepers) {
    RawMember member(name_);
    member.ring.set_watermark(100 * 88);
    Asleep patient(member.socket.fd(), POLLIN);
    member.ring.set_watermark(1);
    Asleep eager(member.socket.fd(), POLLIN);
    producer_.publish({.group = group_});
    EXPECT_EQ(eager.woken_by(), POLLIN);
    EXPECT_EQ(patient.woken_by(), POLLIN) << "it asks again, and the watermark is 1 now";
}

TEST_F(Waking, KeepsTheRingAndTheOrdinaryQueueApart) {
    RawMember member(name_);
    const int fd = member.socket.fd();
    constexpr short all = POLLIN | POLLRDNORM | POLLRDBAND;
    EXPECT_EQ(poll_now(fd, all), 0);

    // An acknowledgement that nobody reads.
    Request request(NLMMAP_MSG_SOCKET_GET);
    ASSERT_GT(send(fd, request.bytes().data(), request.bytes().size(), 0), 0);
    EXPECT_EQ(poll_now(fd, all), POLLIN | POLLRDNORM);
    EXPECT_EQ(poll_now(fd, POLLRDBAND), 0) << "who waits for the ring alone would spin";

    Asleep ring_reader(fd, POLLRDBAND);
    producer_.publish({.group = group_});
    EXPECT_EQ(ring_reader.woken_by(), POLLRDBAND);
    EXPECT_EQ(poll_now(fd, all), all);

    ASSERT_TRUE(succeeded(member.socket.answer()));
    EXPECT_EQ(poll_now(fd, all), POLLIN | POLLRDBAND);
    while (member.ring.next()) {
    }
    member.ring.release();
    EXPECT_EQ(poll_now(fd, all), 0);
    EXPECT_EQ(poll_now(fd, POLLOUT), POLLOUT) << "a request can be sent";
}

TEST_F(Waking, FindsALossReadableUntilTheReaderSawIt) {
    RawMember member(name_);
    const int fd = member.socket.fd();
    member.ring.set_watermark(kPage);
    for (int round = 0; round < 3; ++round) {
        producer_.publish({.group = group_, .min_bytes = 100, .in_place = true, .room_bytes = 60});
        EXPECT_EQ(poll_now(fd, POLLIN), POLLIN);
        EXPECT_EQ(poll_now(fd, POLLIN), POLLIN) << "asking once more must not hide it";
        member.ring.see_losses();
        EXPECT_EQ(poll_now(fd, POLLIN), 0) << "a reader that knows must be able to sleep";
    }
    // A reader that knows of no lost_seen, but reads.
    producer_.publish({.group = group_});
    producer_.publish({.group = group_, .min_bytes = 100, .in_place = true, .room_bytes = 60});
    EXPECT_EQ(poll_now(fd, POLLIN), POLLIN);
    ASSERT_TRUE(member.ring.next().has_value());
    member.ring.forge(member.ring.position());
    EXPECT_EQ(poll_now(fd, POLLIN), 0);
}

// Two sets, each of which has to hear of a loss: what one is told is no secret
// from the other.
TEST_F(Waking, TellsALossToEveryoneWhoSleeps) {
    RawMember member(name_);
    member.ring.set_watermark(kPage);
    Asleep first(member.socket.fd(), POLLIN);
    Asleep second(member.socket.fd(), POLLIN);
    producer_.publish({.group = group_, .min_bytes = 100, .in_place = true, .room_bytes = 60});
    EXPECT_EQ(first.woken_by(), POLLIN);
    EXPECT_EQ(second.woken_by(), POLLIN);
}

TEST(ReceiverInAnEventLoop, IsArmedBeforeEachSleepWhereEdgesCount) {
    Producer producer;
    const std::string name = unique_name("loop");
    const Order order{.group = producer.add_group(name),
                      .count = 400,
                      .context = NLMMAP_TEST_KTHREAD,
                      .producers = 2,
                      .burst = 3,
                      .pause_us = 100};
    Receiver receiver = Receiver::join(name);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLRDBAND | EPOLLET;
    ASSERT_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, receiver.fd(), &event), 0);
    auto published = producer.start(order);
    Check check(order);
    while (check.received() < order.count * order.producers) {
        for (const Record& record : receiver.read()) {
            for (const nlmmap::Message& message : record) {
                check.message(message.get());
            }
        }
        if (check.received() == order.count * order.producers || receiver.arm()) {
            continue;
        }
        ASSERT_EQ(epoll_wait(epoll, &event, 1, 30'000), 1) << "an edge was missed";
    }
    published.get();
    close(epoll);
}

TEST(ReceiverWait, SaysWhyItReturned) {
    Producer producer;
    const std::string name = unique_name("why");
    const std::uint32_t group = producer.add_group(name);
    Receiver receiver = Receiver::join(name);
    EXPECT_EQ(receiver.wait(std::chrono::nanoseconds(0)), Wait::timed_out);
    EXPECT_EQ(receiver.wait(std::chrono::milliseconds(2)), Wait::timed_out);
    producer.publish({.group = group});
    EXPECT_EQ(receiver.wait(), Wait::readable);
    for (const Record& record : receiver.read()) {
        EXPECT_EQ(record.seq(), 1U);
    }

    struct sigaction action{};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);
    const pthread_t self = pthread_self();
    std::atomic<bool> done{false};
    std::thread interrupter([&] {
        while (!done) {
            pthread_kill(self, SIGUSR1);
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    });
    EXPECT_EQ(receiver.wait(kForEver), Wait::interrupted);
    done = true;
    interrupter.join();

    auto woken = std::async(std::launch::async, [&] { return receiver.wait(kForEver); });
    producer.remove_group(group);
    EXPECT_EQ(woken.get(), Wait::readable) << "the notice is in the ring";
    int notices = 0;
    for (const Record& record : receiver.read()) {
        EXPECT_TRUE(record.is_notice());
        EXPECT_EQ(record.group(), group);
        ++notices;
    }
    EXPECT_EQ(notices, 1);
    EXPECT_EQ(receiver.wait(kForEver), Wait::group_gone);
}

TEST(ReceiverWait, IsNotWokenByAnUnreadAnswerAndWakesForTheRing) {
    Producer producer;
    const std::string name = unique_name("spin");
    const std::uint32_t group = producer.add_group(name);
    Receiver receiver = Receiver::join(name);
    Request request(NLMMAP_MSG_SOCKET_GET);
    ASSERT_GT(send(receiver.fd(), request.bytes().data(), request.bytes().size(), 0), 0);
    EXPECT_EQ(receiver.wait(std::chrono::milliseconds(2)), Wait::timed_out);
    auto woken = std::async(std::launch::async, [&] { return receiver.wait(kForEver); });
    producer.publish({.group = group});
    EXPECT_EQ(woken.get(), Wait::readable);
}

TEST(ReceiverWait, HearsEverythingOfFourProducers) {
    Producer producer;
    const std::string name = unique_name("wait");
    const Order order{.group = producer.add_group(name),
                      .count = 1000,
                      .context = NLMMAP_TEST_KTHREAD,
                      .producers = 4,
                      .burst = 3,
                      .pause_us = 100};
    Receiver receiver = Receiver::join(name, {.watermark_bytes = 500});
    auto published = producer.start(order);
    Check check(order);
    int silent = 0;
    while (check.received() < order.count * order.producers && silent < 150) {
        // What stays under the watermark at the end is seen by the time-out.
        silent = receiver.wait(std::chrono::milliseconds(200)) == Wait::readable ? 0 : silent + 1;
        for (const Record& record : receiver.read()) {
            for (const nlmmap::Message& message : record) {
                check.message(message.get());
            }
        }
    }
    published.get();
    EXPECT_EQ(check.received(), order.count * order.producers);
    EXPECT_EQ(check.missing(), 0U);
}

}  // namespace
}  // namespace guest
