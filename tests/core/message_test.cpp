// SPDX-License-Identifier: Apache-2.0
// What goes in comes out, what does not fit is refused, and no bytes whatever do harm.
// Not shown here: two hosts of other byte order, which the headers refuse to compile on.
#include <places/core/detail/call.hpp>
#include <places/core/message.hpp>

#include <boost/describe.hpp>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

namespace {

using places::bytes;
using places::errc;
using places::message;
using places::message_kind;
using places::message_type;
using places::symbol;
using places::value;
namespace detail = places::detail;

// Functions that argument-dependent lookup must not prefer to the library's own.
template <class To, class T>
void write(To, const T&) = delete;
template <class From, class T>
void read(From, T&) = delete;

enum class colour : std::uint8_t { red, green };

struct point {
    double x, y;
    bool operator==(const point&) const = default;
};

struct spot {
    double x = 0;
    double y = 0;
    bool operator==(const spot&) const = default;
};
BOOST_DESCRIBE_STRUCT(spot, (), (x, y))

struct marked {
    std::int32_t id;
    char code[4];
    std::array<spot, 2> at;
    colour mood;
    char32_t letter;
    bool is_set;
};
BOOST_DESCRIBE_STRUCT(marked, (), (id, code, at, mood, letter, is_set))

struct large_number {
    std::uint64_t n;
};
BOOST_DESCRIBE_STRUCT(large_number, (), (n))

struct fixed {
    std::int32_t id;
    char name[12];
    point at;
    bool operator==(const fixed& o) const {
        return id == o.id && std::memcmp(name, o.name, sizeof name) == 0 && at == o.at;
    }
};
BOOST_DESCRIBE_STRUCT(fixed, (), (id, name, at))

struct base {
    std::string owner;
    bool operator==(const base&) const = default;
};
BOOST_DESCRIBE_STRUCT(base, (), (owner))

struct account : base {
    std::uint64_t id = 0;
    double amount = 0;
    std::optional<std::string> note;
    std::vector<point> path;
    colour mood = colour::red;
    char code[4] = {};
    bool operator==(const account& o) const {
        return base::operator==(o) && id == o.id && amount == o.amount && note == o.note &&
               path == o.path && mood == o.mood && std::memcmp(code, o.code, 4) == 0;
    }
};
BOOST_DESCRIBE_STRUCT(account, (base), (id, amount, note, path, mood, code))

class hidden {
  public:
    hidden() = default;
    explicit hidden(std::string text) : text_(std::move(text)) {}
    const std::string& text() const { return text_; }

  private:
    BOOST_DESCRIBE_CLASS(hidden, (), (), (), (text_))
    std::string text_;
};

struct tree {
    int label = 0;
    std::vector<tree> children;
    bool operator==(const tree&) const = default;
};
BOOST_DESCRIBE_STRUCT(tree, (), (label, children))

// One struct as an old and a new program declare it.
struct settings_old {
    std::string name;
    int level = 0;
};
BOOST_DESCRIBE_STRUCT(settings_old, (), (name, level))
struct settings_new {
    int level = 0;
    std::optional<double> ratio = 9;
    std::string name;
    std::vector<std::string> extra;
};
BOOST_DESCRIBE_STRUCT(settings_new, (), (level, ratio, name, extra))

struct settings_tolerant {
    std::optional<double> ratio = 9;
    std::string name;
};
BOOST_DESCRIBE_STRUCT(settings_tolerant, (), (ratio, name))

struct with_pointer {
    int a;
    int* p;
};
BOOST_DESCRIBE_STRUCT(with_pointer, (), (a, p))
struct below_undescribed : point {
    std::string s;
};
BOOST_DESCRIBE_STRUCT(below_undescribed, (point), (s))
struct hiding : base {
    int owner;
};
BOOST_DESCRIBE_STRUCT(hiding, (base), (owner))
struct opaque {
    std::string s;
};

// What may travel.
static_assert(message_type<int> && message_type<colour> && message_type<point>);
static_assert(message_type<bytes> && message_type<std::span<const std::byte>>);
static_assert(message_type<std::array<int, 3>> && message_type<std::monostate>);
static_assert(message_type<std::map<std::string, std::vector<std::optional<account>>>>);
static_assert(message_type<std::variant<int, std::string>> && message_type<tree>);
static_assert(message_type<std::chrono::milliseconds> && message_type<hidden>);
static_assert(message_type<char[6]> && message_type<long double>);
// What may not.
static_assert(!message_type<int*> && !message_type<const char*> && !message_type<void*>);
static_assert(!message_type<int&> && !message_type<std::nullptr_t> && !message_type<const int>);
static_assert(!message_type<void (*)()> && !message_type<int point::*>);
static_assert(!message_type<std::string_view> && !message_type<std::span<int>>);
static_assert(!message_type<std::reference_wrapper<int>> && !message_type<std::function<void()>>);
static_assert(!message_type<std::vector<int>::iterator>);
static_assert(!message_type<std::initializer_list<int>>);
static_assert(!message_type<std::unique_ptr<int>> && !message_type<std::shared_ptr<int>>);
static_assert(!message_type<decltype([] {})> && !message_type<int[3]>);
static_assert(!message_type<with_pointer> && !message_type<opaque>);
static_assert(!message_type<below_undescribed> && !message_type<hiding>);
static_assert(!message_type<std::vector<int*>> && !message_type<std::array<int*, 2>>);
static_assert(!message_type<std::optional<int*>> && !message_type<std::variant<int, int*>>);
static_assert(!message_type<std::pair<int, std::string_view>>);
static_assert(!message_type<std::map<int, opaque>> && !message_type<std::vector<with_pointer>>);
// Which go as memory.
static_assert(detail::is_raw<int> && detail::is_raw<point> && detail::is_raw<fixed>);
static_assert(detail::is_raw<std::array<point, 2>> && detail::is_raw<colour>);
static_assert(!detail::is_raw<account> && !detail::is_raw<std::optional<int>>);
static_assert(!detail::is_raw<std::pair<int, int>> && !detail::is_raw<std::chrono::seconds>);

template <class T>
void expect_round_trip(const T& v, message_kind expected) {
    const message m = message::of(v);
    EXPECT_EQ(m.kind(), expected);
    const auto back = m.as<T>();
    ASSERT_TRUE(back.has_value()) << back.error().message();
    EXPECT_TRUE(*back == v);
    const auto through_tree = detail::decode_datum<T>(detail::encode_datum(v));
    ASSERT_TRUE(through_tree.has_value()) << through_tree.error().message();
    EXPECT_TRUE(*through_tree == v);
}

template <class T, class U>
void expect_wrong_type(const U& v) {
    const auto got = message::of(v).template as<T>();
    ASSERT_TRUE(got.has_error());
    EXPECT_EQ(got.error(), errc::wrong_type);
}

template <class T>
bool same_bits(T a, T b) {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

bytes octets(std::string_view text) {
    bytes b;
    for (const char c : text) b.push_back(static_cast<std::byte>(c));
    return b;
}

value every_kind() {
    return value::list(value(), true, -7, 2.5, U'\u03bb', symbol{"sym"}, "text", octets("\xff\0"),
                       value::vector(1, value::list()), value::hash({{"k", value::list(1, 2)}}));
}

account some_account() {
    account a;
    a.owner = "user0";
    a.id = std::numeric_limits<std::uint64_t>::max();
    a.amount = -0.0;
    a.note = "";
    a.path = {{1, 2}, {3, 4}};
    a.mood = colour::green;
    std::memcpy(a.code, "ab\0d", 4);
    return a;
}

TEST(message, default_is_no_bytes) {
    EXPECT_EQ(message().kind(), message_kind::bytes);
    EXPECT_TRUE(message().bytes().empty());
}

TEST(message, bytes_travel_untouched) {
    expect_round_trip(octets("some\0bytes"), message_kind::bytes);
    expect_round_trip(bytes{}, message_kind::bytes);
    const bytes b = octets("seen through a span");
    const message m = message::of(std::span<const std::byte>(b));
    EXPECT_EQ(m.kind(), message_kind::bytes);
    EXPECT_EQ(*m.as<bytes>(), b);
}

TEST(message, trivially_copyable_types_travel_as_memory) {
    expect_round_trip(42, message_kind::raw);
    expect_round_trip(std::numeric_limits<std::uint64_t>::max(), message_kind::raw);
    expect_round_trip(std::numeric_limits<std::int64_t>::min(), message_kind::raw);
    expect_round_trip(true, message_kind::raw);
    expect_round_trip('c', message_kind::raw);
    expect_round_trip(U'c', message_kind::raw);
    expect_round_trip(2.5F, message_kind::raw);
    expect_round_trip(colour::green, message_kind::raw);
    expect_round_trip(point{1, 2}, message_kind::raw);
    expect_round_trip(fixed{7, "eleven char", {1, 2}}, message_kind::raw);
    expect_round_trip(std::array<int, 3>{1, 2, 3}, message_kind::raw);
    expect_round_trip(std::array<std::array<bool, 2>, 2>{{{true, false}, {false, true}}},
                      message_kind::raw);
    EXPECT_EQ(message::of(point{}).bytes().size(), sizeof(point));
}

TEST(message, raw_is_read_only_as_the_type_it_was) {
    expect_wrong_type<unsigned>(1);
    expect_wrong_type<long>(1);
    expect_wrong_type<float>(1);
    expect_wrong_type<colour>(std::uint8_t{1});
    expect_wrong_type<fixed>(point{});
    expect_wrong_type<std::string>(1);
    expect_wrong_type<bytes>(1);
    EXPECT_EQ(*message::of(5L).as<long long>(), 5);
    EXPECT_EQ(*message::of(5LL).as<std::int64_t>(), 5);
}

TEST(message, raw_of_another_size_is_refused) {
    const message m(message_kind::raw, detail::fingerprint<point>(), bytes(sizeof(point) - 1));
    EXPECT_EQ(m.as<point>().error(), errc::wrong_type);
}

TEST(message, raw_bool_is_never_neither) {
    const message m(message_kind::raw, detail::fingerprint<bool>(), bytes(1, std::byte{0x5a}));
    EXPECT_EQ(*m.as<bool>(), true);
}

TEST(message, strings_hold_any_octets) {
    expect_round_trip(std::string(), message_kind::datum);
    expect_round_trip(std::string("with\0zero", 9), message_kind::datum);
    expect_round_trip(std::string("\xff\xfe\x80 not UTF-8"), message_kind::datum);
    expect_round_trip(std::string(100'000, 'x'), message_kind::datum);
    expect_round_trip(symbol{"a symbol"}, message_kind::datum);
}

TEST(message, literal_arrives_as_a_string) {
    EXPECT_EQ(*message::of("hello").as<std::string>(), "hello");
    EXPECT_EQ(*message::of("").as<std::string>(), "");
    EXPECT_EQ(*message::of("hello").as<value>(), value("hello"));
}

TEST(message, c_string_arrives_as_a_string) {
    const char* text = "hello";
    char own[] = "mine";
    char* changeable = own;
    EXPECT_EQ(*message::of(text).as<std::string>(), "hello");
    EXPECT_EQ(*message::of(changeable).as<std::string>(), "mine");
    EXPECT_EQ((*message::of(std::tuple{"name", 1}).as<std::tuple<std::string, int>>()),
              (std::tuple{std::string("name"), 1}));
    EXPECT_EQ((*message::of(std::pair{2, text}).as<std::pair<int, std::string>>()),
              (std::pair{2, std::string("hello")}));
    static_assert(places::sendable_type<const char*> && !message_type<const char*>);
    static_assert(places::sendable_type<std::tuple<int, const char*>>);
    static_assert(!places::sendable_type<int*> && !places::sendable_type<std::tuple<int*>>);
    const char* none = nullptr;
    try {
        (void)message::of(none);
        ADD_FAILURE() << "a null pointer was taken for a string";
    } catch (const places::error& e) {
        EXPECT_EQ(e.code(), errc::bad_argument);
        EXPECT_STREQ(e.what(),
                     "a null const char* is no string: send \"\" or an empty std::optional");
    }
}

TEST(status, and_errc_print_their_names) {
    std::ostringstream out;
    out << places::status::ok << ' ' << places::status::peer_dead << ' ' << errc::wrong_type << ' '
        << errc::bad_key_file << ' ' << static_cast<errc>(12345);
    EXPECT_EQ(out.str(), "ok peer_dead wrong_type bad_key_file unknown");
    // Those that mean the same have the same name.
    for (int i = 1; i <= static_cast<int>(places::status::corrupt); ++i) {
        EXPECT_STREQ(to_string(static_cast<errc>(i)), to_string(static_cast<places::status>(i)));
    }
}

TEST(message, containers_round_trip) {
    expect_round_trip(std::vector<int>{1, 2, 3}, message_kind::datum);
    expect_round_trip(std::vector<point>{{1, 2}, {3, 4}}, message_kind::datum);
    expect_round_trip(std::vector<fixed>{{1, "a", {}}, {2, "b", {}}}, message_kind::datum);
    expect_round_trip(std::vector<bool>{true, false, true}, message_kind::datum);
    expect_round_trip(std::vector<std::string>{"a", "", "c"}, message_kind::datum);
    expect_round_trip(std::vector<std::vector<double>>{{1}, {}, {2, 3}}, message_kind::datum);
    expect_round_trip(std::vector<std::array<float, 3>>{{1, 2, 3}}, message_kind::datum);
    expect_round_trip(std::array<std::string, 2>{"a", "b"}, message_kind::datum);
    expect_round_trip(std::deque<int>{1, 2}, message_kind::datum);
    expect_round_trip(std::list<std::string>{"a"}, message_kind::datum);
    expect_round_trip(std::set<std::string>{"b", "a"}, message_kind::datum);
    expect_round_trip(std::unordered_set<int>{1, 2, 3}, message_kind::datum);
    expect_round_trip(std::map<std::string, int>{{"a", 1}, {"b", 2}}, message_kind::datum);
    expect_round_trip(std::unordered_map<int, std::vector<std::string>>{{1, {"x"}}, {2, {}}},
                      message_kind::datum);
    expect_round_trip(std::vector<bytes>{octets("a"), {}}, message_kind::datum);
    expect_round_trip(std::u16string(u"wide"), message_kind::datum);
}

TEST(message, empty_containers_round_trip) {
    expect_round_trip(std::vector<double>{}, message_kind::datum);
    expect_round_trip(std::vector<std::string>{}, message_kind::datum);
    expect_round_trip(std::vector<bool>{}, message_kind::datum);
    expect_round_trip(std::map<int, int>{}, message_kind::datum);
    expect_round_trip(std::set<int>{}, message_kind::datum);
    expect_round_trip(std::tuple<>{}, message_kind::datum);
    expect_round_trip(std::array<std::string, 0>{}, message_kind::datum);
}

TEST(message, products_and_sums_round_trip) {
    expect_round_trip(std::pair<int, std::string>{1, "a"}, message_kind::datum);
    expect_round_trip(std::tuple<int, std::string, point>{1, "a", {1, 2}}, message_kind::datum);
    expect_round_trip(std::optional<int>{5}, message_kind::datum);
    expect_round_trip(std::optional<int>{}, message_kind::datum);
    expect_round_trip(std::optional<std::optional<int>>{std::optional<int>{}}, message_kind::datum);
    expect_round_trip(std::optional<std::optional<int>>{}, message_kind::datum);
    expect_round_trip(std::optional<value>{value()}, message_kind::datum);
    expect_round_trip(std::variant<int, std::string>{"second"}, message_kind::datum);
    expect_round_trip(std::variant<int, int>{std::in_place_index<1>, 5}, message_kind::datum);
    expect_round_trip(std::variant<std::monostate, point>{}, message_kind::datum);
    expect_round_trip(std::chrono::milliseconds(1500), message_kind::datum);
    expect_round_trip(std::chrono::duration<double>(0.25), message_kind::datum);
}

TEST(message, doubles_keep_every_bit) {
    const double special[] = {0.0,
                              -0.0,
                              std::numeric_limits<double>::infinity(),
                              std::numeric_limits<double>::denorm_min(),
                              std::bit_cast<double>(0x7ff8'0000'dead'beefULL),
                              std::bit_cast<double>(0xfff8'0000'0000'0001ULL)};
    for (const double d : special) {
        EXPECT_TRUE(same_bits(*message::of(d).as<double>(), d));
        EXPECT_TRUE(same_bits(*detail::decode_datum<double>(detail::encode_datum(d)), d));
        EXPECT_TRUE(same_bits(message::of(value(d)).as<value>()->as_real(), d));
        EXPECT_TRUE(same_bits(message::of(std::vector<double>{d}).as<std::vector<double>>()->at(0),
                              d));
    }
}

TEST(message, described_structs_round_trip) {
    expect_round_trip(some_account(), message_kind::datum);
    expect_round_trip(std::vector<account>{some_account(), {}}, message_kind::datum);
    expect_round_trip(std::map<std::string, account>{{"a", some_account()}}, message_kind::datum);
    expect_round_trip(tree{1, {{2, {}}, {3, {{4, {}}}}}}, message_kind::datum);
    EXPECT_EQ(message::of(hidden("kept")).as<hidden>()->text(), "kept");
}

TEST(message, fields_are_found_by_name) {
    settings_new sent;
    sent.level = 3;
    sent.name = "n";
    sent.extra = {"x"};
    const auto old = message::of(sent).as<settings_old>();
    ASSERT_TRUE(old.has_value());
    EXPECT_EQ(old->name, "n");
    EXPECT_EQ(old->level, 3);
}

TEST(message, missing_field_is_refused_unless_optional) {
    const message m = message::of(settings_old{"n", 3});
    EXPECT_EQ(m.as<settings_new>().error(), errc::wrong_type);
    const auto got = m.as<settings_tolerant>();
    ASSERT_TRUE(got.has_value());
    EXPECT_FALSE(got->ratio.has_value());
    EXPECT_EQ(got->name, "n");
}

TEST(message, values_round_trip) {
    expect_round_trip(every_kind(), message_kind::datum);
    for (const value& v : every_kind().as_list()) expect_round_trip(v, message_kind::datum);
}

TEST(message, value_can_be_asked_of_most_messages) {
    EXPECT_EQ(*message::of(42).as<value>(), value(42));
    EXPECT_EQ(*message::of(true).as<value>(), value(true));
    EXPECT_EQ(*message::of(2.5F).as<value>(), value(2.5));
    EXPECT_EQ(*message::of(U'c').as<value>(), value(U'c'));
    EXPECT_EQ(*message::of(octets("b")).as<value>(), value(octets("b")));
    EXPECT_EQ(*message::of(std::vector<int>{1, 2}).as<value>(), value::vector(1, 2));
    EXPECT_EQ(*message::of(std::vector<bool>{true}).as<value>(), value::vector(true));
    EXPECT_EQ(*message::of(std::set<int>{1, 2}).as<value>(), value::list(1, 2));
    EXPECT_EQ(*message::of(std::tuple(1, std::string("a"))).as<value>(), value::list(1, "a"));
    EXPECT_EQ(*message::of(std::map<int, bool>{{1, true}}).as<value>(), value::hash({{1, true}}));
    EXPECT_EQ(*message::of(std::variant<int, bool>{true}).as<value>(), value(true));
    EXPECT_EQ(*message::of(std::optional<int>{}).as<value>(), value());
    EXPECT_EQ(*message::of(settings_old{"n", 3}).as<value>(),
              value::hash({{symbol{"name"}, "n"}, {symbol{"level"}, 3}}));
}

TEST(message, value_can_be_asked_of_a_raw_struct_wherever_it_is) {
    const auto field = [](const char* name) { return value(symbol{name}); };
    const auto spot_value = [&](double x, double y) {
        return value::hash({{field("x"), x}, {field("y"), y}});
    };
    const spot a{1, 2};
    const spot b{3, 4};
    const auto both = value::vector(spot_value(1, 2), spot_value(3, 4));
    EXPECT_EQ(*message::of(a).as<value>(), spot_value(1, 2));
    EXPECT_EQ(*message::of(std::optional{a}).as<value>(), spot_value(1, 2));
    EXPECT_EQ(*message::of(std::vector{a, b}).as<value>(), both);
    EXPECT_EQ(*message::of(std::vector<spot>{}).as<value>(), value::vector());
    EXPECT_EQ(*message::of(std::array{a, b}).as<value>(), both);
    EXPECT_EQ(*message::of(std::deque{a, b}).as<value>(), both);
    EXPECT_EQ(*message::of(std::list{a, b}).as<value>(),
              value::list(spot_value(1, 2), spot_value(3, 4)));
    EXPECT_EQ(*message::of(std::tuple{a, 5}).as<value>(), value::list(spot_value(1, 2), 5));
    EXPECT_EQ(*message::of(std::optional{std::vector{a, b}}).as<value>(), both);
    EXPECT_EQ(*message::of(std::vector{std::vector{a, b}, {}}).as<value>(),
              value::vector(both, value::vector()));
    EXPECT_EQ(*message::of(std::array{std::array{a, b}, std::array{a, b}}).as<value>(),
              value::vector(both, both));
    EXPECT_EQ((*message::of(std::map<std::string, std::vector<spot>>{{"k", {a, b}}}).as<value>()),
              value::hash({{"k", both}}));
    EXPECT_EQ((*message::of(std::variant<int, std::vector<spot>>{std::vector{a, b}}).as<value>()),
              both);
    EXPECT_EQ(*message::of(std::vector{a, b}).as<std::vector<value>>(),
              (std::vector{spot_value(1, 2), spot_value(3, 4)}));
}

TEST(message, value_of_a_raw_struct_has_all_that_it_holds) {
    marked m{};
    m.id = -7;
    std::strcpy(m.code, "ab");
    m.at = {spot{1, 2}, spot{3, 4}};
    m.mood = colour::green;
    m.letter = U'x';
    m.is_set = true;
    const auto field = [](const char* name) { return value(symbol{name}); };
    const auto spot_value = [&](double x, double y) {
        return value::hash({{field("x"), x}, {field("y"), y}});
    };
    const auto wanted =
        value::hash({{field("id"), -7},
                     {field("code"), "ab"},
                     {field("at"), value::vector(spot_value(1, 2), spot_value(3, 4))},
                     {field("mood"), 1},
                     {field("letter"), U'x'},
                     {field("is_set"), true}});
    EXPECT_EQ(*message::of(std::vector{m}).as<value>(), value::vector(wanted));
    // The same value as the tree gives that a member of it is written as.
    EXPECT_EQ(*message::of(std::optional{m}).as<value>(), wanted);
    // What came may be no bool: any octet but 0 counts as true.
    std::vector<std::byte> memory(sizeof m);
    std::memcpy(memory.data(), &m, sizeof m);
    memory[offsetof(marked, is_set)] = std::byte{0x55};
    EXPECT_EQ(*message(message_kind::raw, detail::fingerprint<marked>(), memory).as<value>(),
              wanted);
}

TEST(message, value_of_memory_of_another_size_or_type_is_refused) {
    const auto type = detail::fingerprint<spot>();
    const auto raw = [](std::uint16_t of, std::size_t size) {
        return message(message_kind::raw, of, std::vector<std::byte>(size));
    };
    EXPECT_TRUE(raw(type, sizeof(spot)).as<value>().has_value());
    EXPECT_EQ(raw(type, sizeof(spot) - 1).as<value>().error(), errc::wrong_type);
    EXPECT_EQ(raw(type, 2 * sizeof(spot)).as<value>().error(), errc::wrong_type);
    EXPECT_EQ(raw(type, 0).as<value>().error(), errc::wrong_type);
    const auto unknown = static_cast<std::uint16_t>(type ^ 1);
    ASSERT_EQ(detail::find_raw_type(unknown), nullptr);
    EXPECT_EQ(raw(unknown, sizeof(spot)).as<value>().error(), errc::wrong_type);
    EXPECT_EQ(message::of(std::vector{spot{}, spot{}}).as<std::vector<int>>().error(),
              errc::wrong_type);
}

TEST(message, value_of_what_has_no_value_is_refused) {
    expect_wrong_type<value>(std::vector<large_number>{{~std::uint64_t{0}}});
    expect_wrong_type<value>(point{});
    expect_wrong_type<value>(std::vector<point>{{}});
    expect_wrong_type<value>(std::numeric_limits<std::uint64_t>::max());
    expect_wrong_type<value>(std::vector<std::uint64_t>{~std::uint64_t{0}});
}

TEST(message, types_are_read_from_values_by_structure) {
    EXPECT_EQ(*message::of(value(5)).as<int>(), 5);
    EXPECT_EQ(*message::of(value(5)).as<double>(), 5.0);
    EXPECT_EQ(*message::of(value("s")).as<std::string>(), "s");
    EXPECT_EQ(*message::of(value(octets("b"))).as<bytes>(), octets("b"));
    EXPECT_EQ(*message::of(value::list(1, 2)).as<std::vector<int>>(), (std::vector<int>{1, 2}));
    EXPECT_EQ(*message::of(value::vector(1, 2)).as<std::list<int>>(), (std::list<int>{1, 2}));
    EXPECT_EQ((*message::of(value::list(1, "a")).as<std::pair<int, std::string>>()),
              (std::pair<int, std::string>{1, "a"}));
    EXPECT_EQ((*message::of(value::hash({{"a", 1}})).as<std::map<std::string, long>>()),
              (std::map<std::string, long>{{"a", 1}}));
    EXPECT_EQ(*message::of(value()).as<std::optional<int>>(), std::nullopt);
    EXPECT_EQ((*message::of(std::vector<int>{1, 2}).as<std::array<std::int8_t, 2>>()),
              (std::array<std::int8_t, 2>{1, 2}));
    EXPECT_EQ(*message::of(std::vector<int>{1, 2}).as<std::vector<value>>(),
              (std::vector<value>{1, 2}));
    EXPECT_EQ(*message::of(std::vector<point>{{1, 2}}).as<std::list<point>>(),
              (std::list<point>{{1, 2}}));
}

TEST(message, other_structures_are_wrong_types) {
    expect_wrong_type<int>(value("5"));
    expect_wrong_type<int>(value(5.0));
    expect_wrong_type<std::int8_t>(value(200));
    expect_wrong_type<std::uint32_t>(value(-1));
    expect_wrong_type<bool>(value(1));
    expect_wrong_type<float>(value(1e300));
    expect_wrong_type<char32_t>(value(65));
    expect_wrong_type<std::string>(value(symbol{"s"}));
    expect_wrong_type<symbol>(value("s"));
    expect_wrong_type<bytes>(value("s"));
    expect_wrong_type<std::string>(value(octets("s")));
    expect_wrong_type<point>(value::list(1.0, 2.0));
    expect_wrong_type<std::vector<int>>(value::list(1, "two"));
    expect_wrong_type<std::vector<std::int8_t>>(std::vector<int>{1, 200});
    expect_wrong_type<std::vector<int>>(value::hash({{1, 2}}));
    expect_wrong_type<std::array<int, 3>>(std::vector<int>{1, 2});
    expect_wrong_type<std::array<int, 1>>(std::vector<int>{1, 2});
    expect_wrong_type<std::array<std::string, 1>>(std::vector<std::string>{"a", "b"});
    expect_wrong_type<std::pair<int, int>>(value::list(1, 2, 3));
    expect_wrong_type<std::map<int, int>>(value::list(1, 2));
    expect_wrong_type<account>(base{"x"});
    expect_wrong_type<base>(std::string("x"));
    expect_wrong_type<std::variant<int>>(std::variant<int, int>{std::in_place_index<1>, 5});
    expect_wrong_type<std::chrono::seconds>(value(1.5));
    expect_wrong_type<int>(std::optional<int>{});
}

TEST(message, says_what_was_expected_and_what_came) {
    const auto text = [](const auto& r) { return r.error().message(); };
    EXPECT_EQ(text(message::of("abc").as<int>()),
              "the message is of another type: expected int, got string \"abc\"");
    EXPECT_EQ(text(message::of(7).as<std::string>()),
              "the message is of another type: expected std::string, got int 7");
    EXPECT_EQ(text(message::of(7).as<std::vector<spot>>()),
              "the message is of another type: expected std::vector<spot>, got int 7");
    EXPECT_EQ(text(message::of(std::vector{1, 2}).as<std::map<std::string, value>>()),
              "the message is of another type: expected std::map<std::string, places::value>, got "
              "vector of 2: 1, 2");
    EXPECT_EQ(text(message::of(spot{1, 2}).as<point>()),
              "the message is of another type: expected point, got spot {x: 1, y: 2}");
    // The code is what it was, and value() throws the text.
    const auto wrong = message::of("abc").as<int>();
    EXPECT_EQ(wrong.error(), errc::wrong_type);
    try {
        (void)wrong.value();
        ADD_FAILURE() << "nothing was thrown";
    } catch (const places::error& e) {
        EXPECT_EQ(e.code(), errc::wrong_type);
        EXPECT_EQ(e.what(), text(wrong));
    }
    const boost::system::error_code plain = wrong.error();
    EXPECT_EQ(plain, errc::wrong_type);
    const places::reason corrupt = make_error_code(errc::corrupt);
    EXPECT_EQ(corrupt.message(), make_error_code(errc::corrupt).message());
}

TEST(message, is_described_for_people) {
    const auto of = [](const auto& v) { return message::of(v).describe(); };
    EXPECT_EQ(message().describe(), "0 bytes");
    EXPECT_EQ(of(bytes(24)), "24 bytes");
    EXPECT_EQ(of(-5), "int -5");
    EXPECT_EQ(of(std::uint64_t{5}), "unsigned long 5");
    EXPECT_EQ(of(0.5), "double 0.5");
    EXPECT_EQ(of(true), "bool true");
    EXPECT_EQ(of(U'A'), "char32_t U+0041");
    EXPECT_EQ(of(colour::green), "colour 1");
    EXPECT_EQ(of(point{}), "point of 16 raw bytes");
    EXPECT_EQ(message(message_kind::raw, 0xfff0, bytes(24)).describe(), "24 raw bytes");
    EXPECT_EQ(of("abc"), "string \"abc\"");
    EXPECT_EQ(of(symbol{"key"}), "symbol key");
    EXPECT_EQ(of(std::list<int>{1, 2, 3}), "list of 3: 1, 2, 3");
    EXPECT_EQ(of(std::vector<int>{}), "vector of 0");
    EXPECT_EQ(of(std::vector<std::string>{"a"}), "vector of 1: \"a\"");
    EXPECT_EQ(of(std::vector<spot>{{1, 2}}), "vector of 1: {x: 1, y: 2}");
    EXPECT_EQ(of(std::vector<point>(2)), "vector of 2: point, point");
    EXPECT_EQ(of(std::map<std::string, int>{{"a", 1}, {"b", 2}}), "hash of 2: \"a\": 1, \"b\": 2");
    EXPECT_EQ(of(settings_old{"n", 3}), "struct {name: \"n\", level: 3}");
    EXPECT_EQ(of(std::optional<std::string>{}), "nothing");
    EXPECT_EQ(of(std::variant<int, std::string>{"x"}), "alternative 1 of a variant: string \"x\"");
    EXPECT_EQ(of(std::vector<int>(20)), "vector of 20: 0, 0, 0, 0, 0, 0, 0, 0, ...");
    EXPECT_EQ(detail::make_request(1, "set", std::string("a"), 1).describe(),
              "call of set(\"a\", 1)");
    EXPECT_EQ(detail::make_reply(1, 5).describe(), "reply with integer 5");
    EXPECT_EQ(detail::make_error_reply(1, "no").describe(), "reply with the error \"no\"");
    EXPECT_EQ(message(message_kind::datum, 0, bytes(7)).describe(), "broken tree of 7 bytes");
    EXPECT_EQ(message(message_kind::capnp, 0, bytes(8)).describe(),
              "Cap'n Proto message of 8 bytes");
}

TEST(message, is_described_shortly_and_printably_whatever_it_holds) {
    const auto is_fit = [](const message& m) {
        const auto text = m.describe();
        return !text.empty() && text.size() <= 200 &&
               std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
    };
    EXPECT_EQ(message::of("\x1b[2J\r\n\"").describe(), R"(string "\x1b[2J\x0d\x0a\"")");
    EXPECT_TRUE(is_fit(message::of(std::string(1'000'000, '\x01'))));
    EXPECT_TRUE(is_fit(message::of(std::vector<std::string>(1000, std::string(1000, 'x')))));
    EXPECT_TRUE(is_fit(detail::make_request(1, std::string(9000, '\n'), 1)));
    EXPECT_TRUE(is_fit(detail::make_error_reply(1, std::string(9000, '\r'))));
    value nested = 1;
    for (int i = 0; i < 100; ++i) nested = value::list(std::move(nested), i);
    EXPECT_TRUE(is_fit(message::of(nested)));
    std::mt19937_64 random{7};
    for (const auto k :
         {message_kind::bytes, message_kind::raw, message_kind::datum, message_kind::request,
          message_kind::reply, message_kind::capnp, static_cast<message_kind>(99)}) {
        for (int i = 0; i < 2000; ++i) {
            bytes noise = message::of(every_kind()).bytes().size() % 8 == 0 && i % 2 == 0
                              ? message::of(every_kind()).bytes()
                              : bytes(random() % 200);
            for (int flips = 0; flips < 4 && !noise.empty(); ++flips) {
                noise[random() % noise.size()] ^= static_cast<std::byte>(random());
            }
            ASSERT_TRUE(is_fit(message(k, static_cast<std::uint16_t>(random() % 80), noise)));
        }
    }
}

TEST(message, other_kinds_are_wrong_types) {
    const bytes tree_bytes = detail::encode_datum(value(5));
    for (const message_kind k :
         {message_kind::capnp, message_kind::request, message_kind::reply, message_kind::opened}) {
        EXPECT_EQ(message(k, 0, tree_bytes).as<int>().error(), errc::wrong_type);
        EXPECT_EQ(message(k, 0, tree_bytes).as<value>().error(), errc::wrong_type);
    }
    expect_wrong_type<int>(octets("\1\0\0\0"));
}

TEST(message, exact_size_estimate_saves_the_copy) {
    // One root pointer, one Datum, then just what it points to.
    const auto bytes_of = [](const auto& v) { return detail::encode_datum(v).size(); };
    EXPECT_EQ(bytes_of(1), 8U * (1 + 3));
    EXPECT_EQ(bytes_of(std::string(9, 'x')), 8U * (1 + 3 + 2));
    for (const value& v : every_kind().as_list()) {
        EXPECT_EQ(bytes_of(v), 8 * (1 + 3 + detail::words_of(v))) << v;
    }
    EXPECT_EQ(bytes_of(some_account()), 8 * (1 + 3 + detail::words_of(some_account())));
    const std::variant<int, std::optional<value>> sum{value("x")};
    EXPECT_EQ(bytes_of(sum), 8 * (1 + 3 + detail::words_of(sum)));
}

TEST(message, wrong_size_estimate_costs_only_a_copy) {
    const std::vector<std::string> v(1000, "some text of a length");
    const auto write_it = [](detail::datum_writer to, const void* context) {
        detail::write(to, *static_cast<const std::vector<std::string>*>(context));
    };
    const bytes built = detail::build(0, write_it, &v);
    EXPECT_EQ(built.size(), detail::encode_datum(v).size());
    EXPECT_EQ(*detail::decode_datum<std::vector<std::string>>(built), v);
}

TEST(message, unaligned_bytes_are_read) {
    const bytes aligned = detail::encode_datum(every_kind());
    for (std::size_t shift = 0; shift < 8; ++shift) {
        bytes moved(aligned.size() + shift);
        std::copy(aligned.begin(), aligned.end(),
                  moved.begin() + static_cast<std::ptrdiff_t>(shift));
        const auto got = detail::decode_datum<value>(std::span(moved).subspan(shift));
        ASSERT_TRUE(got.has_value());
        EXPECT_EQ(*got, every_kind());
    }
}

value nested(unsigned depth) {
    value v = "leaf";
    for (unsigned i = 0; i < depth; ++i) v = value::list(std::move(v));
    return v;
}

TEST(message, nesting_ends_at_128_on_both_sides) {
    expect_round_trip(nested(detail::depth_max), message_kind::datum);
    try {
        (void)message::of(nested(detail::depth_max + 1));
        FAIL() << "encoded";
    } catch (const places::error& e) {
        EXPECT_EQ(e.code(), errc::bad_argument);
    }
    tree t;
    for (unsigned i = 0; i < 63; ++i) t = tree{1, {t}};
    expect_round_trip(t, message_kind::datum);
}

TEST(message, pointer_into_itself_is_corrupt) {
    // A list whose only element is the list: written by hand, as no builder would.
    bytes b = detail::encode_datum(value::list(value::list(1)));
    // Word 0 root pointer, 1..3 Datum, 4 tag, 5..7 element; word 7 points to the inner list.
    // The inner list's pointer, turned back to the outer tag: offset -4.
    const std::uint64_t outer = [&] {
        std::uint64_t w;
        std::memcpy(&w, &b[3 * 8], 8);
        return w;
    }();
    const std::uint64_t back =
        (outer & ~0xffff'fffcULL) | (static_cast<std::uint32_t>(-4) << 2);
    std::memcpy(&b[7 * 8], &back, 8);
    EXPECT_EQ(detail::decode_datum<value>(b).error(), errc::corrupt);
    EXPECT_EQ(detail::decode_datum<tree>(b).error(), errc::wrong_type);
}

TEST(message, large_messages_stay_within_the_limits_of_the_reader) {
    expect_round_trip(std::vector<account>(3000, some_account()), message_kind::datum);
    expect_round_trip(std::vector<std::string>(50'000, "x"), message_kind::datum);
    expect_round_trip(value::vector_of(std::vector<value>(5000, every_kind())),
                      message_kind::datum);
    // Read twice: first as a block of the wrong type, then number by number.
    const auto longs = message::of(std::vector<int>(100'000, 7)).as<std::vector<long>>();
    ASSERT_TRUE(longs.has_value());
    EXPECT_EQ(*longs, std::vector<long>(100'000, 7));
    // Fields in another order than ours.
    settings_new one;
    one.name = "n";
    const auto many = message::of(std::vector<settings_new>(5000, one))
                          .as<std::vector<settings_old>>();
    ASSERT_TRUE(many.has_value());
    EXPECT_EQ(many->size(), 5000U);
}

TEST(message, promised_elements_are_not_allocated_before_they_are_seen) {
    // A list of 2^29-1 elements of no size at all fits three words.
    bytes b = detail::encode_datum(value::list());
    const std::uint64_t pointer = 1 | (std::uint64_t{0x1fff'ffff} << 35);
    std::memcpy(&b[3 * 8], &pointer, 8);
    EXPECT_EQ(detail::decode_datum<value>(b).error(), errc::corrupt);
    EXPECT_EQ(detail::decode_datum<std::vector<std::optional<account>>>(b).error(),
              errc::corrupt);
}

TEST(message, empty_and_odd_sized_trees_are_corrupt) {
    EXPECT_EQ(message(message_kind::datum, 0, {}).as<value>().error(), errc::corrupt);
    EXPECT_EQ(message(message_kind::datum, 0, bytes(7)).as<value>().error(), errc::corrupt);
    EXPECT_EQ(message(message_kind::datum, 0, bytes(8, std::byte{0xff})).as<value>().error(),
              errc::corrupt);
}

/// Decodes as everything we know; only the absence of a crash counts.
void read_in_every_way(const bytes& b) {
    const message m(message_kind::datum, 0, b);
    (void)m.as<value>();
    (void)m.as<account>();
    (void)m.as<tree>();
    (void)m.as<std::vector<std::string>>();
    (void)m.as<std::vector<bool>>();
    (void)m.as<std::map<std::string, value>>();
    (void)m.as<std::variant<int, std::string, value>>();
    (void)m.as<std::tuple<int, std::string>>();
    (void)m.as<std::optional<std::optional<double>>>();
    if (auto q = detail::request::parse(message(message_kind::request, 0, b))) {
        (void)q->arguments<int, std::string, value>();
        (void)q->arguments<value>();
    }
    if (auto r = detail::reply::parse(message(message_kind::reply, 0, b))) (void)r->as<value>();
}

std::vector<bytes> specimens() {
    const auto owned = [](const message& m) { return bytes(m.bytes().begin(), m.bytes().end()); };
    return {detail::encode_datum(every_kind()),
            detail::encode_datum(some_account()),
            detail::encode_datum(tree{1, {{2, {}}, {3, {{4, {}}}}}}),
            detail::encode_datum(std::vector<bool>(70, true)),
            detail::encode_datum(std::variant<int, std::string, value>{every_kind()}),
            owned(detail::make_request(7, "method", 1, "two", every_kind())),
            owned(detail::make_reply(7, every_kind())),
            owned(detail::make_error_reply(7, "what went wrong"))};
}

TEST(message, truncated_bytes_do_no_harm) {
    for (const bytes& whole : specimens()) {
        for (std::size_t size = 0; size < whole.size(); ++size) {
            read_in_every_way({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        }
    }
}

TEST(message, flipped_bits_do_no_harm) {
    std::mt19937_64 random(20240607);
    const std::vector<bytes> all = specimens();
    for (int round = 0; round < 8000; ++round) {
        bytes b = all[random() % all.size()];
        for (auto flips = 1 + random() % 6; flips > 0; --flips) {
            b[random() % b.size()] ^= static_cast<std::byte>(1U << random() % 8);
        }
        read_in_every_way(b);
    }
}

TEST(message, random_words_do_no_harm) {
    std::mt19937_64 random(42);
    for (int round = 0; round < 4000; ++round) {
        bytes b(8 * (1 + random() % 24));
        for (std::size_t i = 0; i < b.size(); i += 8) {
            // Small numbers, as those look like pointers that lead somewhere.
            const std::uint64_t word = random() & (random() % 2 ? 0x0000'001f'0000'003fULL : ~0ULL);
            std::memcpy(&b[i], &word, 8);
        }
        read_in_every_way(b);
    }
}

TEST(fingerprint, tells_types_of_one_size_apart) {
    const std::set<std::uint16_t> distinct{
        detail::fingerprint<std::int32_t>(), detail::fingerprint<std::uint32_t>(),
        detail::fingerprint<float>(),        detail::fingerprint<char32_t>(),
        detail::fingerprint<point>(),        detail::fingerprint<fixed>(),
        detail::fingerprint<colour>(),       detail::fingerprint<bool>()};
    EXPECT_EQ(distinct.size(), 8U);
    EXPECT_EQ(detail::fingerprint<long>(), detail::fingerprint<long long>());
    EXPECT_GE(detail::fingerprint<point>(), detail::first_hashed);
}

TEST(arguments, round_trip_as_a_tuple) {
    const bytes b = detail::encode_arguments(1, "two", some_account(), point{1, 2});
    const auto got = detail::decode_arguments<int, std::string, account, point>(b);
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(std::get<0>(*got), 1);
    EXPECT_EQ(std::get<1>(*got), "two");
    EXPECT_EQ(std::get<2>(*got), some_account());
    EXPECT_EQ(std::get<3>(*got), (point{1, 2}));
    EXPECT_TRUE(detail::decode_arguments<>(detail::encode_arguments()).has_value());
}

TEST(arguments, another_number_or_type_is_wrong) {
    const bytes b = detail::encode_arguments(1, "two");
    EXPECT_EQ((detail::decode_arguments<int>(b).error()), errc::wrong_type);
    EXPECT_EQ((detail::decode_arguments<int, int>(b).error()), errc::wrong_type);
    EXPECT_EQ((detail::decode_arguments<int, std::string, int>(b).error()), errc::wrong_type);
}

TEST(request, carries_id_method_and_arguments) {
    const message m = detail::make_request(~std::uint64_t{0}, "set", "user0", value(100));
    EXPECT_EQ(m.kind(), message_kind::request);
    const auto q = detail::request::parse(m);
    ASSERT_TRUE(q.has_value());
    EXPECT_EQ(q->id(), ~std::uint64_t{0});
    EXPECT_EQ(q->method(), "set");
    EXPECT_EQ(q->argument_count(), 2U);
    const auto got = q->arguments<std::string, value>();
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(std::get<0>(*got), "user0");
    EXPECT_EQ(std::get<1>(*got), value(100));
    EXPECT_EQ(q->arguments<int>().error(), errc::wrong_type);
    EXPECT_EQ((q->arguments<int, value>().error()), errc::wrong_type);
    EXPECT_TRUE(detail::request::parse(detail::make_request(1, "hello"))->arguments<>());
}

TEST(request, other_messages_are_not_requests) {
    EXPECT_EQ(detail::request::parse(message::of(5)).error(), errc::wrong_type);
    EXPECT_EQ(detail::request::parse(message(message_kind::request, 0, bytes(3))).error(),
              errc::corrupt);
}

TEST(reply, carries_its_result) {
    const auto r = detail::reply::parse(detail::make_reply(9, some_account()));
    ASSERT_TRUE(r.has_value());
    EXPECT_EQ(r->id(), 9U);
    EXPECT_FALSE(r->is_error());
    EXPECT_EQ(r->error_text(), "");
    EXPECT_EQ(*r->as<account>(), some_account());
    EXPECT_EQ(r->as<int>().error(), errc::wrong_type);
}

TEST(reply, of_nothing_is_void) {
    const auto r = detail::reply::parse(detail::make_void_reply(9));
    ASSERT_TRUE(r.has_value());
    EXPECT_TRUE(r->as<void>().has_value());
    EXPECT_EQ(*r->as<value>(), value());
    EXPECT_EQ(r->as<int>().error(), errc::wrong_type);
}

TEST(reply, carries_the_text_of_an_error) {
    const std::string text = "no account \xff of that name";
    const auto r = detail::reply::parse(detail::make_error_reply(9, text));
    ASSERT_TRUE(r.has_value());
    EXPECT_EQ(r->id(), 9U);
    EXPECT_TRUE(r->is_error());
    EXPECT_EQ(r->error_text(), text);
    EXPECT_EQ(r->as<int>().error(), errc::remote_error);
    EXPECT_EQ(r->as<void>().error(), errc::remote_error);
}

}  // namespace
