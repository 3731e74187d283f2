// SPDX-License-Identifier: MIT
// What is published in one round, and whether it arrived.
#ifndef NLMMAP_TESTS_BENCH_GUEST_LOAD_H_
#define NLMMAP_TESTS_BENCH_GUEST_LOAD_H_

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "tests/bench/module/nlmmap_bench.h"

namespace nlmmap_bench {

// A delivery that is not what was published. Ends the run.
class CheckFailed : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// One batch of equal messages; see nlmmap_bench.h for their contents.
struct Load {
    std::uint32_t datagram_bytes;
    std::uint32_t batch;
    std::uint64_t seed;
};

// Every consumer does this with each message, in the timed part, and no more: it reads one field.
inline std::uint64_t touch(const nlmsghdr& header) noexcept { return header.nlmsg_type; }

// The sum of touch() over a batch.
constexpr std::uint64_t touched_by(const Load& load) noexcept {
    const std::uint64_t batch = load.batch;
    return batch * NLMMAP_BENCH_TYPE + batch * (batch - 1) / 2;
}

// Throws CheckFailed unless `touched` is what a whole batch adds up to.
void check_touched(const Load& load, std::uint64_t touched);

// Throws CheckFailed unless `datagram` is, to the last byte, message `index` of the batch.
void check_datagram(const Load& load, std::uint32_t index, std::span<const std::byte> datagram);

// Writes message `index` of the batch to `datagram`, which has load.datagram_bytes.
void fill_datagram(const Load& load, std::uint32_t index, std::byte* datagram);

// The kernel module, which publishes.
class Producer {
  public:
    Producer();  // throws std::system_error if the module is not loaded
    ~Producer();
    Producer(const Producer&) = delete;
    Producer& operator=(const Producer&) = delete;

    // Publishes one batch and returns its instructions. NLMMAP_BENCH_PLAIN includes the delivery to
    // the sockets `plain`. Throws std::system_error.
    std::uint64_t publish(nlmmap_bench_path path, const Load& load,
                          std::span<const int> plain = {}) const;

  private:
    int fd_;
};

}  // namespace nlmmap_bench

#endif  // NLMMAP_TESTS_BENCH_GUEST_LOAD_H_
