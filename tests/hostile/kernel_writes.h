// SPDX-License-Identifier: MIT
//
// How a program can have the kernel write to its memory: by system calls that
// answer there, and by what the kernel writes of its own accord.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace hostile {

// A system call that answers at an address, with 256 bytes at most. Returns the
// errno; 0 if the kernel wrote.
struct KernelWrite {
    std::string name;
    std::function<int(std::byte* at)> write;
};
const std::vector<KernelWrite>& kernel_writes();

// A futex operation that writes, or takes, the word at this address; what the
// system call answers.
long futex(std::byte* at, int operation);

// A task ends, at whose beginning and end the kernel writes its number there.
void end_a_task_with_its_id_at(std::byte* at);

// A task ends that holds a robust lock: the word, found by the task's own number.
void end_a_task_with_a_robust_lock_at(const std::function<std::byte*(pid_t)>& word_of);

// Runs a signal's handler on this stack.
void take_a_signal_on(std::byte* stack, std::size_t bytes);

// Makes this the calling thread's rseq area, where the kernel writes the CPU that
// the thread is on, and returns the errno.
int register_thread_area(std::byte* at);

}  // namespace hostile
