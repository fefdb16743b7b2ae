// SPDX-License-Identifier: Apache-2.0
// What does not compile. Each "error: A @ B" is two extended regular expressions, what the compiler
// is to say and of what. Exactly one line of its errors matches both; there are no other errors.
#include <places/core/place.hpp>
#include <places/core/server.hpp>

#include <boost/describe.hpp>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct with_pointer {
    std::string name;
    int* next = nullptr;
};
BOOST_DESCRIBE_STRUCT(with_pointer, (), (name, next))

struct outer {
    std::vector<with_pointer> inner;
};
BOOST_DESCRIBE_STRUCT(outer, (), (inner))

struct undescribed {
    std::string name;
};

struct derived : undescribed {
    int more = 0;
};
BOOST_DESCRIBE_STRUCT(derived, (undescribed), (more))

struct base {
    int number = 0;
};
BOOST_DESCRIBE_STRUCT(base, (), (number))
struct hiding : base {
    int number = 0;
};
BOOST_DESCRIBE_STRUCT(hiding, (base), (number))

struct without_default {
    explicit without_default(int n) : number(n) {}
    int number;
};
BOOST_DESCRIBE_STRUCT(without_default, (), (number))

void takes_two(places::channel&, int, const std::string&) {}
void takes_view(places::channel&, std::string_view) {}
void takes_end_by_value(places::channel) {}

void put_and_get(places::channel& c, places::reply_end& end, int* number) {
    // error: what it points to @ cannot_travel<int ?\*>
    (void)c.put(number);
    // error: what it points to @ cannot_travel<[^,<]*with_pointer, [^,]*with_pointer::next>, int
    // ?\*>
    (void)c.put(with_pointer{});
    // error: what it points to @ cannot_travel<[^,<]*outer, .*outer::inner>, .*::next>, int ?\*>
    (void)c.put(outer{});
    // error: #include <boost/describe.hpp> and add BOOST_D @ cannot_travel<[^,<]*undescribed>
    (void)c.try_put(undescribed{});
    // error: #include <boost/describe.hpp> @ cannot_travel<std::map<int, .*>, [^,]*undescribed>
    (void)c.put_for(std::map<int, undescribed>{}, std::chrono::seconds(1));
    // error: base of a described class is not described @ cannot_travel<.*derived, .*undescribed>
    (void)end.put(derived{});
    // error: hides one of a base @ cannot_travel<.*hiding>
    (void)c.put(hiding{});
    // error: use an owner, std::string for std::string_view @ cannot_travel<std::basic_string_view<
    (void)c.get<std::string_view>();
    // error: std::vector for std::span @ cannot_travel<std::span<int
    (void)c.try_get<std::span<int>>();
    // error: function object @ cannot_travel<std::function<void ?\(\)>
    (void)c.get_for<std::function<void()>>(std::chrono::seconds(1));
    // error: without const or & @ cannot_travel<const int>
    (void)c.get<const int>();
    // error: what it points to @ cannot_travel<std::unique_ptr<int
    (void)c.get<std::unique_ptr<int>>();
    // error: std::vector for std::span @ cannot_travel<std::span<const std::byte
    (void)c.get<std::span<const std::byte>>();
    // error: a std::string for a const char\* @ cannot_travel<const char ?\*>
    (void)places::message::of(1).as<const char*>();
    // error: needs a default constructor @ has_no_default_constructor<.*without_default>
    (void)c.get<without_default>();
}

void spawn() {
    // error: this one is missing @ missing_argument<1, int>
    // error: this one is missing @ missing_argument<2, std::.*basic_string<
    (void)places::spawn(takes_two);
    // error: no parameter for this argument @ surplus_argument<3, double>
    (void)places::spawn(takes_two, 1, "two", 3.0);
    // error: does not convert @ not_convertible_argument<2, int, std::.*basic_string<
    (void)places::spawn({.named = "two"}, takes_two, 1, 2);
    // error: use an owner @ entry_parameter<1, void ?\(places::channel ?&, .*\)>, .*string_view
    (void)places::spawn(takes_view, "text");
    // error: its end, by reference @ entry_parameter<1, void ?\(places::channel\)>, pl
    (void)places::spawn(takes_end_by_value);
}

struct bank {
    long find(std::string_view name);
    std::string_view name() const;
    void fill(std::vector<int>& into);
    long add(long n);
    const with_pointer& first();
};
// error: use an owner @ method_parameter<1, &.*bank::find>, .*string_view
// error: use an owner @ method_result<&.*bank::name>, .*string_view
// error: does not travel back @ method_parameter<1, &.*bank::fill>, std::vector<int.*> ?&>
// error: what it points to @ method_result<&.*bank::first>, .*with_pointer, .*next>, int ?\*>
PLACES_NAMED_SERVER(bank, (rpc, find), (rpc, name), (rpc, fill), (cast, add), (rpc, first))

void use(bank* at_all) {
    (void)at_all;
    auto b = places::spawn_server<bank>();
    (void)b.find("text");
    // error: a cast returns nothing @ method_result<&.*bank::add>
    (void)b.add(1);
}

struct without_macro {
    void go();
};
// error: add PLACES_NAMED_SERVER.*or PLACES_SERVER after it @ not_declared_server<.*without_macro>
void connect() { (void)places::connect_to_named_place<without_macro>("it"); }

}  // namespace
