// SPDX-License-Identifier: MIT
// A daemon as a user of the installed library writes it: events of its group update a table, a loss
// makes it start over. Here it runs against the loopback kernel.
#include <cstdint>
#include <cstdio>
#include <map>
#include <nlmmap/nlmmap.hpp>
#include <nlmmap/testing.hpp>
#include <span>
#include <string>

namespace {

enum Type : std::uint16_t { kStarted = NLMMAP_MSG_PRODUCER_MIN, kEnded };
enum Field : std::uint16_t { kPid = 1, kName };

class Daemon {
  public:
    explicit Daemon(nlmmap::Receiver receiver) : receiver_(std::move(receiver)) {}

    // Runs until the group is gone.
    void run() {
        while (receiver_.wait() != nlmmap::Wait::group_gone) {
            for (const nlmmap::Record& record : receiver_.read()) {
                if (record.lost_before() != 0) resync(record.lost_before());
                for (const nlmmap::Message& message : record) handle(message);
            }
        }
    }

    [[nodiscard]] std::size_t running() const { return names_.size(); }
    [[nodiscard]] std::uint64_t lost() const { return lost_; }

  private:
    void resync(std::uint64_t lost) {
        lost_ += lost;
        names_.clear();
    }

    void handle(const nlmmap::Message& message) {
        std::uint32_t pid = 0;
        std::string name;
        for (const nlmmap::Attribute& attribute : message.attributes()) {
            if (attribute.type() == kPid) pid = attribute.as<std::uint32_t>().value_or(0);
            if (attribute.type() == kName) name = attribute.string();
        }
        if (message.type() == kStarted) names_[pid] = name;
        if (message.type() == kEnded) names_.erase(pid);
    }

    nlmmap::Receiver receiver_;
    std::map<std::uint32_t, std::string> names_;
    std::uint64_t lost_ = 0;
};

void tell(nlmmap::testing::Loopback& kernel, Type type, std::uint32_t pid) {
    nlmmap::testing::Writer writer = kernel.begin(type, 64);
    writer.put(kPid, pid);
    if (type == kStarted) writer.put(kName, std::as_bytes(std::span("process")));
    writer.end();
}

}  // namespace

int main() {
    try {
        // Without the module this is an error that tells what to do.
        const nlmmap::Socket socket;
        std::puts("module: loaded");
    } catch (const nlmmap::Error& error) {
        std::printf("module: %s\n", error.what());
    }

    nlmmap::testing::Loopback kernel({.ring_bytes = 1 << 16, .timestamps = true});
    Daemon daemon(kernel.receiver());
    tell(kernel, kStarted, 1);
    kernel.count_loss(7);
    for (std::uint32_t pid = 100; pid < 300; ++pid) tell(kernel, kStarted, pid);
    for (std::uint32_t pid = 100; pid < 150; ++pid) tell(kernel, kEnded, pid);
    kernel.delete_group();
    daemon.run();
    std::printf("running: %zu, lost: %ju\n", daemon.running(), std::uintmax_t{daemon.lost()});
    return daemon.running() == 150 && daemon.lost() == 7 ? 0 : 1;
}
