// SPDX-License-Identifier: Apache-2.0
// What the handles of a root say after its nursery has been killed: the same each time.
#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>

namespace {

std::string output_of_a_root() {
    std::string text;
    FILE* const root = ::popen(ORPHANED_ROOT, "r");
    if (!root) return "cannot start " ORPHANED_ROOT;
    std::array<char, 256> part{};
    while (std::fgets(part.data(), part.size(), root)) text += part.data();
    const int how = ::pclose(root);
    return how == 0 ? text : text + "status " + std::to_string(how);
}

}  // namespace

TEST(orphaned_root, hears_the_same_in_300_rounds) {
    const auto dead = make_error_code(places::errc::peer_dead).message();
    const auto killed = to_string(places::exit_status{.signalled = true, .value = SIGKILL});
    std::string expected;
    for (int i = 0; i < 8; ++i) expected += "thread: " + killed + "\n";
    expected += "remote: " + dead + "\n";
    for (int i = 0; i < 4; ++i) expected += "local: " + dead + ", " + killed + ", " + killed + "\n";
    expected += "connection: " + dead + ", " + killed + "\nnode: down\n";
    const auto down = make_error_code(places::errc::node_down).message();
    for (int i = 0; i < 2; ++i) expected += "wait: " + down + "\n";
    expected += "on_down: has run\n";
    for (int i = 0; i < 300; ++i) ASSERT_EQ(output_of_a_root(), expected) << "round " << i;
}
