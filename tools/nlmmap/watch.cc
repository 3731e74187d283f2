// SPDX-License-Identifier: MIT
// nlmmap watch: prints the messages of groups as they come.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <map>
#include <nlmmap/nlmmap.hpp>
#include <stdexcept>
#include <string>
#include <system_error>

#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/losses.h"
#include "tools/nlmmap/netlink_groups.h"
#include "tools/nlmmap/present.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

// Fewer bytes than the watermark wake nobody: that is how long they wait at most.
constexpr int kWatermarkMilliseconds = 250;

class Watch {
  public:
    Watch(const WatchOptions& options, Output& output, StopSignal& stop)
        : options_(options),
          output_(output),
          stop_(stop),
          presenter_(Presenter::make({.fixed_header_bytes = options.fixed_header_bytes,
                                      .time = options.time,
                                      .hex = options.hex,
                                      .json = options.json},
                                     output)),
          receiver_(Socket(), RingOptions{.ring_bytes = options.ring_bytes,
                                          .watermark_bytes = options.watermark_bytes,
                                          .timestamps = options.time}) {
        for (const std::string& name : options.groups) {
            const GroupInfo group = receiver_.socket().group(name);
            if (groups_.contains(group.id)) continue;  // said twice
            join(group);
            groups_[group.id] = group.name;
            ++groups_left_;
        }
    }

    int run() {
        for (;;) {
            // Read before the ring: a loss that was counted before the ring was seen empty lies
            // right behind the last record that was read.
            const std::uint64_t lost = receiver_.lost();
            const bool more = read();
            if (done_) return kSuccess;
            if (groups_left_ == 0) return kGroupDeleted;
            if (stop_.stopped()) return kSuccess;
            if (more) continue;
            tell(losses_.tail(lost));
            output_.flush();
            sleep();
        }
    }

    void summary() const {
        const std::uint64_t lost = receiver_.lost();
        fmt::print(stderr, "nlmmap: {} message{}, {} record{} lost\n", messages_,
                   messages_ == 1 ? "" : "s", lost, lost == 1 ? "" : "s");
    }

  private:
    void join(const GroupInfo& group) {
        try {
            receiver_.join_group(group.name);
        } catch (const Error& error) {
            if (error.code() != std::errc::message_size) throw;
            // The library's advice names its own option, not this program's.
            throw std::runtime_error(fmt::format(
                "the ring is too small: messages of group {} have up to {} bytes, and a "
                "ring takes four of them: try --ring-bytes {}",
                printable(group.name), group.max_bytes,
                size_text(std::bit_ceil(std::uint64_t{4} * group.max_bytes))));
        }
    }

    // Everything that is there now; false if there was nothing.
    bool read() {
        bool any = false;
        for (const Record& record : receiver_.read()) {
            any = true;
            tell(losses_.before(record));
            if (record.is_notice()) {
                notice(record);
                continue;
            }
            const std::string group = group_name(record.group());
            for (const Message& message : record) {
                presenter_->message(group, record, message);
                ++messages_;
                if (messages_ == options_.count) {
                    done_ = true;
                    return true;
                }
            }
            if (const auto rest = after_messages(record); !rest.empty()) {
                presenter_->malformed(group, record, rest);
            }
            if (stop_.stopped()) return true;
        }
        return any;
    }

    void tell(const Losses::Run& run) {
        if (run.lost != 0) presenter_->loss(run.lost, run.first_seq);
    }

    void notice(const Record& record) {
        for (const Message& message : record) {
            if (message.type() != NLMMAP_MSG_GROUP_DELETED) continue;
            for (const Attribute& attribute : message.attributes()) {
                const auto id = attribute.as<std::uint32_t>();
                if (attribute.type() != NLMMAP_A_GROUP_ID || !id) continue;
                presenter_->group_deleted(group_name(*id));
                if (groups_left_ > 0) --groups_left_;
            }
        }
    }

    std::string group_name(std::uint32_t id) const {
        const auto found = groups_.find(id);
        return found != groups_.end() ? found->second : fmt::format("#{}", id);
    }

    // Until the ring is readable, a signal came, or nobody reads the output any more: a quiet group
    // would not find that out by writing.
    void sleep() {
        pollfd ready[] = {{.fd = receiver_.fd(), .events = POLLRDBAND, .revents = 0},
                          {.fd = stop_.fd(), .events = POLLIN, .revents = 0},
                          {.fd = output_.fd(), .events = 0, .revents = 0}};
        const int timeout = options_.watermark_bytes > 1 ? kWatermarkMilliseconds : -1;
        if (::poll(ready, std::size(ready), timeout) < 0 && errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "poll");
        }
        if ((ready[2].revents & POLLERR) != 0) throw OutputClosed();
    }

    const WatchOptions& options_;
    Output& output_;
    StopSignal& stop_;
    std::unique_ptr<Presenter> presenter_;
    Receiver receiver_;
    std::map<std::uint32_t, std::string> groups_;  // the names by number, deleted ones included
    std::size_t groups_left_ = 0;
    std::uint64_t messages_ = 0;
    Losses losses_;
    bool done_ = false;
};

}  // namespace

int watch(const WatchOptions& options, Output& output, StopSignal& stop) {
    const auto others = std::count_if(options.groups.begin(), options.groups.end(),
                                      [](const auto& name) { return is_netlink_group(name); });
    if (others == std::ssize(options.groups)) return watch_attached(options, output, stop);
    if (others != 0)
        throw std::runtime_error(
            "groups of nlmmap and of other families at once: watch them by two commands");
    Watch watch(options, output, stop);
    const int status = watch.run();
    output.flush();
    watch.summary();
    return status;
}

}  // namespace nlmmap::tool
