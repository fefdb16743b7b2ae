// SPDX-License-Identifier: Apache-2.0
// Nodes of one root that talk to each other: what they may, and what they are told.
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/peer.hpp"
#include "tests/support/error_of.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <string>
#include <vector>

namespace places {
namespace {

using net::peer;

remote_node start_named(const std::string& name, bool insecure = false, bytes key = {}) {
    node_options options{.listen_port = 0};
    options.name = name;
    options.insecure = insecure;
    options.key = std::move(key);
    return test_runtime().spawn_remote_node("localhost", options);
}

/// A node with an echo to connect to, and somebody to send to others.
struct inhabited {
    explicit inhabited(remote_node n) : node(std::move(n)) {}
    remote_node node;
    remote_place echo = node.supervise_place(echo_entry, {.named = "echo"});
    client<traveller_server> traveller = node.supervise_place<traveller_server>();
};

std::string text_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const remote_error& e) {
        return e.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
}
bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

// -- real nodes --

TEST(peers, connect_to_named_places_of_each_other) {
    for (const bool insecure : {false, true}) {
        SCOPED_TRACE(insecure ? "in the clear" : "by TLS");
        inhabited one{start_named("one", insecure)};
        inhabited two{start_named("two", insecure)};
        EXPECT_EQ(one.traveller.ask("two", "echo", "from one"), "from one");
        EXPECT_EQ(two.traveller.ask("one", "echo", "from two"), "from two");
    }
}

TEST(peers, use_one_link_for_both_directions) {
    const auto key = net::make_node_key();
    inhabited one{start_named("one", net::insecure, {key.begin(), key.end()})};
    inhabited two{start_named("two", net::insecure)};
    one.traveller.go("two", "echo");
    EXPECT_EQ(two.traveller.ask("one", "echo", "back"), "back");
    EXPECT_EQ(one.traveller.ask("two", "echo", "again"), "again");
    EXPECT_EQ(one.traveller.say("still there"), "still there");
    peer looks{one.node.port(), key};
    ASSERT_TRUE(looks.is_welcome);
    ASSERT_TRUE(looks.send(net::list_ask_frame{}));
    std::vector<std::string> seen;
    while (const auto part = looks.next<net::list_answer_frame>()) {
        for (const auto& link : part->links) seen.push_back(link.peer + ": " + link.rights);
        if (part->is_last) break;
    }
    std::ranges::sort(seen);
    const std::vector<std::string> expected{"by hand: start stop list connect",
                                            "root: start stop list connect", "two: connect"};
    EXPECT_EQ(seen, expected);
}

TEST(peers, are_found_by_address_and_port_where_they_have_no_name) {
    inhabited one{start_node()};
    inhabited two{start_node()};
    EXPECT_EQ(one.traveller.ask(two.node.name(), "echo", "a"), "a");
    const auto as_it_calls_itself = "127.0.0.1:" + std::to_string(one.node.port());
    EXPECT_EQ(two.traveller.ask(as_it_calls_itself, "echo", "b"), "b");
}

TEST(peers, reach_their_own_places_by_the_name_of_their_node) {
    inhabited one{start_node()};
    EXPECT_EQ(one.traveller.ask(one.node.name(), "echo", "a"), "a");
    const auto as_it_calls_itself = "127.0.0.1:" + std::to_string(one.node.port());
    EXPECT_EQ(one.traveller.ask(as_it_calls_itself, "echo", "b"), "b");
}

TEST(peers, are_reached_by_name_from_the_root_too) {
    inhabited one{start_named("one")};
    auto c = connect_to_named_place("one", "echo");
    EXPECT_EQ(echoed(c, "hello"), "hello");
    const auto text = text_of_error(errc::name_not_found,
                                    [] { (void)connect_to_named_place("elsewhere", "echo"); });
    EXPECT_TRUE(contains(text, "\"elsewhere\"")) << text;
    EXPECT_TRUE(contains(text, "\"one\"")) << text;
}

TEST(peers, are_dialed_once_for_all_who_wait) {
    inhabited one{start_named("one")};
    inhabited two{start_named("two")};
    std::vector<client<traveller_server>> many;
    for (int i = 0; i < 8; ++i) {
        many.push_back(one.node.supervise_place<traveller_server>());
    }
    std::vector<std::future<std::string>> answers;
    for (auto& each : many) {
        answers.push_back(
            std::async(std::launch::async, [&] { return each.ask("two", "echo", "here"); }));
    }
    for (auto& each : answers) EXPECT_EQ(each.get(), "here");
}

TEST(peers, are_told_which_name_is_unknown) {
    inhabited one{start_named("one")};
    inhabited two{start_named("two")};
    const auto no_node = text_of([&] { (void)one.traveller.ask("three", "echo", ""); });
    EXPECT_TRUE(contains(no_node, "\"three\"")) << no_node;
    EXPECT_TRUE(contains(no_node, "\"one\", \"two\"")) << no_node;
    const auto no_place = text_of([&] { (void)one.traveller.ask("two", "nobody", ""); });
    EXPECT_TRUE(contains(no_place, "nobody")) << no_place;
    EXPECT_TRUE(contains(no_place, "(node two)")) << no_place;
    const auto no_name = text_of([&] { (void)one.traveller.ask("", "echo", ""); });
    EXPECT_TRUE(contains(no_name, "name")) << no_name;
    EXPECT_EQ(one.traveller.ask("two", "echo", "still"), "still");
}

TEST(peers, of_the_same_name_are_not_taken_for_each_other) {
    inhabited one{start_named("one")};
    const auto first = start_named("two");
    const auto second = start_named("two");
    const auto text = text_of([&] { (void)one.traveller.ask("two", "echo", ""); });
    EXPECT_TRUE(contains(text, "several nodes are called \"two\"")) << text;
    (void)text_of_error(errc::name_taken, [] { (void)connect_to_named_place("two", "echo"); });
}

TEST(peers, hear_of_each_others_death) {
    inhabited one{start_named("one")};
    std::optional<inhabited> two{start_named("two")};
    one.traveller.go("two", "echo");
    EXPECT_EQ(one.traveller.say("hello"), "hello");
    // What the root of a node leaves behind may answer until it has gone, too.
    const auto bridge = watch(bridge_of(two->node.pid()));
    ASSERT_TRUE(bridge);
    ASSERT_EQ(::kill(two->node.pid(), SIGKILL), 0);
    EXPECT_TRUE(ends(bridge));
    EXPECT_EQ(two->node.wait(), (exit_status{true, SIGKILL}));
    EXPECT_NE(one.traveller.say("and now"), "and now");
    const auto gone = text_of([&] { (void)one.traveller.ask("two", "echo", ""); });
    EXPECT_TRUE(contains(gone, "(node two)")) << gone;
    two.reset();
    // Another of the same name is not taken for it.
    inhabited again{start_named("two")};
    EXPECT_EQ(one.traveller.ask("two", "echo", "new"), "new");
}

TEST(peers, do_not_hold_each_other) {
    std::optional<inhabited> one{start_named("one")};
    inhabited two{start_named("two")};
    one->traveller.go("two", "echo");
    one->node.send_exit(3);
    EXPECT_EQ(one->node.wait(), (exit_status{false, 3}));
    one.reset();
    EXPECT_EQ(echoed(two.echo, "hello"), "hello");
    two.node.send_exit(4);
    EXPECT_EQ(two.node.wait(), (exit_status{false, 4}));
}

// -- peers made by hand --

/// Its starter and other nodes are made by hand.
class introduced : public net::bridge_test {
  protected:
    introduced() : starter_(port_, key_, "starter") {
        // What has started a place here is asked for other nodes.
        EXPECT_TRUE(starter_.send(net::open_frame{1, net::ring, net::start_entry{"echo", place_}}));
        EXPECT_TRUE(starter_.next<net::opened_frame>());
    }
    /// A channel to "there" of the node "other", asked for and not answered; the starter is asked.
    channel wants_other() {
        auto c = net::ask_bridge(net::connect_command{0, "there", "other"});
        const auto asked = starter_.next<net::introduce_frame>();
        EXPECT_TRUE(asked && asked->node == "other");
        return c;
    }
    net::introduction_frame to_port(std::uint16_t port) const {
        net::introduction_frame f{.node = "other"};
        f.name = "by hand";
        f.host = "127.0.0.1";
        f.port = port;
        f.key = other_key_;
        f.insecure = net::insecure;
        return f;
    }
    std::string refusal_of(channel& c, errc code) {
        return text_of_error(code, [&] { (void)detail::await_opened(c); });
    }

    const std::string place_ = "known at " + std::to_string(port_);
    const net::node_key other_key_ = net::make_node_key();
    peer starter_;
};

TEST_F(introduced, dials_with_the_key_it_was_given_and_allows_connecting_only) {
    auto c = wants_other();
    const auto [listening, port] = net::listen_by_hand();
    ASSERT_TRUE(starter_.send(to_port(port)));
    peer other{net::accept_by_hand(listening), other_key_};
    ASSERT_TRUE(other.is_welcome);
    const auto open = other.next<net::open_frame>();
    ASSERT_TRUE(open);
    EXPECT_EQ(open->target, decltype(open->target){net::connect_name{"there"}});
    ASSERT_TRUE(other.send(net::opened_frame{open->channel, net::ring, 1}));
    (void)detail::await_opened(c);

    // Whoever was dialed may do the same, under even numbers, and no more.
    ASSERT_TRUE(other.send(net::open_frame{2, net::ring, net::connect_name{place_}}));
    EXPECT_TRUE(other.next<net::opened_frame>());
    ASSERT_TRUE(other.send(net::open_frame{4, net::ring, net::start_entry{"echo", ""}}));
    const auto refused = other.next<net::refused_frame>();
    EXPECT_TRUE(refused && refused->code == errc::permission_denied);
    ASSERT_TRUE(other.send(net::open_frame{5, net::ring, net::connect_name{place_}}));
    EXPECT_TRUE(other.is_closed_by_bridge());
    expect_alive();
}

TEST_F(introduced, may_be_dialed_with_the_peer_key_of_a_node_and_allows_connecting_only) {
    peer other{port_, net::peer_key(key_, "other"), "other"};
    ASSERT_TRUE(other.is_welcome);
    ASSERT_TRUE(other.send(net::open_frame{1, net::ring, net::connect_name{place_}}));
    EXPECT_TRUE(other.next<net::opened_frame>());
    ASSERT_TRUE(other.send(net::open_frame{3, net::ring, net::start_entry{"echo", ""}}));
    const auto refused = other.next<net::refused_frame>();
    EXPECT_TRUE(refused && refused->code == errc::permission_denied);
    ASSERT_TRUE(other.send(net::list_ask_frame{}));
    const auto list = other.next<net::list_answer_frame>();
    EXPECT_TRUE(list && list->code == errc::permission_denied);
    ASSERT_TRUE(other.send(net::exit_frame{3}));
    EXPECT_TRUE(other.next<net::exit_refused_frame>());

    // This node asks it as it is asked.
    auto c = net::ask_bridge(net::connect_command{0, "there", "other"});
    const auto open = other.next<net::open_frame>();
    ASSERT_TRUE(open);
    EXPECT_EQ(open->channel, 2U);
    ASSERT_TRUE(other.send(net::opened_frame{2, net::ring, 1}));
    (void)detail::await_opened(c);

    EXPECT_FALSE((peer{port_, net::peer_key(key_, "other"), "another"}.is_welcome));
    expect_alive();
}

TEST_F(introduced, is_told_what_the_starter_says_and_what_becomes_of_the_dial) {
    auto refused = wants_other();
    net::introduction_frame no{.node = "other"};
    no.code = errc::name_not_found;
    no.text = "nobody\nof that name";
    ASSERT_TRUE(starter_.send(no));
    EXPECT_TRUE(contains(refusal_of(refused, errc::name_not_found), "of that name"));

    auto nobody_there = wants_other();
    std::uint16_t port = 0;
    {
        const auto [listening, was] = net::listen_by_hand();
        port = was;
    }
    ASSERT_TRUE(starter_.send(to_port(port)));
    const auto text = refusal_of(nobody_there, errc::node_unreachable);
    EXPECT_TRUE(contains(text, std::to_string(port))) << text;

    auto wrong_key = wants_other();
    const auto [listening, there] = net::listen_by_hand();
    ASSERT_TRUE(starter_.send(to_port(there)));
    peer stranger{net::accept_by_hand(listening), net::make_node_key()};
    EXPECT_FALSE(stranger.is_welcome);
    (void)refusal_of(wrong_key, errc::bad_key);
    expect_alive();
}

TEST_F(introduced, is_told_when_the_starter_goes_before_it_answers) {
    auto c = wants_other();
    starter_.shut_writing();
    const auto text = refusal_of(c, errc::node_unreachable);
    EXPECT_TRUE(contains(text, "whoever has started this node")) << text;
}

TEST_F(introduced, is_told_when_the_starter_does_not_answer) {
    auto c = wants_other();
    const auto text = refusal_of(c, errc::node_unreachable);
    EXPECT_TRUE(contains(text, "does not say")) << text;
    // Too late is no breach.
    net::introduction_frame late{.node = "other"};
    late.code = errc::name_not_found;
    ASSERT_TRUE(starter_.send(late));
    ASSERT_TRUE(starter_.send(net::ping_frame{7}));
    EXPECT_TRUE(starter_.next<net::pong_frame>());
}

TEST_F(introduced, hangs_up_on_an_answer_that_it_has_not_asked_for) {
    ASSERT_TRUE(starter_.send(net::introduction_frame{.node = "other"}));
    EXPECT_TRUE(starter_.is_closed_by_bridge());
    const auto line = heard("an introduction that was not asked for");
    EXPECT_TRUE(contains(line, "hung up on 'starter' at 127.0.0.1:")) << line;
    expect_alive();
}

TEST_F(introduced, hangs_up_on_whoever_dialed_and_asks_for_others) {
    for (const bool is_peer : {false, true}) {
        peer asks{port_, is_peer ? net::peer_key(key_, "other") : key_, "other"};
        ASSERT_TRUE(asks.send(net::introduce_frame{"starter"}));
        EXPECT_TRUE(asks.is_closed_by_bridge());
    }
    expect_alive();
}

}  // namespace
}  // namespace places
