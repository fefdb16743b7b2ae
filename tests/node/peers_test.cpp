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
    client<traveller_server, remote_place> traveller = node.supervise_place<traveller_server>();
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
    const std::vector<std::string> expected{"launcher: start stop list connect",
                                            "launcher: start stop list connect", "two: connect"};
    EXPECT_EQ(seen, expected);
}

TEST(peers, are_found_by_address_and_port_where_they_have_no_name) {
    inhabited one{start_node()};
    inhabited two{start_node()};
    EXPECT_EQ(one.traveller.ask(two.node.name(), "echo", "a"), "a");
    // What it calls itself is no name.
    const auto claimed = "127.0.0.1:" + std::to_string(one.node.port());
    const auto text = text_of([&] { (void)two.traveller.ask(claimed, "echo", ""); });
    EXPECT_TRUE(contains(text, "no node is called \"" + claimed + "\"")) << text;
}

TEST(peers, of_one_host_reach_each_other_on_loopback_whatever_they_advertise) {
    node_options options{.listen_port = 0};
    options.advertise = "198.51.100.1";
    inhabited one{test_runtime().spawn_remote_node("localhost", options)};
    inhabited two{start_node()};
    EXPECT_EQ(one.traveller.ask(two.node.name(), "echo", "a"), "a");
    EXPECT_EQ(two.traveller.ask(one.node.name(), "echo", "b"), "b") << "over the link that stands";
}

TEST(peers, reach_their_own_places_by_the_name_of_their_node) {
    inhabited one{start_node()};
    EXPECT_EQ(one.traveller.ask(one.node.name(), "echo", "a"), "a");
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
    std::vector<client<traveller_server, remote_place>> many;
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

/// Its controller and other nodes are made by hand.
class introduced : public net::bridge_test {
  protected:
    introduced() : controller_(port_, key_) {
        // What has started a place here is asked for other nodes.
        EXPECT_TRUE(
            controller_.send(net::open_frame{1, net::ring, net::start_entry{"echo", place_}}));
        EXPECT_TRUE(controller_.next<net::opened_frame>());
    }
    /// A channel to "there" of the node "other", asked for and not answered; the controller is
    /// asked.
    channel wants_other() {
        auto c = net::ask_bridge(net::connect_command{{}, "there", "other"});
        const auto asked = controller_.next<net::introduce_frame>();
        EXPECT_TRUE(asked && asked->node == "other");
        return c;
    }
    net::introduction_frame to_port(std::uint16_t port) const {
        net::introduction_frame f{.node = "other"};
        f.asker = "tested";
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
    peer controller_;
};

TEST_F(introduced, dials_with_the_key_it_was_given_and_allows_connecting_only) {
    auto c = wants_other();
    const auto [listening, port] = net::listen_by_hand();
    ASSERT_TRUE(controller_.send(to_port(port)));
    peer other{net::accept_by_hand(listening), other_key_, "by hand", "tested"};
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
    peer other{port_, net::make_peer_key(key_, "other"), "other"};
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
    auto c = net::ask_bridge(net::connect_command{{}, "there", "other"});
    const auto open = other.next<net::open_frame>();
    ASSERT_TRUE(open);
    EXPECT_EQ(open->channel, 2U);
    ASSERT_TRUE(other.send(net::opened_frame{2, net::ring, 1}));
    (void)detail::await_opened(c);

    EXPECT_FALSE((peer{port_, net::make_peer_key(key_, "other"), "another"}.is_welcome));
    expect_alive();
}

TEST_F(introduced, is_told_what_the_controller_says_and_what_becomes_of_the_dial) {
    auto refused = wants_other();
    net::introduction_frame no{.node = "other"};
    no.code = errc::name_not_found;
    no.text = "nobody\n" + std::string(300, '-') + " of that name";
    ASSERT_TRUE(controller_.send(no));
    EXPECT_TRUE(contains(refusal_of(refused, errc::name_not_found), "of that name"));

    auto nobody_there = wants_other();
    std::uint16_t port = 0;
    {
        const auto [listening, was] = net::listen_by_hand();
        port = was;
    }
    ASSERT_TRUE(controller_.send(to_port(port)));
    const auto text = refusal_of(nobody_there, errc::node_unreachable);
    EXPECT_TRUE(contains(text, std::to_string(port))) << text;

    auto wrong_key = wants_other();
    const auto [listening, there] = net::listen_by_hand();
    ASSERT_TRUE(controller_.send(to_port(there)));
    peer stranger{net::accept_by_hand(listening), net::make_node_key(), "by hand", "tested"};
    EXPECT_FALSE(stranger.is_welcome);
    (void)refusal_of(wrong_key, errc::bad_key);
    expect_alive();
}

TEST_F(introduced, is_told_when_the_controller_goes_before_it_answers) {
    auto c = wants_other();
    controller_.shut_writing();
    const auto text = refusal_of(c, errc::node_unreachable);
    EXPECT_TRUE(contains(text, "whoever has started this node")) << text;
}

TEST_F(introduced, is_told_when_the_controller_does_not_answer) {
    auto c = wants_other();
    const auto text = refusal_of(c, errc::node_unreachable);
    EXPECT_TRUE(contains(text, "does not say")) << text;
    // The late answer serves who asks meanwhile, and the answer to that does no harm.
    auto again = wants_other();
    const auto [listening, port] = net::listen_by_hand();
    ASSERT_TRUE(controller_.send(to_port(port)));
    net::introduction_frame no{.node = "other"};
    no.code = errc::name_not_found;
    ASSERT_TRUE(controller_.send(no));
    peer other{net::accept_by_hand(listening), other_key_, "by hand", "tested"};
    const auto open = other.next<net::open_frame>();
    ASSERT_TRUE(open);
    ASSERT_TRUE(other.send(net::opened_frame{open->channel, net::ring, 1}));
    (void)detail::await_opened(again);
}

TEST_F(introduced, is_told_when_the_controller_is_not_there_any_more) {
    controller_.shut_writing();
    for (auto event = control_.get<net::bridge_event>(); event;
         event = control_.get<net::bridge_event>()) {
        const auto* links = std::get_if<net::links_changed>(&*event);
        if (links && links->count == 0) break;
    }
    auto c = net::ask_bridge(net::connect_command{{}, "there", "other"});
    const auto text = refusal_of(c, errc::node_unreachable);
    EXPECT_TRUE(contains(text, "not linked to it any more")) << text;
}

TEST_F(introduced, has_one_link_dialed_by_a_peer_the_last) {
    const auto key = net::make_peer_key(key_, "other");
    peer first{port_, key, "other"};
    ASSERT_TRUE(first.is_welcome);
    peer second{port_, key, "other"};
    ASSERT_TRUE(second.is_welcome);
    EXPECT_TRUE(first.is_closed_by_bridge());
    peer third{port_, net::make_peer_key(key_, "another"), "another"};
    ASSERT_TRUE(third.is_welcome);
    ASSERT_TRUE(second.send(net::ping_frame{7}));
    EXPECT_TRUE(second.next<net::pong_frame>());
}

TEST_F(introduced, hangs_up_on_an_answer_without_a_port_or_with_a_name_that_is_none) {
    auto c = wants_other();
    auto f = to_port(4711);
    f.asker = "two\nlines";
    ASSERT_TRUE(controller_.send(f));
    EXPECT_TRUE(controller_.is_closed_by_bridge());
    (void)refusal_of(c, errc::node_unreachable);
    expect_alive();
}

// -- a controller whose nodes are made by hand --

using introducing = net::bridge_test;

net::introduction_frame answer_to(peer& asker, const std::string& node) {
    EXPECT_TRUE(asker.send(net::introduce_frame{node}));
    return asker.next<net::introduction_frame>().value_or(net::introduction_frame{});
}

TEST_F(introducing, a_node_counts_under_the_name_we_have_given_it_whatever_it_claims) {
    const auto key = net::make_node_key();
    const auto victim_key = net::make_node_key();
    auto victim = net::be_dialed(victim_key, "victim");
    auto liar = net::be_dialed(key, "liar", "friend");
    auto other = net::be_dialed(net::make_node_key(), "other", "victim");
    // Who asks.
    const auto to_victim = answer_to(liar.node, "victim");
    EXPECT_EQ(to_victim.code, errc{});
    EXPECT_EQ(to_victim.asker, "liar");
    EXPECT_EQ(to_victim.port, victim.port);
    EXPECT_EQ(to_victim.key, net::make_peer_key(victim_key, "liar"));
    // Who is asked for.
    EXPECT_EQ(answer_to(other.node, "friend").code, errc::name_not_found);
    EXPECT_EQ(answer_to(other.node, "liar").key, net::make_peer_key(key, "other"));
    // Itself.
    const auto itself = answer_to(liar.node, "liar");
    EXPECT_EQ(itself.code, errc{});
    EXPECT_EQ(itself.host, "");
}

TEST_F(introducing, two_of_one_name_are_neither_found_nor_told_of_others) {
    auto twin = net::be_dialed(net::make_node_key(), "twin");
    auto other = net::be_dialed(net::make_node_key(), "other");
    {
        auto second = net::be_dialed(net::make_node_key(), "twin");
        EXPECT_EQ(answer_to(other.node, "twin").code, errc::name_taken);
        EXPECT_EQ(answer_to(second.node, "other").code, errc::name_taken);
        EXPECT_EQ(answer_to(twin.node, "twin").code, errc::name_taken);
    }
}

TEST_F(introducing, names_every_node_there_is_where_one_is_not) {
    std::vector<net::dialed_node> nodes;
    for (int i = 0; i < 20; ++i) {
        nodes.push_back(
            net::be_dialed(net::make_node_key(), "a-rather-long-name-" + std::to_string(i)));
    }
    const auto answer = answer_to(nodes[0].node, "nobody");
    EXPECT_EQ(answer.code, errc::name_not_found);
    for (int i = 0; i < 20; ++i) {
        EXPECT_TRUE(contains(answer.text, "\"a-rather-long-name-" + std::to_string(i) + "\""));
    }
}

TEST_F(introduced, hangs_up_on_an_answer_that_it_has_not_asked_for) {
    ASSERT_TRUE(controller_.send(net::introduction_frame{.node = "other"}));
    EXPECT_TRUE(controller_.is_closed_by_bridge());
    const auto line = heard("an introduction that was not asked for");
    EXPECT_TRUE(contains(line, "hung up on 'launcher' at 127.0.0.1:")) << line;
    expect_alive();
}

TEST_F(introduced, hangs_up_on_whoever_dialed_and_asks_for_others) {
    for (const bool is_peer : {false, true}) {
        peer asks =
            is_peer ? peer{port_, net::make_peer_key(key_, "other"), "other"} : peer{port_, key_};
        ASSERT_TRUE(asks.send(net::introduce_frame{"controller"}));
        EXPECT_TRUE(asks.is_closed_by_bridge());
    }
    expect_alive();
}

}  // namespace
}  // namespace places
