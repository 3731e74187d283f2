// SPDX-License-Identifier: MIT
//
// Throws requests at the family that are nearly right, from sockets in every
// state, as root and as others: a fuzzer that knows the grammar of the uapi
// header. Each answer is compared with what the header promises, an honest reader
// gets every byte meanwhile, and the kernel's log stays clean. It first carries
// out the corpus in tests/fuzz/corpus/control, then inputs that it makes of it.
// Where the kernel has KCOV, inputs that reach something new are kept and changed
// further.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

#include "tests/fuzz/control/coverage.h"
#include "tests/fuzz/control/session.h"

namespace fuzz {
namespace {

constexpr std::size_t kAttackers = 4;

// So many of nlmmap's places that KCOV can tell of are reached at least. The corpus and 20 seconds
// of new inputs reach about 825: what is missing from that is for other compilers
// and for changes of the module. Far fewer are reached if nothing sets rings up, or attaches them.
constexpr std::size_t kFloor = 650;

std::unique_ptr<Session>& the_session() {
    static std::unique_ptr<Session> session;
    return session;
}

class SessionEnvironment : public testing::Environment {
  public:
    void SetUp() override { the_session() = std::make_unique<Session>(); }
    void TearDown() override {
        std::printf("fuzz: %s\n", the_session()->summary().c_str());
        the_session().reset();
    }
};

[[maybe_unused]] const auto* const environment =
    testing::AddGlobalTestEnvironment(new SessionEnvironment);

std::string name_of_test(const testing::TestParamInfo<Who>& who) { return name_of(who.param); }

std::vector<Program> corpus() {
    std::vector<Program> programs;
    programs.reserve(the_session()->corpus().size());
    for (const auto& [name, program] : the_session()->corpus()) {
        programs.push_back(program);
    }
    return programs;
}

class Requests : public testing::TestWithParam<Who> {};

INSTANTIATE_TEST_SUITE_P(, Requests,
                         testing::Values(Who::root, Who::user, Who::user_namespace,
                                         Who::network_namespace),
                         name_of_test);

TEST_P(Requests, OfTheCorpusAreAnsweredAsTheHeaderSays) {
    ASSERT_FALSE(corpus().empty()) << "the guest has no /corpus/control";
    the_session()->replay(GetParam(), corpus());
}

TEST_P(Requests, MadeOfItAreAnsweredAsTheHeaderSays) {
    the_session()->explore(GetParam(), std::chrono::duration_cast<std::chrono::milliseconds>(
                                           the_session()->options().seconds) /
                                           kAttackers);
}

TEST(Corpus, IsWrittenAsItIsRead) {
    for (const auto& [name, program] : the_session()->corpus()) {
        EXPECT_EQ(to_text(from_text(to_text(program))), to_text(program)) << name;
        EXPECT_FALSE(program.empty()) << name;
    }
}

// Where the kernel has it: whether it should is asked by the guest itself.
class ReachedCode : public testing::TestWithParam<Who> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ReachedCode);

INSTANTIATE_TEST_SUITE_P(, ReachedCode,
                         testing::ValuesIn(has_kcov() ? std::vector{Who::root}
                                                      : std::vector<Who>{}),
                         name_of_test);

TEST_P(ReachedCode, IsOfNlmmapAndOfMostThatRequestsCanReach) {
    if (the_session()->reached() == 0) {
        the_session()->replay(GetParam(), corpus());
    }
    const std::size_t reached = the_session()->reached();
    std::printf("fuzz: %zu distinct places in nlmmap were reached\n", reached);
    EXPECT_GE(reached, kFloor)
        << "is nlmmap.ko built with KCOV_INSTRUMENT=y, and does the corpus still set rings up?";
    EXPECT_EQ(the_session()->reached_elsewhere(), 0U)
        << "something else is instrumented too, or nlmmap's code does not lie where it is sought";
}

}  // namespace
}  // namespace fuzz
