// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

namespace demo {

// Counts the instructions that this thread executes, in user space and in the kernel.
class InstructionCounter {
  public:
    virtual ~InstructionCounter() = default;
    virtual std::uint64_t now() = 0;
    virtual const char* method() const noexcept = 0;

    // The processor's own counter (perf_event_open) where there is one; else the time stamp
    // counter, if it proves to count instructions: QEMU's does under -icount shift=0. Null if
    // neither: what is not measured is not told.
    static std::unique_ptr<InstructionCounter> open();
};

}  // namespace demo
