// SPDX-License-Identifier: MIT
//
// A guest's fuzzing: the groups and the honest reader that inputs must not
// disturb, and the inputs themselves, carried out by attackers in batches.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/fuzz/control/coverage.h"
#include "tests/fuzz/control/executor.h"
#include "tests/fuzz/control/mutate.h"
#include "tests/fuzz/control/program.h"
#include "tests/guest/producer.h"
#include "tests/guest/raw_netlink.h"

namespace fuzz {

// Who carries inputs out.
enum class Who {
    root,
    user,               // without any capability
    user_namespace,     // root there, nobody here
    network_namespace,  // root of a network namespace of its own, that has no groups
};

std::string name_of(Who who);
void PrintTo(Who who, std::ostream* out);  // NOLINT: GoogleTest looks for this name

// /etc/fuzz.conf, lines of NAME=VALUE; all of them may be missing.
struct Options {
    std::uint64_t seed = 1;           // SEED
    std::chrono::seconds seconds{0};  // SECONDS: of new inputs, in all; else a bounded number
    std::uint64_t most_batches = 1ULL << 40;
    std::string journal;  // JOURNAL: a file that is told each input, and which are new
};
Options read_options();

// What batches in other processes find and count.
struct Shared;

class Session {
  public:
    Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session();

    const Options& options() const { return options_; }
    // The corpus in the tree, by name.
    const std::vector<std::pair<std::string, Program>>& corpus() const { return corpus_; }

    // Carries these out, and checks after each batch that all is well. Failures are GoogleTest's.
    void replay(Who who, const std::vector<Program>& programs);
    // New ones, until the time is over or something failed.
    void explore(Who who, std::chrono::milliseconds time);

    bool is_guided() const { return coverage_ != nullptr; }
    // Distinct addresses in nlmmap that were reached; and how often some in neither that nor the
    // test's producer.
    std::size_t reached() const;
    std::size_t reached_elsewhere() const;
    // What has been done so far, in one line.
    std::string summary() const;

  private:
    class Batch;
    using Next = std::function<std::optional<Program>()>;

    void run_batch(Who who, bool keep_news, const Next& next);
    void expect_all_is_well(Who who);
    std::vector<Program> pool() const;

    Options options_;
    std::vector<std::pair<std::string, Program>> corpus_;
    std::unique_ptr<Coverage> coverage_;
    TextRange nlmmap_;
    TextRange producer_text_;
    Shared* shared_;
    int family_;
    guest::Producer producer_;
    GroupIds groups_;
    std::unique_ptr<guest::RawMember> honest_;
    std::vector<guest::Check> checks_;
    int kernel_log_;
    int journal_ = -1;
    std::string max_ring_bytes_;
    std::uint64_t batches_ = 0;
    std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace fuzz
