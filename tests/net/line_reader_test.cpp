// SPDX-License-Identifier: Apache-2.0
#include "net/line_reader.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace places::net {
namespace {

using texts = std::vector<std::string>;

/// All lines that are complete now.
texts lines_of(line_reader& reader) {
    texts all;
    while (const auto line = reader.next()) all.emplace_back(*line);
    return all;
}

TEST(line_reader, takes_each_line_without_its_line_feed) {
    line_reader reader;
    reader.add("one\n\ntwo\r\n");
    EXPECT_EQ(lines_of(reader), (texts{"one", "", "two\r"}));
    EXPECT_EQ(reader.rest(), "");
}

TEST(line_reader, waits_for_the_end_of_a_line_that_comes_in_pieces) {
    line_reader reader;
    reader.add("first\nsec");
    EXPECT_EQ(lines_of(reader), texts{"first"});
    reader.add("o");
    reader.add({});
    EXPECT_EQ(lines_of(reader), texts{});
    reader.add("nd\nth");
    EXPECT_EQ(lines_of(reader), texts{"second"});
    EXPECT_EQ(reader.rest(), "th");
}

TEST(line_reader, has_the_same_lines_however_the_stream_is_split) {
    const std::string stream =
        "a\nbc\n\n\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\nlonger than eight\nend";
    const texts expected{"a",        "bc",       "", "\xE2\x82\xAC\xE2\x82\xAC", "\xE2\x82\xAC",
                         "longer t", "han eigh", "t"};
    for (std::size_t step = 1; step <= stream.size(); ++step) {
        line_reader reader(8);
        texts all;
        for (std::size_t at = 0; at < stream.size(); at += step) {
            reader.add(std::string_view(stream).substr(at, step));
            for (auto& line : lines_of(reader)) all.push_back(std::move(line));
        }
        EXPECT_EQ(all, expected) << "in pieces of " << step;
        EXPECT_EQ(reader.rest(), "end");
    }
}

TEST(line_reader, cuts_only_what_is_longer_than_its_limit) {
    line_reader reader(4);
    reader.add("1234");
    EXPECT_EQ(lines_of(reader), texts{});
    reader.add("\n12345");
    EXPECT_EQ(lines_of(reader), (texts{"1234", "1234"}));
    EXPECT_EQ(reader.rest(), "5");
}

TEST(line_reader, cuts_what_is_no_text_within_its_limit_too) {
    // The beginning of a character, and bytes that only go on with one.
    for (const char byte : {'\xF0', '\xE2', '\x80', '\xFF', '\0'}) {
        line_reader reader(4);
        reader.add(std::string(1000, byte));
        std::size_t size = 0;
        for (const auto& part : lines_of(reader)) {
            EXPECT_GE(part.size(), 1U);
            EXPECT_LE(part.size(), 4U);
            size += part.size();
        }
        EXPECT_EQ(size + reader.rest().size(), 1000U);
    }
}

TEST(line_reader, holds_no_more_than_its_limit_of_a_line_without_end) {
    line_reader reader(64);
    for (int i = 0; i < 1000; ++i) {
        reader.add(std::string(100, 'x'));
        (void)lines_of(reader);
    }
    EXPECT_LE(reader.rest().size(), 64U);
}

TEST(line_reader, gives_the_rest_with_its_line_feeds_and_begins_anew) {
    line_reader reader;
    reader.add("ready\nas it\ncomes");
    EXPECT_EQ(reader.next(), "ready");
    EXPECT_EQ(reader.rest(), "as it\ncomes");
    EXPECT_EQ(reader.rest(), "");
    reader.add("more\n");
    EXPECT_EQ(lines_of(reader), texts{"more"});
}

}  // namespace
}  // namespace places::net
