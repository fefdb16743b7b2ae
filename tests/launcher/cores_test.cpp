// SPDX-License-Identifier: Apache-2.0
#include "launcher/cores.hpp"

#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <sched.h>

namespace places::launcher {
namespace {

std::size_t cores_of_affinity() {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
    return static_cast<std::size_t>(CPU_COUNT(&set));
}

struct groups : testing::Test {
    std::size_t with_v2(const std::string& max) {
        folder.put("cpu.max", max + "\n");
        return usable_cores(folder.path().c_str());
    }
    std::size_t with_v1(const std::string& quota, const std::string& period) {
        std::filesystem::create_directory(folder.path() + "/cpu");
        folder.put("cpu/cpu.cfs_quota_us", quota + "\n");
        folder.put("cpu/cpu.cfs_period_us", period + "\n");
        return usable_cores(folder.path().c_str());
    }
    scratch_folder folder;
    const std::size_t all = cores_of_affinity();
    const std::size_t two = std::min<std::size_t>(all, 2);
};

TEST_F(groups, without_a_quota_it_is_all_cores_of_the_affinity) {
    EXPECT_EQ(usable_cores(folder.path().c_str()), all);
    EXPECT_EQ(usable_cores("/no/such/folder"), all);
    EXPECT_EQ(with_v2("max 100000"), all);
}

TEST_F(groups, a_quota_of_version_2_counts_whole_cores_and_at_least_one) {
    EXPECT_EQ(with_v2("100000 100000"), 1U);
    EXPECT_EQ(with_v2("10000 100000"), 1U);
    EXPECT_EQ(with_v2("199999 100000"), 1U);
    EXPECT_EQ(with_v2("250000 100000"), two);
    EXPECT_EQ(with_v2("100000000 100000"), all);
}

TEST_F(groups, a_quota_of_version_1_is_read_where_there_is_no_version_2) {
    EXPECT_EQ(with_v1("-1", "100000"), all);
    EXPECT_EQ(with_v1("50000", "100000"), 1U);
    EXPECT_EQ(with_v1("100000", "50000"), two);
    EXPECT_EQ(with_v1("100000000", "100000"), all);
}

TEST_F(groups, what_makes_no_quota_is_none) {
    for (const auto* text : {"", "-1 100000", "100000 0", "100000", "100000 -5", "x y"}) {
        EXPECT_EQ(with_v2(text), all) << text;
    }
}

}  // namespace
}  // namespace places::launcher
