// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.hpp"

#include "bench/plot.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace places::bench {
namespace {

std::unique_ptr<histogram> one_to(std::uint64_t last) {
    auto h = std::make_unique<histogram>();
    for (std::uint64_t v = 1; v <= last; ++v) h->record(v);
    return h;
}

TEST(histogram, an_empty_one_is_all_zero) {
    const auto h = one_to(0);
    EXPECT_EQ(h->total(), 0u);
    EXPECT_EQ(h->max(), 0u);
    EXPECT_EQ(h->at_percentile(50), 0u);
    EXPECT_EQ(h->mean(), 0);
    EXPECT_TRUE(h->steps().empty());
}

TEST(histogram, values_below_2048_are_exact) {
    const auto h = one_to(2000);
    EXPECT_EQ(h->at_percentile(0), 1u);
    EXPECT_EQ(h->at_percentile(50), 1000u);
    EXPECT_EQ(h->at_percentile(99), 1980u);
    EXPECT_EQ(h->at_percentile(99.9), 1998u);
    EXPECT_EQ(h->at_percentile(100), 2000u);
    EXPECT_DOUBLE_EQ(h->mean(), 1000.5);
    EXPECT_NEAR(h->deviation(), 577.35, 0.01);
}

TEST(histogram, every_value_is_found_again_to_three_digits) {
    const auto h = std::make_unique<histogram>();
    for (std::uint64_t v = 1; v < histogram::value_max; v = v * 9 / 8 + 1) {
        h->clear();
        h->record(v);
        h->record(histogram::value_max);
        const auto found = h->at_percentile(50);
        EXPECT_GE(found, v);
        EXPECT_LE(static_cast<double>(found - v), static_cast<double>(v) / 1000);
    }
}

TEST(histogram, a_value_beyond_the_largest_counts_as_that) {
    const auto h = std::make_unique<histogram>();
    h->record(~std::uint64_t{0});
    EXPECT_EQ(h->max(), histogram::value_max);
    EXPECT_EQ(h->at_percentile(50), histogram::value_max);
}

TEST(histogram, two_added_are_as_if_recorded_into_one) {
    const auto low = one_to(1000);
    const auto high = std::make_unique<histogram>();
    for (std::uint64_t v = 1001; v <= 2000; ++v) high->record(v);
    low->add(*high);
    EXPECT_EQ(low->total(), 2000u);
    EXPECT_EQ(low->max(), 2000u);
    EXPECT_EQ(low->at_percentile(50), 1000u);
}

TEST(histogram, steps_come_closer_to_the_end_and_end_there) {
    const auto steps = one_to(2000)->steps();
    ASSERT_GT(steps.size(), 20u);
    EXPECT_EQ(steps.front().percentile, 0);
    EXPECT_EQ(steps.front().value, 1u);
    // Five to the half, five more to three quarters.
    EXPECT_DOUBLE_EQ(steps[5].percentile, 0.5);
    EXPECT_EQ(steps[5].value, 1000u);
    EXPECT_DOUBLE_EQ(steps[10].percentile, 0.75);
    EXPECT_EQ(steps.back().percentile, 1);
    EXPECT_EQ(steps.back().value, 2000u);
    EXPECT_EQ(steps.back().count, 2000u);
    EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end(), [](const auto& a, const auto& b) {
        return a.percentile < b.percentile;
    }));
}

TEST(histogram, hgrm_is_laid_out_as_hdrhistogram_prints_it) {
    const auto text = one_to(2000)->to_hgrm();
    EXPECT_TRUE(
        text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
                         "       0.001 0.000000000000          1           1.00\n"))
        << text;
    EXPECT_NE(text.find("       1.000 0.500000000000       1000           2.00\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("       2.000 1.000000000000       2000\n"), std::string::npos) << text;
    EXPECT_NE(text.find(", StdDeviation   =        0.577]\n"
                        "#[Max     =        2.000, Total count    =         2000]\n"),
              std::string::npos)
        << text;
}

/// Golden: what HdrHistogram 2.1.11 for Java prints of these values with three digits, five ticks
/// and a scale of 1000. From 2048 on a line tells the largest value of its bucket.
TEST(histogram, hgrm_has_the_lines_of_hdrhistogram_and_no_others) {
    const auto h = std::make_unique<histogram>();
    for (const int v : {1, 2, 3, 4, 5, 6, 7, 7, 7, 3000, 5001}) h->record(v);
    EXPECT_EQ(h->to_hgrm(),
              "       Value     Percentile TotalCount 1/(1-Percentile)\n"
              "\n"
              "       0.001 0.000000000000          1           1.00\n"
              "       0.002 0.100000000000          2           1.11\n"
              "       0.003 0.200000000000          3           1.25\n"
              "       0.004 0.300000000000          4           1.43\n"
              "       0.005 0.400000000000          5           1.67\n"
              "       0.006 0.500000000000          6           2.00\n"
              "       0.007 0.550000000000          9           2.22\n"
              "       0.007 0.600000000000          9           2.50\n"
              "       0.007 0.650000000000          9           2.86\n"
              "       0.007 0.700000000000          9           3.33\n"
              "       0.007 0.750000000000          9           4.00\n"
              "       0.007 0.775000000000          9           4.44\n"
              "       0.007 0.800000000000          9           5.00\n"
              "       3.001 0.825000000000         10           5.71\n"
              "       3.001 0.850000000000         10           6.67\n"
              "       3.001 0.875000000000         10           8.00\n"
              "       3.001 0.887500000000         10           8.89\n"
              "       3.001 0.900000000000         10          10.00\n"
              "       5.003 0.912500000000         11          11.43\n"
              "       5.003 1.000000000000         11\n"
              "#[Mean    =        0.731, StdDeviation   =        1.600]\n"
              "#[Max     =        5.003, Total count    =           11]\n"
              "#[Buckets =           26, SubBuckets     =         2048]\n");
    h->clear();
    h->record(1'000'000'000);
    EXPECT_EQ(h->to_hgrm(),
              "       Value     Percentile TotalCount 1/(1-Percentile)\n"
              "\n"
              " 1000341.503 0.000000000000          1           1.00\n"
              " 1000341.503 1.000000000000          1\n"
              "#[Mean    =  1000079.360, StdDeviation   =        0.000]\n"
              "#[Max     =  1000341.503, Total count    =            1]\n"
              "#[Buckets =           26, SubBuckets     =         2048]\n");
}

TEST(plot, a_line_of_a_drawing_stays_inside_it) {
    const auto svg = latency_svg("a < b", {{"one", {{1, 0.5}, {100, 20}}}});
    EXPECT_TRUE(svg.starts_with("<svg "));
    EXPECT_TRUE(svg.ends_with("</svg>\n"));
    EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
    EXPECT_NE(svg.find("99%"), std::string::npos);
    // x from the left edge of the axes to the right one.
    EXPECT_NE(svg.find("points=\"80.0,"), std::string::npos) << svg;
    EXPECT_NE(svg.find(" 740.0,"), std::string::npos) << svg;
}

}  // namespace
}  // namespace places::bench
