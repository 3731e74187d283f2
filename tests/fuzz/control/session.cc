// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "tests/fuzz/control/grammar.h"
#include "tests/hostile/attacker.h"

namespace fuzz {

namespace {

constexpr const char* kMaxRingParameter = "/sys/module/nlmmap/parameters/max_ring_bytes";
constexpr const char* kCorpusFile = "/corpus/control";
constexpr std::size_t kBatch = 40;
// Of new inputs, for each attacker: the same on every machine that is fast enough.
constexpr std::uint64_t kMostBatches = 12;
constexpr std::size_t kTextBytes = 4096;
constexpr std::size_t kKept = 512;
constexpr std::size_t kSignals = 1 << 16;
constexpr std::size_t kCodeBytes = 1 << 20;
constexpr std::uint32_t kHonestRing = 4 << 20;
// Payload of what is published while attackers run.
constexpr std::uint32_t kMinBytes = 8;
constexpr std::uint32_t kMaxPayload = 700;
constexpr std::uint64_t kEndless = 1ULL << 40;

// What the kernel says when something is wrong, so that the inputs can be told. The guest looks at
// the whole log later, and judges KCSAN's reports, of which the core has some of its own.
constexpr std::array<std::string_view, 13> kSplats = {
    "BUG:",          "WARNING:",         "KASAN",       "UBSAN",
    "Oops",          "refcount_t",       "ODEBUG",      "protection fault",
    "corruption",    "blocked for more", "soft lockup", "locking dependency",
    "suspicious RCU"};
constexpr std::string_view kJudgedLater = "KCSAN";

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

std::string file_text(const std::string& name) {
    std::ifstream file(name);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

template <std::size_t Bytes>
void keep_text(std::array<char, Bytes>& into, const std::string& text) {
    const std::size_t bytes = std::min(text.size(), Bytes - 1);
    std::memcpy(into.data(), text.data(), bytes);
    into[bytes] = '\0';
}

// Entries begin with "== NAME".
std::vector<std::pair<std::string, Program>> read_corpus() {
    std::vector<std::pair<std::string, Program>> corpus;
    std::istringstream in(file_text(kCorpusFile));
    std::string name;
    std::string text;
    const auto take = [&] {
        if (name.empty()) {
            return;
        }
        try {
            corpus.emplace_back(name, from_text(text));
        } catch (const std::runtime_error& error) {
            throw std::runtime_error("corpus entry " + name + ": " + error.what());
        }
    };
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("== ")) {
            take();
            name = line.substr(3);
            text.clear();
        } else {
            text += line + '\n';
        }
    }
    take();
    return corpus;
}

}  // namespace

struct Shared {
    Tally tally;
    std::array<std::array<std::uint64_t, 2>, kGroups.size()> published;  // copied, in place
    std::uint64_t signal_count;
    std::uint64_t elsewhere;
    std::uint64_t history_count;
    std::array<std::array<char, kTextBytes>, kBatch> history;  // of the batch under way
    std::uint64_t kept_count;
    std::array<std::array<char, kTextBytes>, kKept> kept;
    std::array<std::uint8_t, kSignals> signals;
    std::array<std::uint8_t, kCodeBytes> code;
};

std::string name_of(Who who) {
    constexpr std::array kNames = {"root", "user", "user_namespace", "network_namespace"};
    return kNames.at(static_cast<std::size_t>(who));
}

void PrintTo(Who who, std::ostream* out) { *out << name_of(who); }

Options read_options() {
    Options options;
    std::ifstream file("/etc/fuzz.conf");
    for (std::string line; std::getline(file, line);) {
        const std::size_t equals = line.find('=');
        const std::string name = line.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : line.substr(equals + 1);
        if (name == "SEED") {
            options.seed = std::stoull(value);
        } else if (name == "SECONDS") {
            options.seconds = std::chrono::seconds(std::stoul(value));
        } else if (name == "JOURNAL") {
            options.journal = value;
        } else {
            throw std::runtime_error("/etc/fuzz.conf: there is no " + name);
        }
    }
    if (options.seconds.count() == 0) {
        const char* patience = std::getenv("NLMMAP_PATIENCE");
        const bool patient = patience != nullptr && std::string_view(patience) != "1";
        options.seconds = std::chrono::seconds(patient ? 20 : 14);
        options.most_batches = kMostBatches;
    }
    return options;
}

// What runs in the attacker's process.
class Session::Batch final : public Publisher {
  public:
    Batch(Session& session, Who who)
        : session_(session),
          shared_(*session.shared_),
          executor_(rights_of(who), session.groups_, session.family_, *this, shared_.tally) {}

    static Rights rights_of(Who who) {
        return {.admin = who == Who::root || who == Who::network_namespace,
                .sees_groups = who != Who::network_namespace,
                .attaches = who == Who::root};
    }

    static void become(Who who) {
        hostile::become(who == Who::root   ? hostile::Attacker::root
                        : who == Who::user ? hostile::Attacker::user
                                           : hostile::Attacker::user_namespace);
        if (who == Who::network_namespace && unshare(CLONE_NEWNET) != 0) {
            fail("unshare(CLONE_NEWNET)");
        }
    }

    // False if something is wrong.
    bool carry_out(Program program, bool keep_news) {
        std::vector<std::size_t> news;
        std::string wrong = carry_out_once(program, &news);
        if (wrong.empty() && !news.empty()) {
            if (keep_news) {
                minimise(program, news);
                keep(program);
            }
            for (const std::size_t signal : news) {
                shared_.signals.at(signal) = 1;
            }
            shared_.signal_count += news.size();
        }
        if (!wrong.empty()) {
            ADD_FAILURE() << wrong << "\nThe input, which belongs into tests/fuzz/corpus/control/"
                          << " once that is mended:\n"
                          << to_text(program);
        }
        return wrong.empty();
    }

    void publish(unsigned group, unsigned count, bool in_place) override {
        std::uint64_t& next = shared_.published.at(group).at(in_place ? 1 : 0);
        const guest::Published done =
            session_.producer_.publish(order(session_.groups_[group], in_place, count, next));
        next += count;
        // Nobody may listen but the honest reader, who counts.
        EXPECT_EQ(done.accepted + done.skipped, count)
            << "publishing was refused: " << strerror(done.error);
    }

    static guest::Order order(std::uint32_t group, bool in_place, std::uint64_t count,
                              std::uint64_t first) {
        return {.group = group,
                .count = count,
                .min_bytes = kMinBytes,
                .max_bytes = kMaxPayload,
                .in_place = in_place,
                .first_producer = in_place ? 1U : 0U,
                .first_number = first};
    }

  private:
    std::string carry_out_once(const Program& program, std::vector<std::size_t>* news) {
        const std::string text = to_text(program);
        keep_text(shared_.history.at(shared_.history_count % kBatch), text);
        ++shared_.history_count;
        journal("run", text);
        if (!session_.coverage_) {
            return executor_.run(program);
        }
        session_.coverage_->reset();
        std::string wrong = executor_.run(program);
        collect(*news);
        return wrong;
    }

    // Which pairs of places, one reached after the other, are new.
    void collect(std::vector<std::size_t>& news) {
        std::uint64_t before = 0;
        for (const std::uint64_t at : session_.coverage_->reached()) {
            if (!session_.nlmmap_.contains(at)) {
                shared_.elsewhere += session_.producer_text_.contains(at) ? 0 : 1;
                continue;
            }
            shared_.code.at((at - session_.nlmmap_.begin) % kCodeBytes) = 1;
            const std::uint64_t mixed = (at ^ (before << 1)) * 0x9e3779b97f4a7c15ULL;
            const std::size_t signal = mixed >> 48;
            before = at;
            if (shared_.signals.at(signal) == 0 && std::ranges::find(news, signal) == news.end()) {
                news.push_back(signal);
            }
        }
    }

    bool still_has(const Program& program, const std::vector<std::size_t>& news) {
        std::vector<std::size_t> now;
        return carry_out_once(program, &now).empty() &&
               std::ranges::all_of(news, [&](std::size_t signal) {
                   return std::ranges::find(now, signal) != now.end();
               });
    }

    // Leaves out what the news do not need.
    void minimise(Program& program, const std::vector<std::size_t>& news) {
        for (std::size_t at = program.size(); at-- > 0;) {
            Program shorter = program;
            shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(at));
            if (still_has(shorter, news)) {
                program = std::move(shorter);
                continue;
            }
            for (std::size_t inner = program[at].messages.size(); inner-- > 0;) {
                shorter = program;
                auto& messages = shorter[at].messages;
                messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(inner));
                if (still_has(shorter, news)) {
                    program = shorter;
                }
            }
        }
    }

    void keep(const Program& program) {
        const std::string text = to_text(program);
        if (shared_.kept_count < kKept && text.size() < kTextBytes) {
            keep_text(shared_.kept.at(shared_.kept_count), text);
            ++shared_.kept_count;
        }
        journal("new", text);
    }

    // Written before the input is carried out: the machine may not survive it.
    void journal(std::string_view what, const std::string& text) const {
        if (session_.journal_ < 0) {
            return;
        }
        const std::string entry = std::string(what) + '\n' + text + "end\n";
        for (std::size_t at = 0; at < entry.size();) {
            const ssize_t written = write(session_.journal_, entry.data() + at, entry.size() - at);
            if (written <= 0) {
                return;
            }
            at += static_cast<std::size_t>(written);
        }
        tcdrain(session_.journal_);
    }

    Session& session_;
    Shared& shared_;
    Executor executor_;
};

Session::Session() : options_(read_options()), corpus_(read_corpus()), family_(guest::family()) {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fail("mmap");
    }
    shared_ = new (memory) Shared{};
    if (has_kcov()) {
        coverage_ = std::make_unique<Coverage>();
        nlmmap_ = module_text("nlmmap");
        producer_text_ = module_text("nlmmap_test");
    }
    for (unsigned i = 0; i < kGroupCount; ++i) {
        const bool filler = i >= kGroups.size();
        const std::string name = filler ? "fuzz-filler-" + std::to_string(i - kGroups.size())
                                        : std::string(kGroups.at(i));
        groups_.push_back(producer_.add_group(name, i == kPrivate ? 0 : NLMMAP_GROUP_PUBLIC,
                                              i == kLarge ? kLargeMaxBytes : kMaxBytes));
    }
    honest_ = std::make_unique<guest::RawMember>(kGroups[kPublic], kHonestRing);
    for (const bool in_place : {false, true}) {
        checks_.emplace_back(Batch::order(groups_[kPublic], in_place, kEndless, 0));
    }
    std::ifstream(kMaxRingParameter) >> max_ring_bytes_;
    std::ofstream(kMaxRingParameter) << kMaxRingBytes << std::flush;
    kernel_log_ = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (kernel_log_ < 0 || lseek(kernel_log_, 0, SEEK_END) < 0) {
        fail("opening /dev/kmsg");
    }
    if (!options_.journal.empty()) {
        journal_ = open(options_.journal.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
        if (journal_ < 0) {
            fail("opening " + options_.journal);
        }
    }
}

Session::~Session() {
    std::ofstream(kMaxRingParameter) << max_ring_bytes_ << std::flush;
    close(kernel_log_);
    close(journal_);
    munmap(shared_, sizeof(Shared));
}

void Session::run_batch(Who who, bool keep_news, const Next& next) {
    ++batches_;
    shared_->history_count = 0;
    std::string wrong;
    {
        hostile::Assault assault(hostile::Attacker::root, [&] {
            if (coverage_) {
                coverage_->trace_me();
            }
            Batch::become(who);
            Batch batch(*this, who);
            for (auto program = next(); program; program = next()) {
                if (!batch.carry_out(std::move(*program), keep_news)) {
                    break;
                }
            }
        });
        wrong = assault.outcome();
    }
    if (!wrong.empty()) {
        const std::uint64_t count = shared_->history_count;
        ADD_FAILURE() << "seed " << options_.seed << ", batch " << batches_ << ", " << name_of(who)
                      << ": " << wrong << "\nThe last input was:\n"
                      << (count == 0 ? "none" : shared_->history.at((count - 1) % kBatch).data());
    }
    expect_all_is_well(who);
}

void Session::expect_all_is_well(Who who) {
    // The honest pair: what attackers had published meanwhile, and something of its own.
    auto& published = shared_->published[kPublic];
    for (const bool in_place : {false, true}) {
        std::uint64_t& next = published.at(in_place ? 1 : 0);
        producer_.publish(Batch::order(groups_[kPublic], in_place, 2, next));
        next += 2;
    }
    try {
        while (const auto record = honest_->ring.next()) {
            checks_.at(record->message()->nlmsg_type == NLMMAP_MSG_PRODUCER_MIN ? 0 : 1)
                .message(record->message());
        }
        honest_->ring.release();
    } catch (const std::exception& error) {
        ADD_FAILURE() << "the honest reader was given something wrong: " << error.what();
    }
    for (std::size_t i = 0; i < checks_.size(); ++i) {
        EXPECT_EQ(checks_[i].received(), published.at(i))
            << "the honest reader of what was published " << (i == 0 ? "by copy" : "in place")
            << ", after a batch of " << name_of(who);
    }
    EXPECT_EQ(honest_->ring.lost(), 0U) << "the honest reader lost messages";

    std::array<char, 8192> line{};
    for (;;) {
        const ssize_t got = read(kernel_log_, line.data(), line.size());
        if (got < 0 && errno == EPIPE) {
            continue;  // overwritten before we came
        }
        if (got <= 0) {
            break;
        }
        const std::string_view text(line.data(), static_cast<std::size_t>(got));
        if (text.find(kJudgedLater) == std::string_view::npos &&
            std::ranges::any_of(kSplats, [&](std::string_view splat) {
                return text.find(splat) != std::string_view::npos;
            })) {
            std::string inputs;
            for (std::size_t i = 0; i < std::min<std::uint64_t>(shared_->history_count, kBatch);
                 ++i) {
                inputs += shared_->history.at(i).data() + std::string("--\n");
            }
            ADD_FAILURE() << "the kernel complains: " << text << "One of these inputs (seed "
                          << options_.seed << ", batch " << batches_ << ", " << name_of(who)
                          << "):\n"
                          << inputs;
            return;
        }
    }
}

void Session::replay(Who who, const std::vector<Program>& programs) {
    for (std::size_t at = 0; at < programs.size() && !testing::Test::HasFailure();) {
        const std::size_t end = std::min(at + kBatch, programs.size());
        std::size_t inner = at;
        run_batch(who, false, [&]() -> std::optional<Program> {
            return inner < end ? std::optional(programs[inner++]) : std::nullopt;
        });
        at = end;
    }
}

std::vector<Program> Session::pool() const {
    std::vector<Program> programs;
    programs.reserve(corpus_.size() + shared_->kept_count);
    for (const auto& [name, program] : corpus_) {
        programs.push_back(program);
    }
    for (std::size_t i = 0; i < shared_->kept_count; ++i) {
        programs.push_back(from_text(shared_->kept.at(i).data()));
    }
    return programs;
}

void Session::explore(Who who, std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    const std::uint64_t first = batches_;
    const std::uint64_t inputs_before = shared_->tally.inputs;
    const auto over = [&] { return std::chrono::steady_clock::now() >= end; };
    do {
        const std::vector<Program> programs = pool();
        Mutator mutator(options_.seed * 1'000'003 + batches_);
        std::size_t count = 0;
        run_batch(who, true, [&]() -> std::optional<Program> {
            // The first batch is whole, however slow the kernel.
            if (count++ == kBatch || (batches_ > first + 1 && over())) {
                return std::nullopt;
            }
            if (programs.empty() || mutator.one_in(4)) {
                return mutator.generate();
            }
            // The newest are the least known.
            const std::size_t size = programs.size();
            const std::size_t at =
                mutator.one_in(2) ? mutator.below(size) : size - 1 - mutator.below((size + 3) / 4);
            return mutator.mutate(programs[at], programs[mutator.below(size)]);
        });
    } while (batches_ < first + options_.most_batches && !over() && !testing::Test::HasFailure());
    EXPECT_GT(shared_->tally.inputs, inputs_before) << "not a single input was carried out";
}

std::size_t Session::reached() const {
    return static_cast<std::size_t>(std::ranges::count(shared_->code, std::uint8_t{1}));
}

std::size_t Session::reached_elsewhere() const { return shared_->elsewhere; }

std::string Session::summary() const {
    const Tally& tally = shared_->tally;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_;
    std::ostringstream text;
    text << tally.inputs << " inputs in " << static_cast<int>(took.count()) << " s, "
         << tally.requests << " requests: " << tally.carried_out << " carried out, "
         << tally.refused << " refused";
    if (is_guided()) {
        text << "; " << reached() << " places in nlmmap reached, " << shared_->signal_count
             << " pairs of them, " << shared_->kept_count << " inputs kept";
    }
    return text.str();
}

}  // namespace fuzz
