// SPDX-License-Identifier: MIT
// Loading and unloading process_events.ko while its probes run on every CPU. Runs as root in a
// guest, with nlmmap.ko loaded; the kernel's log is looked at when it has ended.
//
// Attaching to a tracepoint patches the kernel's code under the feet of the CPUs that run it.
// QEMU's emulation with a thread for each CPU does that wrongly now and then (it goes on with the
// old translation: "Oops: int3"), so this program's guest has one thread for both CPUs.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "examples/process_events/test/event_log.h"

namespace {

TEST(ProcessEventsUnload, CanBeUnloadedWhileProcessesDie) {
    if (!is_loaded()) {
        ASSERT_EQ(load_module(), 0) << "process_events.ko cannot be loaded";
    }
    std::vector<pid_t> makers;
    for (int i = 0; i < 3; ++i) {
        const pid_t maker = fork();
        ASSERT_NE(maker, -1);
        while (maker == 0) {
            const pid_t child = fork();
            if (child == 0) _exit(0);
            if (child > 0) waitpid(child, nullptr, 0);
        }
        makers.push_back(maker);
    }
    for (int round = 0; round < 8; ++round) {
        {
            EventLog log;
            EXPECT_TRUE(log.await(
                [](const demo::Event& event) { return event.type == PROCESS_EVENTS_MSG_EXIT; }));
            // Half of the rounds: with a reader that is still joined.
            if (round % 2 == 0) {
                EXPECT_EQ(unload_module(), 0) << "round " << round;
            }
        }
        if (round % 2 == 1) {
            EXPECT_EQ(unload_module(), 0) << "round " << round;
        }
        ASSERT_EQ(load_module(), 0) << "round " << round;
    }
    for (const pid_t maker : makers) {
        kill(maker, SIGKILL);
        wait_for(maker);
    }
}

}  // namespace
