// SPDX-License-Identifier: MIT
#include "tests/bench/guest/load.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

namespace nlmmap_bench {

void check_touched(const Load& load, std::uint64_t touched) {
    if (touched != touched_by(load))
        throw CheckFailed(fmt::format("the types of {} messages add up to {}, not {}", load.batch,
                                      touched, touched_by(load)));
}

void fill_datagram(const Load& load, std::uint32_t index, std::byte* datagram) {
    nlmsghdr header{};
    header.nlmsg_len = load.datagram_bytes;
    header.nlmsg_type = static_cast<std::uint16_t>(NLMMAP_BENCH_TYPE + index);
    std::memcpy(datagram, &header, sizeof(header));
    for (std::size_t at = sizeof(header); at < load.datagram_bytes; at += sizeof(std::uint64_t)) {
        std::uint64_t word = load.seed + (at - sizeof(header)) / sizeof(word);
        if (at == sizeof(header)) word += std::uint64_t{index} << NLMMAP_BENCH_INDEX_SHIFT;
        std::memcpy(datagram + at, &word, sizeof(word));
    }
}

void check_datagram(const Load& load, std::uint32_t index, std::span<const std::byte> datagram) {
    if (datagram.size() != load.datagram_bytes)
        throw CheckFailed(fmt::format("message {} of {} has {} bytes, not {}", index, load.batch,
                                      datagram.size(), load.datagram_bytes));
    std::vector<std::byte> expected(load.datagram_bytes);
    fill_datagram(load, index, expected.data());
    for (std::size_t i = 0; i < expected.size(); ++i)
        if (datagram[i] != expected[i])
            throw CheckFailed(fmt::format(
                "message {} of {}: byte {} is {:#04x}, not {:#04x}", index, load.batch, i,
                std::to_integer<unsigned>(datagram[i]), std::to_integer<unsigned>(expected[i])));
}

Producer::Producer() : fd_(open("/dev/nlmmap_bench", O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0)
        throw std::system_error(errno, std::generic_category(),
                                "/dev/nlmmap_bench (is nlmmap_bench.ko loaded?)");
}

Producer::~Producer() { close(fd_); }

std::uint64_t Producer::publish(nlmmap_bench_path path, const Load& load,
                                std::span<const int> plain) const {
    nlmmap_bench_run run{};
    run.path = path;
    run.datagram_bytes = load.datagram_bytes;
    run.batch = load.batch;
    run.seed = load.seed;
    run.wait_fds = reinterpret_cast<std::uintptr_t>(plain.data());
    run.wait_count = static_cast<std::uint32_t>(plain.size());
    if (ioctl(fd_, NLMMAP_BENCH_RUN, &run) < 0)
        throw std::system_error(
            errno, std::generic_category(),
            fmt::format("publishing {} messages of {} bytes", load.batch, load.datagram_bytes));
    return run.instructions;
}

}  // namespace nlmmap_bench
