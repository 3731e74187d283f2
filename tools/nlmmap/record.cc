// SPDX-License-Identifier: MIT
#include "tools/nlmmap/record.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/nlmmap/attached.h"
#include "tools/nlmmap/capture.h"
#include "tools/nlmmap/clock.h"
#include "tools/nlmmap/losses.h"
#include "tools/nlmmap/netlink_groups.h"
#include "tools/nlmmap/output.h"

namespace nlmmap::tool {
namespace {

class Recording {
  public:
    Recording(const RecordOptions& options, StopSignal& stop) : options_(options), stop_(stop) {
        // First what can go wrong without a trace.
        std::vector<NetlinkFamily> families = netlink_families(options.groups);
        for (NetlinkFamily& family : families)
            sockets_.push_back(std::make_unique<AttachedSocket>(
                std::move(family),
                RingOptions{.ring_bytes = options.ring_bytes, .timestamps = true}));
        losses_.resize(sockets_.size());
        file_ = std::make_unique<CaptureFile>(options.file);
        // Its head at once: whoever reads the pipe waits for it.
        file_->flush();
    }

    void run() {
        for (;;) {
            bool more = false;
            for (std::size_t i = 0; i < sockets_.size(); ++i) {
                // Read before the ring, see Losses::tail().
                const std::uint64_t lost = sockets_[i]->receiver().lost();
                const bool any = read(i);
                if (packets_ == options_.count || stop_.stopped()) {
                    file_->flush();
                    return;
                }
                if (!any) tell(i, losses_[i].tail(lost), "so far");
                more = more || any;
            }
            if (more) continue;
            file_->flush();
            if (!wait_for_any(sockets_, stop_.fd(), file_->fd(), false)) throw OutputClosed();
        }
    }

    void summary() const {
        std::uint64_t lost = 0;
        for (const auto& socket : sockets_) lost += socket->receiver().lost();
        fmt::print(stderr, "nlmmap: {} datagram{} recorded, {} lost\n", packets_,
                   packets_ == 1 ? "" : "s", lost);
    }

  private:
    // Everything that is there now; false if there was nothing.
    bool read(std::size_t i) {
        AttachedSocket& socket = *sockets_[i];
        bool any = false;
        // Once: what two clocks say now differs by nanoseconds from one look to the next.
        const WallTime boot = wall_time(std::chrono::nanoseconds(0));
        for (const Record& record : socket.receiver().read()) {
            any = true;
            tell(i, losses_[i].before(record), record.lost_nearby() ? "about here" : "here");
            if (record.lost_unknown())
                fmt::print(stderr, "nlmmap: {}: before packet {} the source lost some\n",
                           socket.family().name, packets_ + 1);
            if (record.error() != 0 || record.bytes().empty()) continue;
            file_->add(socket.family().protocol, boot + record.time().value(), record.bytes());
            if (++packets_ == options_.count || stop_.stopped()) return true;
        }
        return any;
    }

    // A capture file has no place for what is lost.
    void tell(std::size_t i, const Losses::Run& run, const char* where) const {
        if (run.lost == 0) return;
        fmt::print(stderr, "nlmmap: {}: {} datagram{} lost {}, before packet {}\n",
                   sockets_[i]->family().name, run.lost, run.lost == 1 ? "" : "s", where,
                   packets_ + 1);
    }

    const RecordOptions& options_;
    StopSignal& stop_;
    std::vector<std::unique_ptr<AttachedSocket>> sockets_;
    std::vector<Losses> losses_;  // as many
    std::unique_ptr<CaptureFile> file_;
    std::uint64_t packets_ = 0;
};

}  // namespace

void record(const RecordOptions& options, StopSignal& stop) {
    Recording recording(options, stop);
    try {
        recording.run();
    } catch (const OutputClosed&) {
        recording.summary();
        throw;
    }
    recording.summary();
}

}  // namespace nlmmap::tool
