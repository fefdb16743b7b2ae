// SPDX-License-Identifier: Apache-2.0
#include "launcher/memory_limit.hpp"

#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace places::launcher {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Files as the kernel shows them, with a machine of 1000 MiB of which 600 are left.
struct kernel : testing::Test {
    kernel() {
        from.groups = folder.path();
        from.machine = folder.put("meminfo",
                                  "MemTotal: 1024000 kB\nMemFree: 1 kB\nMemAvailable: 409600 kB\n"
                                  "SwapTotal: 204800 kB\nSwapFree: 204800 kB\n");
        in_groups("");
    }
    void in_groups(const std::string& lines) { from.own_groups = folder.put("cgroup", lines); }
    void put(const std::string& path, const std::string& text) {
        std::filesystem::create_directories(
            (folder.path() + "/" + path).substr(0, folder.path().size() + 1 + path.rfind('/')));
        folder.put(path, text);
    }
    scratch_folder folder;
    memory_sources from;
};

TEST_F(kernel, without_a_group_it_is_what_the_machine_has) {
    const auto found = memory_left(from);
    EXPECT_EQ(found.limit_bytes, 1000 * mib);
    EXPECT_EQ(found.left_bytes, 600 * mib);
    EXPECT_EQ(found.source, "the machine's memory");
}

TEST_F(kernel, of_version_2_the_narrowest_group_above_counts_too) {
    in_groups("0::/outer/inner\n");
    put("outer/inner/memory.max", "max\n");
    put("outer/inner/memory.current", "1048576\n");
    put("outer/memory.max", std::to_string(100 * mib) + "\n");
    put("outer/memory.current", std::to_string(70 * mib) + "\n");
    put("outer/memory.stat", "anon 5\ninactive_file " + std::to_string(10 * mib) + "\n");
    const auto found = memory_left(from);
    EXPECT_EQ(found.limit_bytes, 100 * mib);
    EXPECT_EQ(found.left_bytes, 40 * mib);  // what the kernel can drop at once is left
    EXPECT_EQ(found.source, folder.path() + "/outer/memory.max");
}

TEST_F(kernel, of_version_1_no_limit_is_none) {
    in_groups("4:memory:/mine\n2:cpu:/other\n");
    put("memory/mine/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/mine/memory.usage_in_bytes", "1048576\n");
    EXPECT_EQ(memory_left(from).source, "the machine's memory");
    put("memory/mine/memory.limit_in_bytes", std::to_string(64 * mib) + "\n");
    const auto found = memory_left(from);
    EXPECT_EQ(found.limit_bytes, 64 * mib);
    EXPECT_EQ(found.left_bytes, 63 * mib);
}

TEST_F(kernel, a_group_that_is_over_its_limit_has_nothing_left) {
    in_groups("0::/\n");
    put("memory.max", "1048576\n");
    put("memory.current", "2097152\n");
    EXPECT_EQ(memory_left(from).left_bytes, 0U);
}

TEST_F(kernel, that_tells_nothing_leaves_all_there_can_be) {
    from = {"/no/such/folder", "/no/such/file", "/no/such/file"};
    EXPECT_EQ(memory_left(from).left_bytes, ~std::uint64_t{0});
}

TEST(bytes_as_text, have_a_unit_and_at_most_one_digit_after_the_point) {
    EXPECT_EQ(to_text_bytes(0), "0 bytes");
    EXPECT_EQ(to_text_bytes(1023), "1023 bytes");
    EXPECT_EQ(to_text_bytes(4096), "4 KiB");
    EXPECT_EQ(to_text_bytes(135168), "132 KiB");
    EXPECT_EQ(to_text_bytes(37 * mib + mib / 2), "37.5 MiB");
    EXPECT_EQ(to_text_bytes(std::uint64_t{1} << 30), "1 GiB");
}

}  // namespace
}  // namespace places::launcher
