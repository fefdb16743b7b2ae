// SPDX-License-Identifier: Apache-2.0
#include "launcher/text_parts.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

using namespace places::launcher;

namespace {

using words = std::vector<std::string>;

TEST(words, are_what_is_between_blanks) {
    EXPECT_EQ(words_of(" \t one  two\tthree\r"), (words{"one", "two", "three"}));
    EXPECT_EQ(words_of("one"), words{"one"});
    EXPECT_EQ(words_of("\"a b\""), (words{"\"a", "b\""}));
    EXPECT_EQ(words_of(""), words{});
    EXPECT_EQ(words_of(" \r"), words{});
}

TEST(to_lower, changes_the_letters_of_ascii_alone) {
    EXPECT_EQ(to_lower("HostName_[9]@Z"), "hostname_[9]@z");
    // Of Latin-1 and of UTF-8.
    EXPECT_EQ(to_lower("\xC4\xC3\x84"), "\xC4\xC3\x84");
}

TEST(shell_word, keeps_each_quote_and_each_other_byte) {
    EXPECT_EQ(shell_word("''"), "''\\'''\\'''");
    EXPECT_EQ(shell_word("\"$`\\\n"), "'\"$`\\\n'");
}

}  // namespace
