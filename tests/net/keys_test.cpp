// SPDX-License-Identifier: Apache-2.0
#include "net/keys.hpp"

#include <gtest/gtest.h>

#include <string>

namespace places::net {
namespace {

// What a terminal obeys, a line ends at, or changes the order of what is read; and no UTF-8: a cut
// character, one of more octets than it needs, half a pair, and one beyond the last.
const std::string controls[] = {
    std::string(1, '\0'), "\n",           "\x1B",         "\x7F",
    "\xC2\x80",           "\xC2\x9B",     "\xC2\x9F",     "\xE2\x80\xA8",
    "\xE2\x80\xA9",       "\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6",
    "\xE2\x81\xA9",       "\xD8\x9C",     "\xE2\x80\x8E", "\xE2\x80\x8F"};
const std::string no_utf8[] = {"\x80",     "\x9B",         "\xFF",
                               "\xE2\x82", "\xC0\xAF",     "\xED\xA0\x80",
                               "\xC1\x9B", "\xE0\x82\x9B", "\xF4\x90\x80\x80"};
const std::string words[] = {"node",         "caf\xC3\xA9",  "\xC2\xA0",        "\xE2\x82\xAC",
                             "\xE2\x80\xA7", "\xE2\x81\xA5", "\xF0\x9F\x98\x80"};

TEST(printable, has_one_question_mark_for_each_control_and_each_octet_that_is_no_text) {
    for (const auto& c : controls) EXPECT_EQ(printable("a" + c + "b"), "a?b");
    for (const auto& o : no_utf8)
        EXPECT_EQ(printable("a" + o + "b"), "a" + std::string(o.size(), '?') + "b");
    for (const auto& w : words) EXPECT_EQ(printable("a" + w + "b"), "a" + w + "b");
}

TEST(printable, is_cut_between_two_characters) {
    const std::string euro = "\xE2\x82\xAC";
    EXPECT_EQ(printable(euro + euro, 6), euro + euro);
    EXPECT_EQ(printable(euro + euro, 5), euro + "...");
    EXPECT_EQ(printable(euro + euro, 3), euro + "...");
    EXPECT_EQ(printable(euro + euro, 2), "...");
    EXPECT_EQ(printable("abc", 2), "ab...");
    EXPECT_EQ(printable("", 0), "");
}

TEST(node_name, is_text_of_1_to_255_bytes_without_controls) {
    for (const auto& w : words) EXPECT_TRUE(is_node_name(w)) << w;
    for (const auto& c : controls) EXPECT_FALSE(is_node_name("a" + c)) << printable(c);
    for (const auto& o : no_utf8) EXPECT_FALSE(is_node_name("a" + o));
    EXPECT_FALSE(is_node_name(""));
    EXPECT_TRUE(is_node_name(std::string(255, 'n')));
    EXPECT_FALSE(is_node_name(std::string(256, 'n')));
}

TEST(identity, is_a_name_and_the_id_of_a_key) {
    const auto id = key_id(node_key{});
    const auto parts = parse_identity(psk_identity("b", node_key{}));
    ASSERT_TRUE(parts);
    EXPECT_EQ(parts->name, "b");
    EXPECT_EQ(parts->key_id, id);
    for (const std::string& other : {std::string{}, id.substr(1), id + "0", id.substr(1) + "g",
                                     id.substr(1) + " ", id.substr(2) + "\xC2\x9B"}) {
        EXPECT_FALSE(parse_identity("b\n" + other)) << printable(other);
    }
    for (const std::string name : {"", "\x9B", "\xC2\x9B", "\x1B"})
        EXPECT_FALSE(parse_identity(name + "\n" + id)) << printable(name);
    EXPECT_FALSE(parse_identity("b" + id));
}

}  // namespace
}  // namespace places::net
