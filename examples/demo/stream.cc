// SPDX-License-Identifier: MIT
#include "examples/demo/stream.h"

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "examples/demo/module_counts.h"
#include "examples/demo/readers.h"
#include "examples/demo/syscall_counter.h"

namespace demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::atomic<int> caught_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

void catch_signals() {
    struct sigaction action{};
    action.sa_handler = [](int number) { caught_signal = number; };
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
}

void sleep_unless_told_to_stop(milliseconds duration) {
    std::this_thread::sleep_for(duration);
    if (caught_signal != 0)
        throw std::runtime_error(fmt::format("stopped by signal {}", caught_signal.load()));
}

void print(const std::string& line) {
    std::fputs((line + "\n").c_str(), stdout);
    std::fflush(stdout);
}

// The workload's process: ended with the object, whatever happened.
class Workload {
  public:
    explicit Workload(const StreamOptions& options) {
        const std::string processes = fmt::format("--processes={}", options.processes);
        const std::string workers = fmt::format("--workers={}", options.workers);
        const char* const arguments[] = {options.workload.c_str(), processes.c_str(),
                                         workers.c_str(), options.leaf.c_str(), nullptr};
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        // A process group of its own, so that its workers end with it.
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        const int error = posix_spawn(&pid_, options.workload.c_str(), nullptr, &attributes,
                                      const_cast<char* const*>(arguments), environ);
        posix_spawnattr_destroy(&attributes);
        if (error != 0)
            throw std::system_error(error, std::generic_category(), "run " + options.workload);
    }
    ~Workload() {
        if (pid_ <= 0) return;
        kill(-pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    Workload(const Workload&) = delete;
    Workload& operator=(const Workload&) = delete;

    // Throws std::runtime_error if it ended with an error.
    bool ended() {
        int status = 0;
        if (pid_ <= 0) return true;
        if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
        pid_ = 0;
        if (status != 0)
            throw std::runtime_error(fmt::format("the workload ended with the status {:#x}",
                                                 static_cast<unsigned>(status)));
        return true;
    }

  private:
    pid_t pid_ = 0;
};

// All that the module and the readers had counted at one moment.
struct Snapshot {
    Counts published;
    Counts ring;
    Counts connector;
    std::uint64_t ring_lost = 0;
    std::uint64_t overflows = 0;

    bool operator==(const Snapshot&) const = default;
};

class Demo {
  public:
    explicit Demo(const StreamOptions& options)
        : options_(options),
          hold_events_(std::min<std::uint64_t>(options.hold_events, options.processes * 3ULL / 4)),
          ring_(options.ring_bytes, options.watermark_bytes, options.latency),
          connector_(options.receive_buffer_bytes, options.latency) {
        await_ready(ring_.progress);
        await_ready(connector_.progress);
    }

    nlohmann::json run() {
        bool quiet = false;
        const Snapshot before = settle(quiet);
        // From here on every system call of the two readers is counted, until read_at_end.
        const SyscallCounter system_calls({ring_.progress.tid, connector_.progress.tid});
        const auto start = steady_clock::now();
        watch_workload();
        const std::chrono::duration<double> seconds = steady_clock::now() - start;
        bool quiet_at_end = false;
        const Snapshot after = settle(quiet_at_end);
        const SyscallCounter::Result read_at_end = system_calls.read();
        return result(before, after, read_at_end, seconds.count(), quiet && quiet_at_end);
    }

  private:
    Snapshot snapshot() const {
        return {module_counts(), ring_.progress.counts(), connector_.progress.counts(),
                ring_.progress.lost, connector_.progress.lost};
    }

    void check_readers() const {
        // Pairs with the release in fail().
        for (const Progress* progress : {&ring_.progress, &connector_.progress})
            if (progress->failed.load(std::memory_order_acquire))
                throw std::runtime_error(progress->error);
    }

    // Waits until nothing has happened for so long that both readers have seen everything. On a
    // machine that never rests it gives up after a while: then @quiet is false.
    Snapshot settle(bool& quiet) const {
        constexpr int kTries = 40;
        Snapshot last = snapshot();
        for (int i = 0; i < kTries; ++i) {
            sleep_unless_told_to_stop(options_.latency + milliseconds(200));
            check_readers();
            const Snapshot now = snapshot();
            quiet = now == last;
            if (quiet) return now;
            last = now;
        }
        return last;
    }

    void watch_workload() {
        const Counts before = ring_.progress.counts();
        const std::uint64_t expected = 3ULL * options_.processes;
        constexpr unsigned kSteps = 8;
        std::uint64_t next_step = 0;
        bool held = hold_events_ == 0;
        Workload workload(options_);
        while (!workload.ended()) {
            sleep_unless_told_to_stop(milliseconds(20));
            check_readers();
            const std::uint64_t seen = (ring_.progress.counts() - before).total();
            if (ring_.samples.ready()) {
                for (const Event& event : ring_.samples.events()) print("  " + to_text(event));
                ring_.samples.ask(0);
            }
            if (seen >= next_step * expected / kSteps && next_step < kSteps) {
                if (next_step > 0)
                    print(fmt::format("  ... {} of about {} events", seen, expected));
                ring_.samples.ask(next_step == 0 ? 6 : 3);
                next_step = seen * kSteps / expected + 1;
            }
            if (!held && seen >= expected / 2) {
                held = true;
                hold_readers(workload);
            }
        }
    }

    // Both readers do something else while many events happen: the worst that a daemon does to its
    // socket.
    void hold_readers(Workload& workload) {
        struct Held {
            Progress& progress;
            explicit Held(Progress& to_hold) : progress(to_hold) { progress.hold(); }
            ~Held() { progress.release(); }
            Held(const Held&) = delete;
            Held& operator=(const Held&) = delete;
        };
        const Held ring(ring_.progress);
        const Held connector(connector_.progress);
        while (!ring.progress.is_held() || !connector.progress.is_held()) {
            sleep_unless_told_to_stop(milliseconds(1));
            check_readers();
        }
        print(fmt::format("  --- both readers are busy elsewhere for {} events ---", hold_events_));
        const std::uint64_t before = module_counts().total();
        while (module_counts().total() - before < hold_events_ && !workload.ended())
            sleep_unless_told_to_stop(milliseconds(1));
    }

    static nlohmann::json counts_json(const Counts& counts) {
        return {{"forks", counts.forks},
                {"execs", counts.execs},
                {"exits", counts.exits},
                {"total", counts.total()}};
    }

    static nlohmann::json calls_json(const SyscallCounter::Result& all, pid_t tid) {
        nlohmann::json by_number = nlohmann::json::object();
        std::uint64_t sum = 0;
        if (const auto found = all.find(tid); found != all.end()) {
            for (const auto& [number, calls] : found->second) {
                by_number[std::to_string(number)] = calls;
                sum += calls;
            }
        }
        return {{"total", sum}, {"by_number", by_number}};
    }

    nlohmann::json result(const Snapshot& before, const Snapshot& after,
                          const SyscallCounter::Result& calls, double seconds, bool quiet) const {
        utsname name{};
        uname(&name);
        const Counts published = after.published - before.published;
        const auto transport = [&](const char* what, const Counts& received, std::size_t buffer,
                                   pid_t tid) {
            return nlohmann::json{
                {"transport", what},
                {"received", counts_json(received)},
                {"lost", static_cast<std::int64_t>(published.total() - received.total())},
                {"buffer_bytes", buffer},
                {"system_calls", calls_json(calls, tid)},
            };
        };
        nlohmann::json ring =
            transport("ring", after.ring - before.ring, options_.ring_bytes, ring_.progress.tid);
        ring["reported_lost"] = after.ring_lost - before.ring_lost;
        ring["watermark_bytes"] = options_.watermark_bytes;
        nlohmann::json connector =
            transport("proc-connector-recv", after.connector - before.connector,
                      connector_.receive_buffer_bytes, connector_.progress.tid);
        connector["reported_enobufs"] = after.overflows - before.overflows;
        return {
            {"kernel", name.release},
            {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
            {"processes", options_.processes},
            {"workers", options_.workers},
            {"seconds", seconds},
            {"hold_events", hold_events_},
            {"latency_ms", options_.latency.count()},
            {"quiet", quiet},
            {"published", counts_json(published)},
            {"transports", {ring, connector}},
        };
    }

    const StreamOptions options_;
    // The workload must not be over meanwhile: at most half of what is left of it.
    const std::uint64_t hold_events_;
    RingReader ring_;
    ConnectorReader connector_;
};

}  // namespace

nlohmann::json stream(const StreamOptions& options) {
    catch_signals();
    Demo demo(options);
    return demo.run();
}

}  // namespace demo
