// SPDX-License-Identifier: MIT
// Counting instructions: under QEMU's -icount shift=0 the TSC advances by one per guest
// instruction.
#ifndef NLMMAP_TESTS_BENCH_GUEST_MEASUREMENT_H_
#define NLMMAP_TESTS_BENCH_GUEST_MEASUREMENT_H_

#include <x86intrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nlmmap_bench {

// The TSC, with the compiler kept from moving memory accesses over it.
inline std::uint64_t ticks() noexcept {
    asm volatile("" ::: "memory");
    const std::uint64_t now = __rdtsc();
    asm volatile("" ::: "memory");
    return now;
}

// The upper median; `values` must not be empty.
template <typename T>
T median(std::vector<T> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// What measuring nothing costs; subtracted from every measurement.
inline std::uint64_t empty_measurement() {
    static const std::uint64_t cost = [] {
        std::vector<std::uint64_t> costs;
        for (int i = 0; i < 101; ++i) {
            const std::uint64_t start = ticks();
            costs.push_back(ticks() - start);
        }
        return median(costs);
    }();
    return cost;
}

// The instructions that `work` takes. It should not be inlined into its caller: mark it so.
template <typename Work>
std::uint64_t measure(Work&& work) {
    const std::uint64_t empty = empty_measurement();
    const std::uint64_t start = ticks();
    work();
    const std::uint64_t spent = ticks() - start;
    return spent > empty ? spent - empty : 0;
}

}  // namespace nlmmap_bench

#endif  // NLMMAP_TESTS_BENCH_GUEST_MEASUREMENT_H_
