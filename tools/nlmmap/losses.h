// SPDX-License-Identifier: MIT
// Which losses of a ring were told already: each is told once, in its place.
#pragma once

#include <cstdint>
#include <nlmmap/nlmmap.hpp>
#include <utility>

namespace nlmmap::tool {

class Losses {
  public:
    struct Run {
        std::uint64_t lost;  // 0: nothing new
        std::uint64_t first_seq;
    };

    // What was lost right before this record and was not told by tail().
    Run before(const Record& record) noexcept {
        const std::uint64_t lost = record.lost_before();
        const std::uint64_t told = std::exchange(tail_told_, 0);
        const std::uint64_t news = lost > told ? lost - told : 0;
        last_seq_ = record.seq();
        told_ += news;
        return {news, record.seq() - news};
    }

    // Losses after which no record has come yet; `lost` is the ring's count, read before the ring
    // was seen empty.
    Run tail(std::uint64_t lost) noexcept {
        if (lost <= told_) return {0, 0};
        const Run run{lost - told_, last_seq_ + tail_told_ + 1};
        tail_told_ += run.lost;
        told_ += run.lost;
        return run;
    }

  private:
    std::uint64_t last_seq_ = 0;
    std::uint64_t told_ = 0;
    std::uint64_t tail_told_ = 0;  // of these, those after the last record
};

}  // namespace nlmmap::tool
