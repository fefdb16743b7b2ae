// SPDX-License-Identifier: Apache-2.0
// The table of registered entries. Each test is a process of its own, since nothing leaves a table.
#include "core/child.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <unistd.h>

namespace {

using places::detail::registration;

int first_entry(void*, places::inbox&) { return 1; }
int second_entry(void*, places::inbox&) { return 2; }

/// Registers "twice" at a.hpp:3, and again at `file`:`line`; prints what is thrown, and ends the
/// process.
[[noreturn]] void register_twice(const char* file, int line) {
    static const registration one("twice", first_entry, nullptr, false, "a.hpp", 3);
    static const registration between("other", first_entry, nullptr, false, "a.hpp", 4);
    static const registration two("twice", second_entry, nullptr, false, file, line);
    try {
        places::detail::check_registrations();
        std::fputs("none is refused", stderr);
    } catch (const places::error& e) {
        std::fputs(e.what(), stderr);
    }
    ::_exit(0);
}

TEST(registrations_death, of_one_name_are_refused_naming_where_both_are) {
    EXPECT_EXIT(register_twice("b.cpp", 5), testing::ExitedWithCode(0),
                "^two entries are registered as \"twice\", at a.hpp:3 in the program and at "
                "b.cpp:5 in the program: give one of them another name");
}

TEST(registrations_death, of_one_line_of_a_header_are_the_same_entry) {
    EXPECT_EXIT(register_twice("a.hpp", 3), testing::ExitedWithCode(0), "^none is refused");
}

}  // namespace
