// SPDX-License-Identifier: MIT
// process_events.ko on a real kernel: what it says of processes whose doings are known. Runs as
// root in a guest, with nlmmap.ko loaded.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "examples/demo/module_counts.h"
#include "examples/process_events/test/event_log.h"
#include "tests/guest/surroundings.h"

namespace {

constexpr int kFork = PROCESS_EVENTS_MSG_FORK;
constexpr int kExec = PROCESS_EVENTS_MSG_EXEC;
constexpr int kExit = PROCESS_EVENTS_MSG_EXIT;

std::uint32_t number(pid_t pid) { return static_cast<std::uint32_t>(pid); }

// Forks, runs the code in the child and ends it with the status that the code returns.
template <typename Code>
pid_t fork_to(Code code) {
    const pid_t child = fork();
    if (child == 0) _exit(code());
    if (child == -1) throw std::system_error(errno, std::generic_category(), "fork");
    return child;
}

class ProcessEvents : public testing::Test {
  protected:
    void SetUp() override {
        if (!is_loaded()) {
            ASSERT_EQ(load_module(), 0) << "process_events.ko cannot be loaded";
        }
    }
};

TEST_F(ProcessEvents, TellsForkExecAndExitOfAChildInThatOrder) {
    EventLog log;
    const pid_t child = spawn(shell("exit 7"));
    const int status = wait_for(child);
    ASSERT_TRUE(log.await(kExit, child)) << "the exit of " << child << " did not come";

    const std::size_t fork = log.place(kFork, child);
    const std::size_t exec = log.place(kExec, child);
    const std::size_t exit = log.place(kExit, child);
    ASSERT_LT(fork, exec) << "the exec came before the fork, or one of them not at all";
    ASSERT_LT(exec, exit) << "the exit came before the exec, or the exec not at all";

    const demo::Event& forked = log.events()[fork];
    EXPECT_EQ(forked.parent_tid, number(gettid()));
    EXPECT_EQ(forked.parent_tgid, number(getpid()));
    EXPECT_EQ(forked.tgid, number(child));
    char name[16] = "";
    ASSERT_EQ(prctl(PR_GET_NAME, name), 0);
    EXPECT_STREQ(forked.comm.data(), name) << "a new task has its parent's name";

    const demo::Event& executed = log.events()[exec];
    EXPECT_EQ(executed.tgid, number(child));
    EXPECT_EQ(executed.old_tid, number(child));
    EXPECT_STREQ(executed.filename.data(), "/bin/busybox");
    EXPECT_STREQ(executed.comm.data(), "busybox");

    const demo::Event& ended = log.events()[exit];
    EXPECT_EQ(ended.tgid, number(child));
    EXPECT_EQ(ended.exit_code, static_cast<std::uint32_t>(status));
    EXPECT_EQ(WEXITSTATUS(static_cast<int>(ended.exit_code)), 7);
    EXPECT_EQ(ended.exit_signal, SIGCHLD);
    EXPECT_STREQ(ended.comm.data(), "busybox");
}

TEST_F(ProcessEvents, EachMessageHasExactlyTheDocumentedAttributesInOrder) {
    EventLog log;
    for (const char* script : {"exit 0", "exit 1", "kill -9 $$", "/bin/busybox true; exit 2"})
        wait_for(spawn(shell(script)));
    std::thread([] {}).join();
    const pid_t last = spawn(shell("exit 0"));
    wait_for(last);
    ASSERT_TRUE(log.await(kExit, last));
    EXPECT_GE(log.events().size(), 15U);
    EXPECT_EQ(log.malformed(), "") << "TYPE ATTRIBUTE:BYTES...";
}

TEST_F(ProcessEvents, TellsTheSignalThatKilledAChild) {
    EventLog log;
    const pid_t child = fork_to([] {
        for (;;) pause();
        return 0;
    });
    ASSERT_EQ(kill(child, SIGKILL), 0);
    const int status = wait_for(child);
    const auto exit = log.await(kExit, child);
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->exit_code, static_cast<std::uint32_t>(status));
    EXPECT_TRUE(WIFSIGNALED(static_cast<int>(exit->exit_code)));
    EXPECT_EQ(WTERMSIG(static_cast<int>(exit->exit_code)), SIGKILL);
}

TEST_F(ProcessEvents, TellsAThreadAsAThreadOfItsProcess) {
    EventLog log;
    std::atomic<pid_t> tid = 0;
    std::thread([&] {
        prctl(PR_SET_NAME, "fifteen-letters");
        tid = gettid();
    }).join();
    const auto fork = log.await(kFork, tid);
    const auto exit = log.await(kExit, tid);
    ASSERT_TRUE(fork);
    ASSERT_TRUE(exit);
    EXPECT_EQ(fork->parent_tgid, number(getpid()));
    EXPECT_EQ(fork->tgid, fork->parent_tgid) << "a thread has its process's tgid";
    EXPECT_NE(fork->tid, fork->tgid);
    EXPECT_EQ(exit->tgid, number(getpid()));
    EXPECT_EQ(exit->exit_signal, -1) << "nobody is signalled when a thread ends";
    EXPECT_STREQ(exit->comm.data(), "fifteen-letters") << "a name of the full length";
}

TEST_F(ProcessEvents, TellsWhichThreadExecuted) {
    EventLog log;
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork_to([&] {
        std::thread([&] {
            const pid_t tid = gettid();
            if (write(pipe_ends[1], &tid, sizeof(tid)) != sizeof(tid)) _exit(1);
            execl("/bin/busybox", "busybox", "true", static_cast<char*>(nullptr));
            _exit(1);
        }).join();
        return 1;
    });
    pid_t thread = 0;
    ASSERT_EQ(read(pipe_ends[0], &thread, sizeof(thread)), static_cast<ssize_t>(sizeof(thread)));
    EXPECT_EQ(wait_for(child), 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    const auto exec = log.await(kExec, child);
    ASSERT_TRUE(exec);
    EXPECT_NE(thread, child);
    EXPECT_EQ(exec->old_tid, number(thread)) << "the thread that called execve()";
    EXPECT_EQ(exec->tgid, number(child));
}

TEST_F(ProcessEvents, CutsALongFileName) {
    EventLog log;
    std::string path = "/bin/";
    while (path.size() < 600) path += "./";
    path += "busybox";
    const pid_t child = spawn({path, "true"});
    EXPECT_EQ(wait_for(child), 0);
    const auto exec = log.await(kExec, child);
    ASSERT_TRUE(exec);
    EXPECT_EQ(std::string(exec->filename.data()),
              path.substr(0, PROCESS_EVENTS_FILENAME_BYTES - 1));
    EXPECT_EQ(log.malformed(), "");
}

TEST_F(ProcessEvents, KnowsAFileNameOfTheFullLength) {
    EventLog log;
    std::string path = "/bin/";
    while (path.size() + 7 < PROCESS_EVENTS_FILENAME_BYTES - 2) path += "./";
    if (path.size() + 7 < PROCESS_EVENTS_FILENAME_BYTES - 1) path += "/";
    path += "busybox";
    ASSERT_EQ(path.size(), PROCESS_EVENTS_FILENAME_BYTES - 1U);
    const pid_t child = spawn({path, "true"});
    EXPECT_EQ(wait_for(child), 0);
    const auto exec = log.await(kExec, child);
    ASSERT_TRUE(exec);
    EXPECT_STREQ(exec->filename.data(), path.c_str());
    EXPECT_EQ(log.malformed(), "");
}

TEST_F(ProcessEvents, NumbersTasksAsTheInitialPidNamespaceDoes) {
    EventLog log;
    const pid_t middle = fork_to([] {
        if (unshare(CLONE_NEWPID) != 0) return 1;
        // Number 1 in the new namespace.
        const pid_t inner = fork_to([] { return getpid() == 1 ? 42 : 1; });
        int status = 0;
        waitpid(inner, &status, 0);
        return WEXITSTATUS(status) == 42 ? 0 : 1;
    });
    ASSERT_EQ(wait_for(middle), 0);
    const auto fork = log.await([&](const demo::Event& event) {
        return event.type == kFork && event.parent_tid == number(middle);
    });
    ASSERT_TRUE(fork);
    EXPECT_GT(fork->tid, number(middle)) << "1 would be its number in its own namespace";
    const auto exit = log.await(kExit, static_cast<pid_t>(fork->tid));
    ASSERT_TRUE(exit);
    EXPECT_EQ(WEXITSTATUS(static_cast<int>(exit->exit_code)), 42);
}

// Four processes at once on all CPUs: every child once, its fork before its exit, and as many
// events as the module counted itself.
TEST_F(ProcessEvents, TellsEveryEventOfABurstOnceAndCountsThemTheSame) {
    constexpr int kMakers = 4;
    const int children = guest::patience() > 1 ? 60 : 250;
    EventLog log;
    const demo::Counts before = demo::module_counts();
    std::vector<pid_t> makers;
    makers.reserve(kMakers);
    for (int i = 0; i < kMakers; ++i) {
        makers.push_back(fork_to([children] {
            for (int child = 0; child < children; ++child) {
                int status = 0;
                const pid_t pid = fork_to([&] { return child % 100; });
                if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != child % 100) return 1;
            }
            return 0;
        }));
    }
    for (const pid_t maker : makers) EXPECT_EQ(wait_for(maker), 0);
    const demo::Counts after = demo::module_counts();
    const pid_t last = fork_to([] { return 0; });
    wait_for(last);
    ASSERT_TRUE(log.await(kExit, last));

    std::map<std::uint32_t, std::size_t> forked;
    std::set<std::uint32_t> ended;
    std::uint64_t exits = 0;
    for (std::size_t i = 0; i < log.events().size(); ++i) {
        const demo::Event& event = log.events()[i];
        const bool is_ours =
            std::count(makers.begin(), makers.end(), static_cast<pid_t>(event.parent_tid)) == 1;
        if (event.type == kFork && is_ours) {
            EXPECT_TRUE(forked.emplace(event.tid, i).second) << event.tid << " was told twice";
        }
        if (event.type != kExit) continue;
        if (event.tid != number(last)) ++exits;
        if (!forked.contains(event.tid)) continue;
        EXPECT_TRUE(ended.insert(event.tid).second) << event.tid << " ended twice";
    }
    EXPECT_EQ(forked.size(), static_cast<std::size_t>(kMakers * children));
    EXPECT_EQ(ended.size(), forked.size()) << "tasks whose exit came, and came after the fork";
    // Kernel threads may come and go meanwhile, at the edges, too.
    EXPECT_GE((after - before).exits, static_cast<std::uint64_t>(kMakers * (children + 1)));
    EXPECT_GE(exits + 5, (after - before).exits);
    EXPECT_LE((after - before).exits, exits + 5);
    EXPECT_EQ(log.receiver().lost(), 0U);
}

TEST_F(ProcessEvents, IsPrivateToThoseWithCapNetAdmin) {
    const nlmmap::GroupInfo group = nlmmap::Socket().group(PROCESS_EVENTS_GROUP);
    EXPECT_FALSE(group.is_public);
    EXPECT_LE(group.max_bytes, 512U) << "readers must have four times that";
    const pid_t nobody = fork_to([] {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        const __user_cap_data_struct none[2] = {};
        if (syscall(SYS_capset, &header, none) != 0) return 1;
        try {
            static_cast<void>(nlmmap::Receiver::join(PROCESS_EVENTS_GROUP));
        } catch (const nlmmap::Error& error) {
            if (error.code() == std::errc::operation_not_permitted) return 0;
            std::fprintf(stderr, "%s\n", error.what());
            return 2;
        }
        return 3;
    });
    EXPECT_EQ(wait_for(nobody), 0) << "status 2: another error; 3: it could join";
}

TEST_F(ProcessEvents, ItsCountersAreReadOnly) {
    for (const std::string name : {"forks", "execs", "exits"}) {
        const std::string path = "/sys/module/process_events/parameters/" + name;
        struct stat status{};
        ASSERT_EQ(stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777, 0444U) << path;
        const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
        if (fd == -1) continue;
        EXPECT_EQ(write(fd, "0", 1), -1) << path;
        close(fd);
    }
}

TEST_F(ProcessEvents, RefusesToBeLoadedWithACountOfTheLoader) {
    ASSERT_EQ(unload_module(), 0);
    for (const char* options : {"forks=1", "execs=1", "exits=0"}) {
        EXPECT_EQ(load_module(options), EPERM) << options;
        EXPECT_FALSE(is_loaded()) << options;
    }
    EXPECT_EQ(load_module(), 0);
}

TEST_F(ProcessEvents, RefusesToBeLoadedTwice) {
    EXPECT_EQ(load_module(), EEXIST);
    EventLog log;
    const pid_t child = fork_to([] { return 0; });
    wait_for(child);
    EXPECT_TRUE(log.await(kExit, child)) << "the first one goes on";
}

TEST_F(ProcessEvents, UnloadingTellsAReaderThatTheGroupIsGone) {
    EventLog log;
    const pid_t child = fork_to([] { return 0; });
    wait_for(child);
    ASSERT_TRUE(log.await(kExit, child));
    ASSERT_EQ(unload_module(), 0) << "a reader keeps nobody from unloading";

    nlmmap::Receiver& receiver = log.receiver();
    bool noticed = false;
    nlmmap::Wait wait = nlmmap::Wait::readable;
    for (int i = 0; i < 100 && wait != nlmmap::Wait::group_gone; ++i) {
        wait = receiver.wait(std::chrono::milliseconds(100));
        for (const nlmmap::Record& record : receiver.read()) {
            for (const nlmmap::Message& message : record)
                noticed =
                    noticed || (record.is_notice() && message.type() == NLMMAP_MSG_GROUP_DELETED);
        }
    }
    EXPECT_TRUE(noticed) << "the notice among the records";
    EXPECT_EQ(wait, nlmmap::Wait::group_gone);
    EXPECT_THROW(static_cast<void>(nlmmap::Receiver::join(PROCESS_EVENTS_GROUP)), nlmmap::Error);

    ASSERT_EQ(load_module(), 0);
    EventLog again;
    const pid_t other = fork_to([] { return 0; });
    wait_for(other);
    EXPECT_TRUE(again.await(kExit, other));
}

}  // namespace
