// SPDX-License-Identifier: MIT
#include "tests/bench/report/report.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace nlmmap_bench {
namespace {

std::string row(const std::string& transport, double produce, double consume,
                std::uint32_t payload = 64, std::uint32_t batch = 256, std::uint32_t members = 1) {
    return nlohmann::json{{"transport", transport},
                          {"payload_bytes", payload},
                          {"datagram_bytes", payload < 16 ? 16 : payload},
                          {"batch", batch},
                          {"members", members},
                          {"rounds", 31},
                          {"kernel", "6.12"},
                          {"produce", produce},
                          {"consume", consume},
                          {"total", produce + consume}}
               .dump() +
           "\n";
}

std::vector<Row> read(const std::string& text) {
    std::istringstream input(text);
    return read_rows(input);
}

std::string complaint(const std::string& text) {
    try {
        read(text);
    } catch (const BadMeasurement& error) {
        return error.what();
    }
    return "none";
}

TEST(BenchReport, ReadsEveryRowOfAWholeMeasurement) {
    const std::vector<Row> rows = read("rows 2\r\n" + row("floor", 45.1, 35.1) +
                                       row("ring-copy", 133, 12.4, 8, 16, 64) + "pass 2\n");
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0].transport, "floor");
    EXPECT_DOUBLE_EQ(rows[0].total, 80.2);
    EXPECT_EQ(rows[1].payload_bytes, 8U);
    EXPECT_EQ(rows[1].datagram_bytes, 16U);
    EXPECT_EQ(rows[1].batch, 16U);
    EXPECT_EQ(rows[1].members, 64U);
}

TEST(BenchReport, PassesOnTheSentenceOfAGuestThatFailed) {
    EXPECT_EQ(complaint("rows 2\n" + row("floor", 45, 35) + "fail message 3 of 16 has 5 bytes\n"),
              "the guest failed: message 3 of 16 has 5 bytes");
}

TEST(BenchReport, RefusesAFailureAfterTheVerdict) {
    EXPECT_NE(complaint("rows 1\n" + row("floor", 45, 35) + "pass 1\nfail the kernel complained\n"),
              "none");
}

TEST(BenchReport, RefusesAMeasurementThatIsCutOff) {
    EXPECT_EQ(complaint("rows 2\n" + row("floor", 45, 35)), "the guest did not come to its end");
    EXPECT_EQ(complaint(""), "the guest did not come to its end");
}

TEST(BenchReport, RefusesMissingAndRepeatedRows) {
    EXPECT_EQ(complaint("rows 2\n" + row("floor", 45, 35) + "pass 2\n"), "1 rows of 2 are there");
    EXPECT_NE(complaint("rows 2\n" + row("floor", 45, 35) + row("floor", 45, 35) + "pass 2\n")
                  .find("a row came twice"),
              std::string::npos);
}

TEST(BenchReport, RefusesWhatIsNoRow) {
    EXPECT_NE(complaint("rows 1\nKernel panic\npass 1\n").find("Kernel panic"), std::string::npos);
    EXPECT_NE(complaint("rows 1\n{\"transport\": \"floor\"}\npass 1\n"), "none");
    EXPECT_NE(complaint("rows 1\n" + row("ring-copy", 0, 12) + "pass 1\n")
                  .find("it seems to cost nothing"),
              std::string::npos);
}

TEST(BenchReport, WritesTheFieldsThatOthersRead) {
    const nlohmann::json array =
        to_json(read("rows 1\n" + row("ring-inplace", 100.1, 12.4) + "pass 1\n"));
    ASSERT_TRUE(array.is_array());
    ASSERT_EQ(array.size(), 1U);
    EXPECT_EQ(array[0]["transport"], "ring-inplace");
    EXPECT_EQ(array[0]["payload_bytes"], 64);
    EXPECT_EQ(array[0]["batch"], 256);
    EXPECT_EQ(array[0]["members"], 1);
    EXPECT_DOUBLE_EQ(array[0]["produce"], 100.1);
    EXPECT_DOUBLE_EQ(array[0]["consume"], 12.4);
    EXPECT_DOUBLE_EQ(array[0]["total"], 112.5);
}

TEST(BenchReport, SaysWhichGoalsAreMissed) {
    std::ostringstream table;
    print_table(read("rows 5\n" + row("ring-copy", 133, 16) + row("ring-copy-epoll", 133, 16) +
                     row("ring-inplace", 121, 12) + row("ring-attached", 2800, 26) +
                     row("netlink-recvmsg", 2400, 2300) + "pass 5\n"),
                table);
    const auto line_with = [text = table.str()](const std::string& word) {
        const std::size_t at = text.find(word);
        return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
    };
    EXPECT_NE(line_with("publish, copied in").find(" met"), std::string::npos);
    EXPECT_NE(line_with("publish, filled in place").find("MISSED"), std::string::npos);
    EXPECT_NE(line_with("consume, through").find("MISSED"), std::string::npos);
    EXPECT_NE(line_with("consume, from an attached ring").find("MISSED"), std::string::npos);
    EXPECT_NE(line_with("more with the socket").find(" met"), std::string::npos);
    EXPECT_NE(line_with("attached, all of it").find(" met"), std::string::npos);
}

TEST(BenchReport, FindsNothingMissedWhereEveryGoalIsJustMet) {
    EXPECT_EQ(
        missed_goals(read("rows 3\n" + row("ring-copy", 150, 15) + row("ring-inplace", 120, 12) +
                          row("ring-attached", 2800, 25) + "pass 3\n")),
        std::vector<std::string>{});
}

TEST(BenchReport, FindsAnAttachedRingThatTakesATenthOfAnInstructionTooMuchToRead) {
    EXPECT_EQ(
        missed_goals(read("rows 3\n" + row("ring-copy", 150, 15) + row("ring-inplace", 120, 12) +
                          row("ring-attached", 2800, 25.1) + "pass 3\n")),
        std::vector<std::string>{"consume, from an attached ring: 25.1 instructions per "
                                 "message, not 25 at most"});
}

TEST(BenchReport, FindsEachGoalThatIsMissed) {
    EXPECT_EQ(
        missed_goals(read("rows 3\n" + row("ring-copy", 151, 16) + row("ring-inplace", 121, 12) +
                          row("ring-attached", 2800, 26) + "pass 3\n"))
            .size(),
        4U);
}

TEST(BenchReport, TakesAGoalWhoseRowIsNotThereForMissed) {
    // Other batches, sizes and numbers of members do not stand for it.
    const std::vector<std::string> missed = missed_goals(
        read("rows 5\n" + row("ring-copy", 133, 12) + row("ring-inplace", 100, 12) +
             row("ring-attached", 2800, 12, 64, 16) + row("ring-attached", 2800, 12, 256, 256) +
             row("ring-attached", 2800, 12, 64, 256, 8) + "pass 5\n"));
    EXPECT_EQ(missed, std::vector<std::string>{"consume, from an attached ring: ring-attached was "
                                               "not measured with 64 bytes, batch 256"});
}

TEST(BenchReport, PlotsTheTotalsOfBatch16) {
    std::ostringstream data;
    print_plot_data(read("rows 3\n" + row("floor", 40, 30, 8, 16) + row("floor", 41, 31, 64, 16) +
                         row("ring-copy", 133, 12, 64, 16) + "pass 3\n"),
                    data);
    EXPECT_EQ(data.str(), "payload_bytes floor ring-copy\n8 70 NaN\n64 72 145\n");
}

}  // namespace
}  // namespace nlmmap_bench
