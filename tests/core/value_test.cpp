// SPDX-License-Identifier: Apache-2.0
// Printing follows Racket's own printer; what it cannot show here: bignums, rationals, boxes.
#include <places/core/value.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <sstream>

namespace {

using places::bytes;
using places::errc;
using places::symbol;
using places::value;

constexpr double infinity = std::numeric_limits<double>::infinity();
const double nan_value = std::numeric_limits<double>::quiet_NaN();

std::string displayed(const value& v) { return to_string(v); }

std::string written(const value& v) {
    std::ostringstream out;
    write(out, v);
    return out.str();
}

bytes octets(std::string_view text) {
    bytes b;
    for (const char c : text) b.push_back(static_cast<std::byte>(c));
    return b;
}

template <class Call>
std::pair<boost::system::error_code, std::string> failure_of(const Call& call) {
    try {
        call();
    } catch (const places::error& e) {
        return {e.code(), e.what()};
    }
    return {};
}

static_assert(!std::is_constructible_v<value, std::nullptr_t>);
static_assert(!std::is_constructible_v<value, int*>);
static_assert(!std::is_constructible_v<value, const void*>);
static_assert(std::is_nothrow_move_constructible_v<value>);

TEST(value, default_is_void) {
    EXPECT_TRUE(value().is_void());
    EXPECT_EQ(displayed(value()), "#<void>");
}

TEST(value, constructors_choose_the_kind_one_would_expect) {
    EXPECT_TRUE(value("text").is_string());
    EXPECT_TRUE(value(std::string_view("text")).is_string());
    EXPECT_TRUE(value(true).is_bool());
    EXPECT_TRUE(value(0).is_integer());
    EXPECT_TRUE(value('a').is_integer());
    EXPECT_TRUE(value(7UL).is_integer());
    EXPECT_TRUE(value(static_cast<short>(1)).is_integer());
    EXPECT_TRUE(value(1.5F).is_real());
    EXPECT_TRUE(value(U'a').is_char());
    EXPECT_TRUE(value(symbol{"a"}).is_symbol());
    EXPECT_TRUE(value(bytes{}).is_bytes());
    EXPECT_TRUE(value::list().is_list());
    EXPECT_TRUE(value::vector().is_vector());
    EXPECT_TRUE(value::hash().is_hash());
}

TEST(value, unsigned_above_int64_is_refused) {
    constexpr auto top = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(value(top).as_integer(), std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(failure_of([] { value v(top + 1); }).first, errc::bad_argument);
}

TEST(value, display_prints_as_racket) {
    EXPECT_EQ(displayed(100), "100");
    EXPECT_EQ(displayed(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
    EXPECT_EQ(displayed(true), "#t");
    EXPECT_EQ(displayed(false), "#f");
    EXPECT_EQ(displayed("a \"b\""), "a \"b\"");
    EXPECT_EQ(displayed(U'\u03bb'), "\u03bb");
    EXPECT_EQ(displayed(symbol{"two words"}), "two words");
    EXPECT_EQ(displayed(octets("ab")), "ab");
    EXPECT_EQ(displayed(value::list(symbol{"created"}, "user0")), "(created user0)");
    EXPECT_EQ(displayed(value::list()), "()");
    EXPECT_EQ(displayed(value::vector(1, 2)), "#(1 2)");
    EXPECT_EQ(displayed(value::hash({{symbol{"a"}, 1}})), "#hash((a . 1))");
    EXPECT_EQ(displayed(value::list(1, value::vector(value::list("x"), value::hash()))),
              "(1 #((x) #hash()))");
}

TEST(value, reals_print_as_racket) {
    EXPECT_EQ(displayed(2.5), "2.5");
    EXPECT_EQ(displayed(1.0), "1.0");
    EXPECT_EQ(displayed(-0.0), "-0.0");
    EXPECT_EQ(displayed(0.1), "0.1");
    EXPECT_EQ(displayed(nan_value), "+nan.0");
    EXPECT_EQ(displayed(-nan_value), "+nan.0");
    EXPECT_EQ(displayed(infinity), "+inf.0");
    EXPECT_EQ(displayed(-infinity), "-inf.0");
    EXPECT_EQ(displayed(1e20), "100000000000000000000.0");
    EXPECT_EQ(displayed(1e100), "1e100");
    EXPECT_EQ(displayed(1.5e300), "1.5e300");
    EXPECT_EQ(displayed(1e-7), "1e-07");
    EXPECT_EQ(displayed(-std::numeric_limits<double>::max()), "-1.7976931348623157e308");
}

TEST(value, printing_ignores_the_format_of_the_stream) {
    std::ostringstream out;
    out << std::hex << std::showpos;
    out << value(255);
    EXPECT_EQ(out.str(), "255");
}

TEST(value, write_quotes_strings_chars_and_bytes) {
    EXPECT_EQ(written("a\"b\\\n\x01"), R"("a\"b\\\n\u0001")");
    EXPECT_EQ(written(U'a'), "#\\a");
    EXPECT_EQ(written(U' '), "#\\space");
    EXPECT_EQ(written(U'\0'), "#\\nul");
    EXPECT_EQ(written(U'\u03bb'), "#\\\u03bb");
    EXPECT_EQ(written(octets({"a\0b\0" "1\xff", 6})), R"(#"a\0b\0001\377")");
    EXPECT_EQ(written(value::list("a", U'b', 1)), R"(("a" #\b 1))");
    EXPECT_EQ(written(value::hash({{"k", "v"}})), R"(#hash(("k" . "v")))");
}

TEST(value, write_puts_bars_where_a_symbol_needs_them) {
    EXPECT_EQ(written(symbol{"tuple-server"}), "tuple-server");
    EXPECT_EQ(written(symbol{"+"}), "+");
    EXPECT_EQ(written(symbol{"1+"}), "1+");
    EXPECT_EQ(written(symbol{"..."}), "...");
    EXPECT_EQ(written(symbol{"two words"}), "|two words|");
    EXPECT_EQ(written(symbol{""}), "||");
    EXPECT_EQ(written(symbol{"."}), "|.|");
    EXPECT_EQ(written(symbol{"12"}), "|12|");
    EXPECT_EQ(written(symbol{"-1.5e3"}), "|-1.5e3|");
    EXPECT_EQ(written(symbol{"1/2"}), "|1/2|");
    EXPECT_EQ(written(symbol{"#t"}), "|#t|");
    EXPECT_EQ(written(symbol{"#%app"}), "#%app");
    EXPECT_EQ(written(symbol{"a|b c"}), "a\\|b\\ c");
}

TEST(value, observers_return_what_was_put_in) {
    EXPECT_EQ(value(true).as_bool(), true);
    EXPECT_EQ(value(-5).as_integer(), -5);
    EXPECT_EQ(value(2.5).as_real(), 2.5);
    EXPECT_EQ(value(3).as_real(), 3.0);
    EXPECT_EQ(value(U'x').as_char(), U'x');
    EXPECT_EQ(value(symbol{"s"}).as_symbol().name, "s");
    EXPECT_EQ(value("s").as_string(), "s");
    EXPECT_EQ(value(octets("b")).as_bytes(), octets("b"));
    EXPECT_EQ(value::list(1, 2).as_list().size(), 2U);
    EXPECT_EQ(value::vector(1, 2)[1], value(2));
    EXPECT_EQ(value::list({1, "two"})[1].as_string(), "two");
    EXPECT_EQ(value("four").size(), 4U);
}

TEST(value, wrong_kind_names_both_kinds_and_the_value) {
    const auto [code, text] = failure_of([] { (void)value("abc").as_integer(); });
    EXPECT_EQ(code, errc::wrong_type);
    EXPECT_EQ(text, "expected integer, got string \"abc\"");
    EXPECT_EQ(failure_of([] { (void)value(1)[0]; }).second,
              "expected list or vector, got integer 1");
    EXPECT_EQ(failure_of([] { (void)value().as_bool(); }).second,
              "expected boolean, got void #<void>");
    EXPECT_EQ(failure_of([] { (void)value(1.0).as_integer(); }).first, errc::wrong_type);
    EXPECT_LT(failure_of([] { (void)value(std::string(5000, 'x')).as_real(); }).second.size(),
              200U);
}

TEST(value, parts_of_a_temporary_outlive_it) {
    const auto made = [] { return value::list(value::list(std::string(100, 'a')), "b"); };
    for (const value& v : made()[0].as_list()) EXPECT_EQ(v, value(std::string(100, 'a')));
    const std::string& text = made()[1].as_string();
    EXPECT_EQ(text, "b");
}

TEST(value, index_past_the_end_is_refused) {
    const value v = value::list(1);
    EXPECT_EQ(failure_of([&] { (void)v[1]; }).first, errc::bad_argument);
}

TEST(value, only_false_is_false) {
    EXPECT_TRUE(value(false).is_false());
    for (const value& v : {value(), value(true), value(0), value(""), value::list()}) {
        EXPECT_FALSE(v.is_false()) << v;
    }
}

TEST(value, hash_finds_what_it_holds_and_answers_false_otherwise) {
    const value v = value::hash({{"a", 1}, {value::list(1, 2), "pair"}, {3, "three"}});
    EXPECT_EQ(v.get("a"), value(1));
    EXPECT_EQ(v.get(value::list(1, 2)), value("pair"));
    EXPECT_TRUE(v.get("b").is_false());
    EXPECT_TRUE(v.get(symbol{"a"}).is_false());
}

TEST(value, hash_equality_ignores_the_order_of_insertion) {
    EXPECT_EQ(value::hash({{"a", 1}, {"b", 2}}), value::hash({{"b", 2}, {"a", 1}}));
    EXPECT_NE(value::hash({{"a", 1}}), value::hash({{"a", 2}}));
}

TEST(value, last_of_equal_keys_counts) {
    const value v = value::hash({{"a", 1}, {"b", 2}, {"a", 3}});
    EXPECT_EQ(v.size(), 2U);
    EXPECT_EQ(v.get("a"), value(3));
}

TEST(value, equality_is_racket_equal) {
    EXPECT_NE(value(1), value(1.0));
    EXPECT_NE(value("a"), value(symbol{"a"}));
    EXPECT_NE(value("a"), value(octets("a")));
    EXPECT_NE(value::list(1), value::vector(1));
    EXPECT_NE(value(false), value());
    EXPECT_NE(value(0.0), value(-0.0));
    EXPECT_EQ(value(nan_value), value(-nan_value));
    EXPECT_EQ(value::list(1, value::list("x")), value::list(1, value::list("x")));
    EXPECT_NE(value::list(1, value::list("x")), value::list(1, value::list("y")));
}

TEST(value, order_is_total_and_agrees_with_equality) {
    const std::vector<value> all{value(),
                                 false,
                                 true,
                                 -1,
                                 0,
                                 1,
                                 -infinity,
                                 -1.5,
                                 -0.0,
                                 0.0,
                                 1.0,
                                 infinity,
                                 nan_value,
                                 U'a',
                                 U'b',
                                 symbol{"a"},
                                 symbol{"b"},
                                 "",
                                 "a",
                                 "ab",
                                 octets("a"),
                                 octets("\xff"),
                                 value::list(),
                                 value::list(1),
                                 value::list(1, 2),
                                 value::list(2),
                                 value::vector(0),
                                 value::hash(),
                                 value::hash({{1, 1}}),
                                 value::hash({{1, 2}})};
    for (std::size_t i = 0; i < all.size(); ++i) {
        for (std::size_t j = 0; j < all.size(); ++j) {
            EXPECT_EQ(all[i] <=> all[j], i <=> j) << all[i] << " against " << all[j];
            EXPECT_EQ(all[i] == all[j], i == j) << all[i] << " against " << all[j];
        }
    }
}

TEST(value, serves_as_the_key_of_a_map) {
    std::map<value, int> table{{"a", 1}, {1, 2}, {value::list(1), 3}, {nan_value, 4}};
    EXPECT_EQ(table.at(value::list(1)), 3);
    EXPECT_EQ(table.at(nan_value), 4);
    EXPECT_EQ(table.count(symbol{"a"}), 0U);
}

}  // namespace
