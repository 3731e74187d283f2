// SPDX-License-Identifier: MIT
//
// Tries to multiply a ring, to keep it, or to let it fall into the wrong hands when
// processes begin and end: fork, vfork, exec and clone(CLONE_VM) with live maps, maps
// that are inherited after all, processes killed and reaped in the middle, and core
// dumps, while messages flow.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/guest/sleepers.h"
#include "tests/guest/surroundings.h"
#include "tests/hostile/channel.h"
#include "tests/hostile/memory_attack.h"

namespace hostile {
namespace {

using guest::in_child;

bool is_mapped(const void* at) {
    unsigned char resident = 0;
    return mincore(const_cast<void*>(at), kPage, &resident) == 0 || errno != ENOMEM;
}

// Ends with the program whose output goes into the pipe.
[[noreturn]] void become_program(int output, const std::vector<const char*>& words) {
    dup2(output, STDOUT_FILENO);
    std::vector<char*> arguments;
    arguments.reserve(words.size() + 1);
    for (const char* word : words) {
        arguments.push_back(const_cast<char*>(word));
    }
    arguments.push_back(nullptr);
    execv("/bin/busybox", arguments.data());
    _exit(127);
}

// Runs code in a child that becomes a program; what the program says.
std::string output_of(const std::function<void(int output)>& code) {
    std::array<int, 2> pipe{};
    if (pipe2(pipe.data(), O_CLOEXEC) != 0) {
        throw std::runtime_error("pipe2");
    }
    const pid_t child = fork();
    if (child == 0) {
        code(pipe[1]);
        _exit(126);
    }
    close(pipe[1]);
    std::string said;
    std::array<char, 4096> part{};
    for (ssize_t got = 1; got > 0;) {
        got = read(pipe[0], part.data(), part.size());
        said.append(part.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    close(pipe[0]);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
        << "the program ended with status " << status;
    return said;
}

// A task with this process's memory and nothing else of it; ends before this does.
// Its code uses no memory of the C library's that belongs to a thread.
class MemoryTask {
  public:
    MemoryTask(int (*code)(void*), void* argument, int flags = 0)
        : child_(clone(code, stack_.data() + stack_.size(), CLONE_VM | SIGCHLD | flags, argument)) {
    }
    MemoryTask(const MemoryTask&) = delete;
    MemoryTask& operator=(const MemoryTask&) = delete;
    ~MemoryTask() { wait(); }
    pid_t pid() const { return child_; }
    int wait() {
        int status = -1;
        if (child_ > 0) {
            waitpid(child_, &status, 0);
        }
        child_ = -1;
        return status;
    }

  private:
    alignas(16) std::array<char, 65536> stack_{};
    pid_t child_;
};

class Forking : public MemoryAttack {
  protected:
    void fill(OwnRing& ring) {
        ring.join(still_);
        producer_.publish({.group = still_group_, .count = 30});
        ring.remember();
    }
    void join_all(OwnRing& ring) {
        ring.join(flow_->copied());
        ring.join(flow_->in_place());
    }
    // What the kernel writes arrives in the maps that this process has.
    void expect_live(const OwnRing& ring, std::uint64_t delivered = 2) {
        const std::uint64_t before = ring.producer_words().position;
        EXPECT_EQ(producer_.publish({.group = still_group_, .count = 2}).delivered, delivered);
        EXPECT_EQ(ring.producer_words().position, before + 2U * 88);
    }
};
INSTANTIATE_FOR_ALL_ATTACKERS(Forking);

TEST_P(Forking, LeavesTheChildWithoutMapsAndTheParentWithItsOwn) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        for (int i = 0; i < 5; ++i) {
            EXPECT_EQ(in_child([&]() -> std::string {
                          for (std::size_t at = 0; at < kPage + ring.rest_bytes(); at += kPage) {
                              if (is_mapped(ring.consumer() + at)) {
                                  return "a part of the ring is mapped in the child";
                              }
                          }
                          // Mapped by its own right, it is the same ring.
                          ring.map();
                          if (!ring.changed().empty()) {
                              return ring.changed();
                          }
                          ring.consumer()[100] = std::byte{1};
                          ring.socket().close();
                          return "";
                      }),
                      "");
            EXPECT_EQ(ring.changed(), "");
            EXPECT_EQ(ring.consumer()[100], std::byte{1}) << "there is another page now";
        }
        expect_live(ring);
    });
}

// MADV_DOFORK takes back what keeps maps from children.
TEST_P(Forking, WithInheritedMapsIsOneRingAndLivesAsLongAsTheLastOfThem) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        fill(ring);
        ASSERT_EQ(madvise(ring.consumer(), kPage + ring.rest_bytes(), MADV_DOFORK), 0);
        // The children outlive the process that set the ring up, and its descriptors.
        std::array<pid_t, 3> children{};
        for (pid_t& child : children) {
            child = fork();
            if (child != 0) {
                continue;
            }
            ring.socket().close();
            const bool same = ring.changed().empty();
            const bool kept = rights_gained(ring.consumer(), kPage, true).empty() &&
                              rights_gained(ring.rest(), ring.rest_bytes(), false).empty();
            const bool faults =
                signal_of([&] { ring.data()[1] = std::byte{1}; }) == SIGSEGV &&
                mprotect(ring.rest(), ring.rest_bytes(), PROT_READ | PROT_WRITE) != 0;
            madvise(ring.consumer(), kPage + ring.rest_bytes(), MADV_DONTNEED);
            const bool back = ring.changed().empty();
            // One more, which inherits from it.
            const pid_t grandchild = fork();
            if (grandchild == 0) {
                _exit(ring.changed().empty() ? 0 : 1);
            }
            int status = 0;
            waitpid(grandchild, &status, 0);
            ring.consumer()[100] = std::byte{1};
            _exit(same && kept && faults && back && status == 0 ? 0 : 1);
        }
        for (const pid_t child : children) {
            int status = 0;
            waitpid(child, &status, 0);
            EXPECT_EQ(status, 0) << "an inherited ring is not as it should be";
        }
        EXPECT_EQ(ring.consumer()[100], std::byte{1}) << "the pages were copied";
        EXPECT_EQ(ring.changed(), "");
        expect_live(ring);

        // The last map is a child's.
        std::array<int, 2> told{};
        ASSERT_EQ(pipe2(told.data(), O_CLOEXEC), 0);
        const pid_t heir = fork();
        if (heir == 0) {
            ring.socket().close();
            close(told[1]);
            char byte = 0;
            // Until the parent has nothing left of the ring.
            const bool end = read(told[0], &byte, 1) == 1;
            const std::uint64_t position = ring.producer_words().position;
            const bool arrived = producer_.publish({.group = still_group_}).delivered == 1 &&
                                 ring.producer_words().position == position + 88;
            _exit(end && arrived ? 0 : 1);
        }
        ring.unmap();
        ring.socket().close();
        const char byte = 1;
        EXPECT_EQ(write(told[1], &byte, 1), 1);
        int status = 0;
        waitpid(heir, &status, 0);
        EXPECT_EQ(status, 0) << "the heir of the last map does not hear what is published";
        close(told[0]);
        close(told[1]);
        EXPECT_EQ(producer_.publish({.group = still_group_}).delivered, 0U)
            << "the ring outlives its last map";
    });
}

TEST_P(Forking, ByVforkAndExecLeavesNoMaps) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        join_all(ring);
        // A thread polls while its process is forked and execs elsewhere.
        std::atomic<bool> stop{false};
        std::thread poller([&] {
            while (!stop) {
                guest::poll_now(ring.fd(), POLLIN);
                __atomic_store_n(&ring.consumer_words().position, ring.producer_words().position,
                                 __ATOMIC_RELEASE);
            }
        });
        for (int i = 0; i < 5; ++i) {
            // The child uses the parent's very memory until it execs.
            MemoryTask task(
                [](void* argument) {
                    auto* ring = static_cast<OwnRing*>(argument);
                    ring->consumer_words().watermark = ~0U;
                    ring->consumer_words().lost_seen = ring->producer_words().lost;
                    std::array<const char*, 3> words{"busybox", "true", nullptr};
                    syscall(SYS_execve, "/bin/busybox", words.data(), nullptr);
                    return 1;
                },
                &ring, CLONE_VFORK);
            EXPECT_EQ(task.wait(), 0);
        }
        stop = true;
        poller.join();
        EXPECT_EQ(ring.consumer_words().watermark, ~0U) << "vfork() copied the ring";
        const std::string maps = output_of([&](int output) {
            ring.map();
            become_program(output, {"busybox", "cat", "/proc/self/maps"});
        });
        EXPECT_NE(maps.find("busybox"), std::string::npos) << maps;
        EXPECT_EQ(maps.find("socket:"), std::string::npos) << "after exec: " << maps;
    });
}

TEST_P(Forking, ExecInTheMiddleOfWhatOtherThreadsDoLeavesNothing) {
    attack_in_flow([&] {
        for (const bool keep : {false, true}) {
            const std::string files = output_of([&](int output) {
                OwnRing ring(kPage * 2);
                join_all(ring);
                if (keep) {
                    fcntl(ring.fd(), F_SETFD, 0);
                }
                // They end with the process.
                const std::array<std::function<void()>, 4> work{
                    [&] { guest::poll_now(ring.fd(), POLLIN); },
                    [&] { ring.consumer_words().position += 8; },
                    [&] { madvise(ring.rest(), ring.rest_bytes(), MADV_DONTNEED); },
                    [&] {
                        void* at = mmap(nullptr, ring.rest_bytes(), PROT_READ, MAP_SHARED,
                                        ring.fd(), kPage);
                        munmap(at, ring.rest_bytes());
                    }};
                for (const auto& piece : work) {
                    std::thread([&] {
                        for (;;) {
                            piece();
                        }
                    }).detach();
                }
                usleep(5000);
                become_program(output,
                               {"busybox", "sh", "-c", "ls -l /proc/self/fd; cat /proc/self/maps"});
            });
            const auto sockets = [&](std::string_view text) {
                return files.find(text) != std::string::npos;
            };
            EXPECT_EQ(sockets("-> socket:"), keep) << files;
            EXPECT_TRUE(sockets("[stack]")) << files;
            EXPECT_FALSE(sockets("s socket:") || sockets("s 0")) << "a shared map: " << files;
        }
    });
}

// Processes that share all memory and no descriptors: who goes first takes nothing
// from the others.
TEST_P(Forking, ByTasksThatShareMemoryHurtsNobody) {
    attack_in_flow([&] {
        OwnRing ring(kPage * 2);
        join_all(ring);
        const auto reading = [](void* argument) {
            auto* ring = static_cast<OwnRing*>(argument);
            pollfd wait{.fd = ring->fd(), .events = POLLIN, .revents = 0};
            for (int i = 0; i < 200; ++i) {
                syscall(SYS_poll, &wait, 1, 0);
                ring->consumer_words().position =
                    ring->producer_words().position - 8U * static_cast<unsigned>(i);
            }
            // Its own descriptor; the maps are everybody's.
            syscall(SYS_close, ring->fd());
            return 0;
        };
        const auto endless = [](void* argument) {
            auto* ring = static_cast<OwnRing*>(argument);
            for (;;) {
                __atomic_fetch_add(&ring->consumer_words().position, 1, __ATOMIC_RELAXED);
            }
            return 0;
        };
        for (int i = 0; i < 3; ++i) {
            MemoryTask first(reading, &ring);
            MemoryTask second(reading, &ring);
            MemoryTask killed(endless, &ring);
            guest::poll_now(ring.fd(), POLLIN);
            kill(killed.pid(), SIGKILL);
            killed.wait();
            EXPECT_EQ(second.wait(), 0);
            EXPECT_EQ(first.wait(), 0);
            EXPECT_TRUE(is_mapped(ring.rest()));
            EXPECT_TRUE(guest::succeeded(ring.socket().info()));
        }
        // A leader that ends before the task that shares its memory does.
        EXPECT_EQ(in_child([&]() -> std::string {
                      static OwnRing* own =
                          new OwnRing(kPage);  // never deleted: it must not be unmapped
                      own->join(flow_->copied());
                      static std::array<char, 65536> stack;
                      const int task = clone(
                          [](void*) {
                              for (int i = 0; i < 300; ++i) {
                                  own->consumer_words().position += 8;
                                  syscall(SYS_sched_yield);
                              }
                              return 0;
                          },
                          stack.data() + stack.size(), CLONE_VM | SIGCHLD, nullptr);
                      return task > 0 ? "" : "clone";
                  }),
                  "");
    });
}

TEST_P(Forking, ManyTimesWithAllKilledGivesEverythingBack) {
    constexpr std::uint32_t large = 4U << 20;
    constexpr int kRings = 6;
    // For all of them.
    const guest::MemlockLimit limit(64U << 20);
    const std::uint64_t before = guest::free_pages();
    const Channel joined;
    {
        Assault assault = start([&] {
            OwnRing ring(large);
            join_all(ring);
            put(joined.attacker(), 0);
            madvise(ring.consumer(), kPage + ring.rest_bytes(), MADV_DOFORK);
            for (int i = 0; i < 4; ++i) {
                if (fork() == 0 && i % 2 == 0) {
                    // Some have rings of their own besides.
                    auto* own = new OwnRing(large);  // until the end of the process
                    join_all(*own);
                    put(joined.attacker(), 0);
                }
            }
            Dice dice(static_cast<std::uint64_t>(getpid()));
            for (;;) {
                ring.consumer_words().position = dice.next();
                guest::poll_now(ring.fd(), POLLIN);
            }
        });
        for (int i = 0; i < kRings; ++i) {
            take(joined.test());
        }
        // In the middle of it.
        flow_->expect_more();
        flow_->expect_more();
        kill(assault.pid(), SIGKILL);
        EXPECT_EQ(assault.outcome(SIGKILL), "");
    }
    flow_->expect_more();
    // Less than one of the rings.
    constexpr std::uint64_t kOthers = 700;
    static_assert(kOthers < large / kPage);
    EXPECT_TRUE(guest::eventually([&] { return guest::free_pages() + kOthers > before; }))
        << "of " << before << " free pages " << guest::free_pages() << " are left";
}

// The memory of who was killed may be taken before he is gone.
TEST_P(Forking, ReapedBeforeTheEndGivesEverythingBack) {
    attack_in_flow([&] {
        for (int i = 0; i < 3; ++i) {
            std::array<int, 2> ready{};
            ASSERT_EQ(pipe2(ready.data(), O_CLOEXEC), 0);
            const pid_t child = fork();
            if (child == 0) {
                OwnRing ring(1U << 18);
                join_all(ring);
                const char byte = 1;
                if (write(ready[1], &byte, 1) != 1) {
                    _exit(1);
                }
                for (;;) {
                    ring.consumer_words().position += 8;
                }
            }
            char byte = 0;
            ASSERT_EQ(read(ready[0], &byte, 1), 1);
            const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
            ASSERT_GE(descriptor, 0);
            EXPECT_EQ(kill(child, SIGKILL), 0);
            constexpr long process_mrelease = 448;
            const long reaped = syscall(process_mrelease, descriptor, 0);
            EXPECT_TRUE(reaped == 0 || errno == ESRCH || errno == EINVAL) << strerrorname_np(errno);
            int status = 0;
            EXPECT_EQ(waitpid(child, &status, 0), child);
            close(descriptor);
            close(ready[0]);
            close(ready[1]);
        }
    });
}

// The file that the kernel writes of a process that crashed.
class CoreFiles {
  public:
    CoreFiles() {
        std::getline(std::ifstream("/proc/sys/kernel/core_pattern"), before_);
        std::ofstream("/proc/sys/kernel/core_uses_pid") << "0" << std::flush;
        std::ofstream pattern("/proc/sys/kernel/core_pattern");
        pattern << "/tmp/hostile.core" << std::flush;
        EXPECT_TRUE(pattern.good());
    }
    CoreFiles(const CoreFiles&) = delete;
    CoreFiles& operator=(const CoreFiles&) = delete;
    ~CoreFiles() {
        std::ofstream("/proc/sys/kernel/core_pattern") << before_ << std::flush;
        unlink("/tmp/hostile.core");
    }
    // All words, without the holes.
    static std::vector<std::uint64_t> read() {
        const int fd = open("/tmp/hostile.core", O_RDONLY | O_CLOEXEC);
        std::vector<std::uint64_t> all;
        off_t end = 0;
        for (off_t begin = 0; (begin = lseek(fd, end, SEEK_DATA)) >= 0;) {
            end = lseek(fd, begin, SEEK_HOLE);
            const std::size_t at = all.size();
            const auto bytes = static_cast<std::size_t>(end - begin) & ~std::size_t{7};
            all.resize(at + bytes / 8);
            EXPECT_EQ(pread(fd, all.data() + at, bytes, begin), static_cast<ssize_t>(bytes));
        }
        close(fd);
        return all;
    }

  private:
    std::string before_;
};

TEST_P(Forking, CoreDumpsHoldNothingOfARing) {
    const CoreFiles files;
    // Written to the crashing process's own memory by itself: it must be there.
    static volatile std::uint64_t sign;
    constexpr std::uint64_t kSign = 0x9e3779b97f4a7c15ULL;
    // Known when the test runs: so that no word of the messages is in the program.
    const std::uint64_t first =
        0x5a17'0000'0000'0000ULL + (static_cast<std::uint64_t>(getpid()) << 20);
    attack_in_flow([&] {
        EXPECT_EQ(
            in_child([&]() -> std::string {
                const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
                const rlimit hard{1U << 28, 1U << 28};
                if (setrlimit(RLIMIT_CORE, &all) != 0 && setrlimit(RLIMIT_CORE, &hard) != 0) {
                    return "setrlimit";
                }
                std::ofstream("/proc/self/coredump_filter") << "0x1ff" << std::flush;
                // Who changed user before is not dumped otherwise.
                prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
                OwnRing ring(kPage * 4);
                ring.join(still_);
                producer_.publish({.group = still_group_, .count = 20, .first_number = first});
                if (madvise(ring.rest(), ring.rest_bytes(), MADV_DODUMP) == 0 ||
                    madvise(ring.consumer(), kPage, MADV_DODUMP) == 0) {
                    return "MADV_DODUMP was allowed";
                }
                madvise(ring.consumer(), kPage + ring.rest_bytes(), MADV_DOFORK);
                sign = first * kSign;
                if (sign == 0) {
                    return "nothing to look for";
                }
                abort();
            }),
            "child ended by Aborted");
    });
    const std::vector<std::uint64_t> core = CoreFiles::read();
    ASSERT_FALSE(core.empty()) << "no core was dumped: nothing was tried";
    const auto holds = [&](std::uint64_t word) {
        return std::find(core.begin(), core.end(), word) != core.end();
    };
    EXPECT_TRUE(holds(first * kSign)) << "the dump lacks the process's memory";
    for (const std::uint64_t number : {first, first + 19}) {
        EXPECT_FALSE(holds(nlmmap_test_word(0, number, 2)))
            << "message " << number - first << " was dumped";
    }
}

}  // namespace
}  // namespace hostile
