// SPDX-License-Identifier: Apache-2.0
#include "core/text.hpp"

#include <places/core/error.hpp>
#include <places/core/server.hpp>

#include <gtest/gtest.h>

#include <string>

namespace places::detail {
namespace {

// Escape, carriage return, bell, CSI of C1, a mark that turns the order round, a byte that is none
// of UTF-8.
const std::string hostile =
    "a\x1B[2J\r\a\xC2\x9B"
    "b\xE2\x80\xAE"
    "c\xFF"
    "d";
const std::string shown = "a?[2J???b?c?d";

TEST(printable_text, keeps_nothing_that_a_terminal_obeys) {
    EXPECT_EQ(printable_text(hostile), shown);
    EXPECT_EQ(printable_text("caf\xC3\xA9\tx"), "caf\xC3\xA9\tx");
}

TEST(printable_text, is_one_line_however_many_there_were) {
    EXPECT_EQ(printable_text("one\n2026-01-01T00:00:00.000Z error root: two\n"),
              "one\\n2026-01-01T00:00:00.000Z error root: two\\n");
}

TEST(printable_text, is_whole_also_where_it_is_a_mebibyte) {
    const std::string long_one(1 << 20, 'x');
    EXPECT_EQ(printable_text(long_one), long_one);
    EXPECT_EQ(printable_text(std::string(1 << 20, '\x1B')), std::string(1 << 20, '?'));
}

TEST(printable_text, is_cut_to_the_bytes_that_there_are_between_characters) {
    EXPECT_EQ(printable_text("abcdef", 6), "abcdef");
    EXPECT_EQ(printable_text("abcdefg", 6), "abc...");
    EXPECT_EQ(printable_text("ab\xC3\xA9xyz", 6), "ab...");
    EXPECT_EQ(printable_text(printable_text("abcdefg", 6), 6), "abc...");
}

TEST(whole_characters, leave_out_a_character_that_is_only_begun) {
    EXPECT_EQ(whole_characters("a\xE2\x82"), "a");
    EXPECT_EQ(whole_characters("a\xE2"), "a");
    EXPECT_EQ(whole_characters("\xF0\x9F\x98"), "");
    for (const std::string whole : {"", "a", "a\xE2\x82\xAC", "a\x80\x80\x80\x80", "\xFF", "a\x80"})
        EXPECT_EQ(whole_characters(whole), whole);
}

TEST(error, has_only_printable_text_whatever_it_was_made_of) {
    EXPECT_STREQ(error(errc::load_failed, hostile).what(), shown.c_str());
    EXPECT_STREQ(remote_error("one\ntwo").what(), "one\\ntwo");
    EXPECT_EQ(error(errc::load_failed, hostile).code(), errc::load_failed);
}

}  // namespace
}  // namespace places::detail
