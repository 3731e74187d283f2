// SPDX-License-Identifier: MIT
// nlmmap watch of other families' groups: a socket with a ring for each family.
#include <fmt/format.h>

#include <memory>
#include <nlmmap/nlmmap.hpp>
#include <string>
#include <vector>

#include "tools/nlmmap/attached.h"
#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/losses.h"
#include "tools/nlmmap/netlink_decode.h"
#include "tools/nlmmap/netlink_groups.h"
#include "tools/nlmmap/present.h"

namespace nlmmap::tool {
namespace {

// How what comes from one socket is told.
struct Told {
    std::unique_ptr<NetlinkDecoder> decoder;
    std::unique_ptr<Presenter> presenter;
    Losses losses;
};

class AttachedWatch {
  public:
    AttachedWatch(const WatchOptions& options, Output& output, StopSignal& stop)
        : options_(options), output_(output), stop_(stop) {
        for (NetlinkFamily& family : netlink_families(options.groups)) {
            auto decoder = std::make_unique<NetlinkDecoder>(family.protocol);
            auto presenter = Presenter::make({.fixed_header_bytes = options.fixed_header_bytes,
                                              .time = options.time,
                                              .hex = options.hex,
                                              .json = options.json,
                                              .source = family.name,
                                              .decoder = decoder.get()},
                                             output);
            told_.push_back({std::move(decoder), std::move(presenter), {}});
            sockets_.push_back(std::make_unique<AttachedSocket>(
                std::move(family), RingOptions{.ring_bytes = options.ring_bytes,
                                               .watermark_bytes = options.watermark_bytes,
                                               .timestamps = options.time}));
        }
    }

    int run() {
        for (;;) {
            bool more = false;
            for (std::size_t i = 0; i < sockets_.size(); ++i) {
                // Read before the ring, see Losses::tail().
                const std::uint64_t lost = sockets_[i]->receiver().lost();
                const bool any = read(*sockets_[i], told_[i]);
                if (done_ || stop_.stopped()) return kSuccess;
                if (!any) tell(told_[i], told_[i].losses.tail(lost));
                more = more || any;
            }
            if (more) continue;
            output_.flush();
            if (!wait_for_any(sockets_, stop_.fd(), output_.fd(), options_.watermark_bytes > 1))
                throw OutputClosed();
        }
    }

    void summary() const {
        std::uint64_t lost = 0;
        for (const auto& socket : sockets_) lost += socket->receiver().lost();
        fmt::print(stderr, "nlmmap: {} message{}, {} record{} lost\n", messages_,
                   messages_ == 1 ? "" : "s", lost, lost == 1 ? "" : "s");
    }

  private:
    // Everything that is there now; false if there was nothing.
    bool read(AttachedSocket& socket, Told& told) {
        bool any = false;
        for (const Record& record : socket.receiver().read()) {
            any = true;
            tell_losses(told, record);
            if (const int error = record.error(); error != 0) {
                told.presenter->source_error(record.seq(), error);
                continue;
            }
            const std::string group = socket.group_name(record.group());
            for (const Message& message : record) {
                told.presenter->message(group, record, message);
                if (++messages_ == options_.count) {
                    done_ = true;
                    return true;
                }
            }
            if (const auto rest = after_messages(record); !rest.empty())
                told.presenter->malformed(group, record, rest);
            if (stop_.stopped()) return true;
        }
        return any;
    }

    static void tell(Told& told, const Losses::Run& run) {
        if (run.lost != 0) told.presenter->loss(run.lost, run.first_seq);
    }

    static void tell_losses(Told& told, const Record& record) {
        const Losses::Run run = told.losses.before(record);
        if (run.lost != 0 && record.lost_nearby()) {
            told.presenter->loss_nearby(run.lost, record.seq());
        } else {
            tell(told, run);
        }
        if (record.lost_unknown()) told.presenter->loss_unknown(record.seq());
    }

    const WatchOptions& options_;
    Output& output_;
    StopSignal& stop_;
    std::vector<Told> told_;
    std::vector<std::unique_ptr<AttachedSocket>> sockets_;  // as many
    std::uint64_t messages_ = 0;
    bool done_ = false;
};

}  // namespace

int watch_attached(const WatchOptions& options, Output& output, StopSignal& stop) {
    AttachedWatch watch(options, output, stop);
    const int status = watch.run();
    output.flush();
    watch.summary();
    return status;
}

}  // namespace nlmmap::tool
