// SPDX-License-Identifier: MIT
#include "examples/demo/instruction_counter.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace demo {
namespace {

class PerfCounter : public InstructionCounter {
  public:
    explicit PerfCounter(int fd) : fd_(fd) {}
    ~PerfCounter() override { close(fd_); }
    PerfCounter(const PerfCounter&) = delete;
    PerfCounter& operator=(const PerfCounter&) = delete;

    std::uint64_t now() override {
        std::uint64_t count = 0;
        if (read(fd_, &count, sizeof(count)) != sizeof(count))
            throw std::runtime_error("cannot read the instruction counter");
        return count;
    }
    const char* method() const noexcept override { return "perf_event"; }

  private:
    int fd_;
};

class IcountCounter : public InstructionCounter {
  public:
    std::uint64_t now() override { return __rdtsc(); }
    const char* method() const noexcept override { return "icount"; }
};

// Short: a timer tick must not fall into each try.
constexpr std::uint64_t kRounds = 50'000;

// Both loops execute 4 * kRounds instructions. The first can go at the width of a processor, the
// second waits for each multiplication: only something that counts instructions finds them equal.
void run_wide() {
    std::uint64_t rounds = kRounds;
    asm volatile("1: nop; nop; dec %0; jnz 1b" : "+r"(rounds) : : "cc");
}

void run_slow() {
    std::uint64_t rounds = kRounds;
    std::uint64_t value = 3;
    asm volatile("1: imul %1, %1; imul %1, %1; dec %0; jnz 1b"
                 : "+r"(rounds), "+r"(value)
                 :
                 : "cc");
}

bool counts_instructions(InstructionCounter& counter) {
    for (void (*const run)() : {&run_wide, &run_slow}) {
        // The least of some: interrupts only add.
        std::uint64_t least = UINT64_MAX;
        for (int i = 0; i < 5; ++i) {
            const std::uint64_t start = counter.now();
            run();
            least = std::min(least, counter.now() - start);
        }
        const double ratio = static_cast<double>(least) / static_cast<double>(4 * kRounds);
        if (std::abs(ratio - 1) > 0.01) return false;
    }
    return true;
}

}  // namespace

std::unique_ptr<InstructionCounter> InstructionCounter::open() {
    perf_event_attr attributes{};
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.size = sizeof(attributes);
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.exclude_hv = 1;
    const long fd = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    std::unique_ptr<InstructionCounter> counter;
    if (fd >= 0) {
        counter = std::make_unique<PerfCounter>(static_cast<int>(fd));
        if (counts_instructions(*counter)) return counter;
    }
    counter = std::make_unique<IcountCounter>();
    if (counts_instructions(*counter)) return counter;
    return nullptr;
}

}  // namespace demo
