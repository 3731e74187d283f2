// SPDX-License-Identifier: MIT
#include "tests/hostile/memory_attack.h"

#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "tests/guest/surroundings.h"

namespace hostile {
namespace {

using guest::eventually;

constexpr std::uint64_t kPart = 24;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

guest::Order order_of(std::uint32_t group, bool in_place) {
    return {.group = group,
            .count = std::uint64_t{1} << 40,
            .min_bytes = 8,
            .max_bytes = 300,
            .in_place = in_place,
            .context = in_place ? NLMMAP_TEST_PROCESS : NLMMAP_TEST_KTHREAD,
            .producers = in_place ? 1U : 2U};
}

void drop_thread_capabilities() {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (syscall(SYS_capset, &header, none.data()) != 0) {
        fail("capset");
    }
}

// Whether a ring of one page, which is charged for three, fits beside what a user
// has already. What others than rings charge is given back late.
void expect_room(unsigned uid, std::uint64_t pages, bool room) {
    const guest::MemlockLimit limit((pages + (room ? 3 : 2)) * kPage);
    guest::as_user(uid, [&] {
        drop_thread_capabilities();
        guest::RawSocket socket;
        const auto asked = [&] { return socket.setup(kPage).error == (room ? 0 : ENOMEM); };
        EXPECT_TRUE(room ? eventually(asked) : asked())
            << "user " << uid << " should be charged for exactly " << pages << " pages, not for "
            << (room ? "more" : "less");
    });
}

thread_local sigjmp_buf after_signal;
thread_local volatile sig_atomic_t signals_caught = 0;

void on_signal(int signal) {
    if (signals_caught == 0) {
        // Not ours: the ordinary end.
        ::signal(signal, SIG_DFL);
        return;
    }
    siglongjmp(after_signal, signal);
}

}  // namespace

Flow::Channel::Channel(guest::Producer& producer, bool in_place)
    : name(guest::unique_name("flow")),
      all(order_of(producer.add_group(name), in_place)),
      witness(name, all, kRingBytes) {}

Flow::Flow(guest::Producer& producer)
    : producer_(producer),
      channels_{std::make_unique<Channel>(producer, false),
                std::make_unique<Channel>(producer, true)},
      thread_([this] { run(); }) {}

Flow::~Flow() {
    stop_ = true;
    thread_.join();
}

void Flow::run() {
    while (!stop_) {
        {
            const std::lock_guard<std::mutex> lock(publishing_);
            for (const auto& channel : channels_) {
                guest::Order part = channel->all;
                part.first_number = channel->numbers;
                part.count = kPart;
                producer_.publish(part);
                channel->numbers += kPart;
                // A reader that has what is wrong says so in expect_all().
                if (!eventually([&] { return channel->complete(); })) {
                    return;
                }
            }
            ++rounds_;
        }
        // So that who waits for the lock gets it; and on a slow kernel the attacker
        // some of the machine, too.
        std::this_thread::sleep_for(std::chrono::microseconds(guest::patience() > 1 ? 4000 : 200));
    }
}

void Flow::expect_more() {
    // One round may have begun before this call.
    const std::uint64_t wanted = rounds_ + 2;
    EXPECT_TRUE(eventually([&] { return rounds_ >= wanted; }))
        << "messages do not flow any more, or do not reach the honest readers";
}

void Flow::expect_all() {
    const std::lock_guard<std::mutex> lock(publishing_);
    for (const auto& channel : channels_) {
        SCOPED_TRACE(channel->all.in_place ? "published in place" : "published by copying");
        channel->witness.expect_all(channel->numbers * channel->all.producers);
    }
}

std::unique_ptr<MemoryAttack::Shared> MemoryAttack::shared_;

void MemoryAttack::SetUpTestSuite() { shared_ = std::make_unique<Shared>(); }

void MemoryAttack::TearDownTestSuite() {
    expect_locked(0, Flow::kPages);
    shared_.reset();
    expect_locked(guest::kSomebody, 0);
    expect_locked(0, 0);
}

void MemoryAttack::SetUp() {
    flow_->expect_more();
    sockets_ = inodes_with_rings();
    references_ = module_references();
}

void MemoryAttack::attack_in_flow(const std::function<void()>& code) {
    attack(code);
    flow_->expect_more();
}

void MemoryAttack::TearDown() {
    flow_->expect_all();
    EXPECT_TRUE(eventually([this] { return inodes_with_rings() == sockets_; }))
        << "sockets with rings: " << inodes_with_rings().size() << ", before the attack "
        << sockets_.size();
    EXPECT_TRUE(eventually([this] { return module_references() == references_; }))
        << "the module is used " << module_references() << " times, before the attack "
        << references_;
    expect_locked_at_most(guest::kSomebody, 0);
    expect_locked_at_most(0, Flow::kPages);
    // A reader who comes now is served as if nothing had been.
    guest::RawMember late(still_, kPage);
    const guest::Order order{.group = still_group_, .count = 10};
    EXPECT_EQ(producer_.publish(order).delivered, 10U);
    guest::Check check(order);
    while (const auto record = late.ring.next()) {
        check.message(record->message());
    }
    EXPECT_EQ(check.received(), 10U) << "who joins after the attack";
}

OwnRing::OwnRing(std::uint32_t data_bytes) : data_bytes_(data_bytes) {
    const guest::Outcome outcome = socket_.setup(data_bytes);
    if (outcome.error != 0) {
        errno = outcome.error;
        fail("SETUP: " + outcome.sentence);
    }
    void* place =
        mmap(nullptr, kPage + rest_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) {
        fail("mmap of room for a ring");
    }
    base_ = static_cast<std::byte*>(place);
    map();
}

OwnRing::~OwnRing() { unmap(); }

void OwnRing::map() {
    if (mmap(base_, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd(), 0) == MAP_FAILED) {
        fail("mmap of the consumer's page");
    }
    if (mmap(rest(), rest_bytes(), PROT_READ, MAP_SHARED | MAP_FIXED, fd(), kPage) == MAP_FAILED) {
        fail("mmap of the producer's page and data");
    }
}

void OwnRing::unmap() {
    if (base_ != nullptr) {
        munmap(base_, kPage + rest_bytes());
        base_ = nullptr;
    }
}

void OwnRing::join(const std::string& group) {
    guest::Outcome outcome = socket_.join(group);
    // What flows from another group may leave no room for the notice.
    for (int tries = 0; outcome.error == EAGAIN && tries < 1000; ++tries) {
        __atomic_store_n(&consumer_words().position,
                         __atomic_load_n(&producer_words().position, __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
        outcome = socket_.join(group);
    }
    if (outcome.error != 0) {
        errno = outcome.error;
        fail("JOIN: " + outcome.sentence);
    }
}

void OwnRing::remember() { remembered_.assign(rest(), rest() + rest_bytes()); }

std::string OwnRing::changed() const {
    const auto [was, is] = std::mismatch(remembered_.begin(), remembered_.end(), rest());
    if (was == remembered_.end()) {
        return "";
    }
    const auto offset = static_cast<std::size_t>(was - remembered_.begin());
    return (offset < kPage ? "the producer's page is different from byte "
                           : "the data is different from byte ") +
           std::to_string(offset < kPage ? offset : offset - kPage) + " on";
}

int signal_of(const std::function<void()>& code) {
    static const bool installed = [] {
        struct sigaction action{};
        action.sa_handler = on_signal;
        return sigaction(SIGSEGV, &action, nullptr) == 0 &&
               sigaction(SIGBUS, &action, nullptr) == 0;
    }();
    if (!installed) {
        fail("sigaction");
    }
    const int signal = sigsetjmp(after_signal, 1);
    if (signal == 0) {
        signals_caught = 1;
        code();
    }
    signals_caught = 0;
    return signal;
}

std::vector<Mapped> mappings() {
    std::ifstream file("/proc/self/smaps");
    std::string line;
    std::vector<Mapped> all;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string first;
        words >> first;
        const auto dash = first.find('-');
        if (dash != std::string::npos && !first.ends_with(':')) {
            Mapped mapped;
            mapped.begin = std::stoull(first.substr(0, dash), nullptr, 16);
            mapped.end = std::stoull(first.substr(dash + 1), nullptr, 16);
            words >> mapped.rights;
            all.push_back(mapped);
        } else if (first == "VmFlags:") {
            all.back().flags.insert(std::istream_iterator<std::string>(words), {});
        }
    }
    return all;
}

Mapped mapped_at(const void* address) {
    const auto wanted = reinterpret_cast<std::uintptr_t>(address);
    for (const Mapped& mapped : mappings()) {
        if (mapped.begin <= wanted && wanted < mapped.end) {
            return mapped;
        }
    }
    return {};
}

std::string rights_gained(const void* at, std::size_t bytes, bool writable) {
    const auto begin = reinterpret_cast<std::uintptr_t>(at);
    // Executed, locked, growing, merged.
    std::vector<std::string> forbidden{"ex", "me", "lo", "gd", "mg"};
    if (!writable) {
        forbidden.insert(forbidden.end(), {"wr", "mw"});
    }
    for (const Mapped& mapped : mappings()) {
        if (mapped.end <= begin || mapped.begin >= begin + bytes) {
            continue;
        }
        for (const std::string& flag : forbidden) {
            if (mapped.flags.contains(flag)) {
                return "a mapping that is " + mapped.rights + " has the flag " + flag;
            }
        }
        for (const char* flag : {"de", "dd", "sh"}) {
            if (!mapped.flags.contains(flag)) {
                return "a mapping that is " + mapped.rights + " lacks the flag " + flag;
            }
        }
    }
    return "";
}

void expect_locked_at_most(unsigned uid, std::uint64_t pages) { expect_room(uid, pages, true); }

void expect_locked(unsigned uid, std::uint64_t pages) {
    expect_room(uid, pages, true);
    expect_room(uid, pages, false);
}

std::set<std::uint64_t> inodes_with_rings() {
    guest::RawSocket socket;
    const guest::Outcome outcome =
        socket.ask(guest::Request(NLMMAP_MSG_SOCKET_GET, NLM_F_REQUEST | NLM_F_DUMP));
    if (outcome.error != 0) {
        throw std::runtime_error("the dump of all sockets failed: " + outcome.sentence);
    }
    std::set<std::uint64_t> inodes;
    for (const guest::Reply& reply : outcome.replies) {
        inodes.insert(reply.get<std::uint64_t>(NLMMAP_A_INODE).value());
    }
    return inodes;
}

long module_references() {
    long references = -1;
    std::ifstream("/sys/module/nlmmap/refcnt") >> references;
    return references;
}

}  // namespace hostile
