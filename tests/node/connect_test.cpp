// SPDX-License-Identifier: Apache-2.0
// Nodes that run already, and a program that connects to one. Here it has started it too, so the
// node has two links to the same root.
#include "launcher/key_file.hpp"
#include "tests/node/cutting_proxy.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/peer.hpp"
#include "tests/support/attackers.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/kill_process.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <sched.h>
#include <string>

namespace places {
namespace {

using namespace std::chrono_literals;

class connected : public ::testing::Test {
  protected:
    static remote_node start(const net::node_key& key, bool insecure = false) {
        node_options options{.listen_port = 0};
        options.key = {key.begin(), key.end()};
        options.insecure = insecure;
        return test_runtime().spawn_remote_node("localhost", options);
    }
    std::string address() const { return "127.0.0.1:" + std::to_string(node_.port()); }
    connect_options own_key(bool insecure = false) const {
        connect_options options;
        options.key = {key_.begin(), key_.end()};
        options.insecure = insecure;
        return options;
    }
    /// One that allows connecting alone.
    connect_options guest_key(const std::string& owner) const {
        connect_options options;
        options.key_file = scratch_.path() + "/" + owner;
        launcher::write_key_file(options.key_file, {net::make_guest_key(key_, owner), owner,
                                                    net::connect_only, net::key_kind::granted});
        return options;
    }
    remote_node connect(const connect_options& options) const {
        return test_runtime().connect_node(address(), options);
    }

    const scratch_folder scratch_;
    const net::node_key key_ = net::make_node_key();
    remote_node node_ = start(key_);
    remote_place echo_ = node_.supervise_place(echo_entry, {.named = "echo"});
};

TEST_F(connected, does_with_the_node_what_its_controller_does) {
    auto there = connect(own_key());
    EXPECT_EQ(there.name(), address());
    EXPECT_EQ(there.port(), node_.port());
    EXPECT_EQ(there.pid(), 0);
    EXPECT_TRUE(there.is_up());
    auto found = there.connect_to_named_place("echo");
    EXPECT_EQ(echoed(found, "hello"), "hello");
    there.supervise_place<table_server>({.named = "table"}).set("a", 1);
    EXPECT_EQ(node_.connect_to_named_place<table_server>("table").get("a"), 1);
    auto place = there.supervise_place(end_with_entry);
    ASSERT_TRUE(place.get<std::int64_t>());
    ASSERT_EQ(place.put(std::int64_t{7}), status::ok);
    EXPECT_EQ(place.wait(), (exit_status{.value = 7}));
}

/// Keeps up a thousand connections to a port that never say a word.
void attack_in_silence(channel& to_creator) {
    const auto port = to_creator.get<std::int64_t>().value();
    attackers{
        static_cast<std::uint16_t>(port), attack::silence, {}, [&] { (void)to_creator.put(true); }}
        .attack_for_ever();
}

TEST_F(connected, within_a_second_each_time_while_a_thousand_others_prove_no_key) {
    auto attackers = spawn(attack_in_silence);
    ASSERT_EQ(attackers.put(std::int64_t{node_.port()}), status::ok);
    ASSERT_TRUE(attackers.get<bool>());
    auto options = own_key();
    options.deadline = 1s;
    for (int i = 0; i < 20; ++i) {
        SCOPED_TRACE(i);
        auto there = connect(options);
        auto found = there.connect_to_named_place("echo");
        EXPECT_EQ(echoed(found, "hello"), "hello");
    }
    attackers.kill();
}

TEST_F(connected, knows_a_key_that_its_controller_has_had_from_a_file) {
    const auto file = scratch_.path() + "/node.key";
    launcher::write_key_file(file, {net::make_node_key(), std::string(net::launcher_name),
                                    net::all_rights, net::key_kind::launcher});
    const auto node =
        test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .key_file = file});
    auto there =
        test_runtime().connect_node("127.0.0.1:" + std::to_string(node.port()), {.key_file = file});
    auto place = there.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
}

TEST_F(connected, is_not_started_with_a_key_file_that_is_none_for_it) {
    const auto refused = [](errc code, node_options options) {
        return text_of_error(code,
                             [&] { (void)test_runtime().spawn_remote_node("localhost", options); });
    };
    const auto is_in = [](const std::string& part, const std::string& text) {
        EXPECT_NE(text.find(part), text.npos) << part << " is not in: " << text;
    };
    const auto open = scratch_.put("open.key", std::string(64, 'a'), 0640);
    is_in("key file " + open + ": may be read or written by others",
          refused(errc::bad_key_file, {.listen_port = 0, .key_file = open}));
    is_in("node localhost:0: key file nothing.key: No such file",
          refused(errc::bad_key_file, {.listen_port = 0, .key_file = "nothing.key"}));
    is_in("is guest's; a node needs one without an owner",
          refused(errc::bad_key_file, {.listen_port = 0, .key_file = guest_key("guest").key_file}));
    is_in("both key and key_file are given",
          refused(errc::bad_argument,
                  {.listen_port = 0, .key = own_key().key, .key_file = "node.key"}));
}

TEST_F(connected, finds_a_module_of_the_node_by_its_absolute_path_whatever_its_root_calls_it) {
    const auto key = net::make_node_key();
    node_options options{.listen_port = 0};
    options.key = {key.begin(), key.end()};
    options.modules = {"./" + std::filesystem::relative(NODE_MODULE).string()};
    const auto node = test_runtime().spawn_remote_node("localhost", options);
    connect_options known;
    known.key = options.key;
    auto there = test_runtime().connect_node("127.0.0.1:" + std::to_string(node.port()), known);
    auto place = there.supervise_place(library{NODE_MODULE, "module_greet"});
    EXPECT_EQ(echoed(place, "hello"), "module says hello");
}

TEST_F(connected, leaves_the_node_as_it_was_when_the_handle_goes) {
    std::optional<remote_place> anonymous;
    {
        const auto there = connect(own_key());
        auto copy = there;
        anonymous = copy.supervise_place(echo_entry);
        EXPECT_EQ(echoed(*anonymous, "once"), "once");
    }
    EXPECT_FALSE(anonymous->get<std::string>());
    EXPECT_EQ(echoed(echo_, "still"), "still");
    auto again = connect(own_key());
    auto found = again.connect_to_named_place("echo");
    EXPECT_EQ(echoed(found, "again"), "again");
}

TEST_F(connected, loses_its_anonymous_places_with_the_link_even_those_that_ignore_that) {
    const cutting_proxy proxy{node_.port(), ~std::size_t{0}};
    auto there =
        test_runtime().connect_node("127.0.0.1:" + std::to_string(proxy.port()), own_key());
    auto anonymous = there.supervise_place(ignore_the_end_entry);
    auto named = there.supervise_place(ignore_all_ends_entry, {.named = "stays"});
    const auto anonymous_life = watch(static_cast<pid_t>(anonymous.get<std::int64_t>().value()));
    const auto named_life = watch(static_cast<pid_t>(named.get<std::int64_t>().value()));
    proxy.cut();
    EXPECT_FALSE(anonymous.get<std::int64_t>());
    EXPECT_FALSE(named.get<std::int64_t>());
    EXPECT_TRUE(ends(anonymous_life));
    pollfd named_ends{named_life.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&named_ends, 1, 0), 0);
    EXPECT_EQ(echoed(echo_, "still"), "still");
}

TEST_F(connected, ends_the_node_with_send_exit_and_wait_tells_its_status) {
    for (const bool insecure : {false, true}) {
        SCOPED_TRACE(insecure ? "in the clear" : "by TLS");
        const auto key = net::make_node_key();
        auto node = start(key, insecure);
        connect_options options;
        options.key = {key.begin(), key.end()};
        options.insecure = insecure;
        auto there =
            test_runtime().connect_node("127.0.0.1:" + std::to_string(node.port()), options);
        there.send_exit(7);
        EXPECT_EQ(there.wait(), (exit_status{.value = 7}));
        EXPECT_EQ(there.wait(), (exit_status{.value = 7}));
        EXPECT_FALSE(there.is_up());
        EXPECT_EQ(node.wait(), (exit_status{.value = 7}));
    }
}

TEST_F(connected, hears_of_an_end_that_it_has_not_asked_for) {
    auto there = connect(own_key());
    auto place = there.supervise_place<table_server>();
    std::string reason;
    there.on_down([&](const std::string& why) { reason = why; });
    ::kill(node_.pid(), SIGKILL);
    const auto text = text_of_error(errc::node_down, [&] { (void)there.wait(); });
    EXPECT_NE(text.find("node " + address()), text.npos) << text;
    EXPECT_NE(text.find(reason), text.npos) << text;
    EXPECT_NE(reason, "");
    EXPECT_FALSE(there.is_up());
    EXPECT_EQ(error_of([&] { (void)place.get("a"); }).code(), errc::peer_dead);
    EXPECT_EQ(error_of([&] { (void)there.connect_to_named_place("echo"); }).code(),
              errc::node_down);
    there.send_exit();
}

TEST_F(connected, is_waited_for_in_bodies_beside_the_router_that_watches_it) {
    auto there = connect(own_key());
    int waited = 0;
    int told = 0;
    there.on_down([&](const std::string&) { ++told; });
    const auto wait = [&] {
        EXPECT_EQ(there.wait(), (exit_status{.value = 3}));
        if (++waited == 2) test_runtime().stop();
    };
    // The one dial ends when the other body, which must run meanwhile, hangs up and listens no
    // more.
    auto listening = net::listen_by_hand();
    auto options = own_key();
    options.deadline = 1h;
    test_runtime().route(there, after(0s, wait), after(0s, wait),
                         after(0s, [&, to = "127.0.0.1:" + std::to_string(listening.second)] {
                             // Our bridge has been told to dial when this one is left for the first
                             // time.
                             test_runtime().add(after(0s, [&] {
                                 (void)net::accept_by_hand(listening.first);
                                 listening.first.reset();
                             }));
                             const auto e =
                                 error_of([&] { (void)test_runtime().connect_node(to, options); });
                             EXPECT_EQ(e.code(), errc::node_unreachable) << e.what();
                             there.send_exit(3);
                         }));
    EXPECT_EQ(told, 1);
}

TEST_F(connected, tells_no_status_of_an_end_that_others_have_asked_for) {
    auto there = connect(own_key());
    auto other = connect(own_key());
    other.send_exit(3);
    EXPECT_EQ(other.wait(), (exit_status{.value = 3}));
    EXPECT_EQ(node_.wait(), (exit_status{.value = 3}));
    // Until our bridge has seen the link end.
    while (error_of([&] { (void)there.connect_to_named_place("echo"); }).code() !=
           errc::node_down) {
        ::sched_yield();
    }
    there.send_exit(7);
    EXPECT_EQ(error_of([&] { (void)there.wait(); }).code(), errc::node_down);
}

TEST_F(connected, hears_of_the_end_of_our_own_bridge) {
    auto there = connect(own_key());
    errc told{};
    test_runtime().route(
        after(0s,
              [&] {
                  told = static_cast<errc>(error_of([&] { (void)there.wait(); }).code().value());
                  test_runtime().stop();
              }),
        after(0s, [&] { kill_process(bridge_of(::getpid())); }));
    EXPECT_EQ(told, errc::node_down);
    EXPECT_TRUE(connect(own_key()).is_up());
}

TEST_F(connected, tells_every_body_that_waits_that_the_node_refuses_to_end) {
    auto there = connect(guest_key("guest"));
    int told = 0;
    const auto wait = [&] {
        EXPECT_EQ(error_of([&] { (void)there.wait(); }).code(), errc::permission_denied);
        if (++told == 2) test_runtime().stop();
    };
    test_runtime().route(after(0s, wait), after(0s, wait), after(0s, [&] { there.send_exit(); }));
    EXPECT_EQ(error_of([&] { (void)there.wait(); }).code(), errc::permission_denied);
    EXPECT_TRUE(there.is_up());
}

TEST_F(connected, with_another_s_key_connects_to_names_and_is_refused_all_else) {
    auto there = connect(guest_key("guest"));
    auto found = there.connect_to_named_place("echo");
    EXPECT_EQ(echoed(found, "hello"), "hello");
    for (const auto& e : {error_of([&] { (void)there.supervise_place(echo_entry); }),
                          error_of([&] { (void)there.supervise_place<table_server>(); })}) {
        EXPECT_EQ(e.code(), errc::permission_denied);
        EXPECT_TRUE(has(e, "'guest' at 127.0.0.1:") && has(e, "may not start")) << e.what();
    }
    there.send_exit();
    const auto refused = error_of([&] { (void)there.wait(); });
    EXPECT_EQ(refused.code(), errc::permission_denied);
    EXPECT_TRUE(has(refused, "node " + address()) && has(refused, "may not stop"))
        << refused.what();
    (void)heard("'" + address() + "' does not end: 'guest' at");
    EXPECT_TRUE(there.is_up());
    EXPECT_EQ(echoed(found, "still"), "still");
}

TEST_F(connected, is_refused_with_a_key_that_is_not_the_node_s_or_not_its_owner_s) {
    connect_options stranger;
    stranger.key = bytes(32);
    auto another = guest_key("guest");
    const auto made = net::make_guest_key(key_, "guest");
    another.key_file.clear();
    another.key = {made.begin(), made.end()};
    for (const char* owner : {"", "another"}) {
        another.owner = owner;
        EXPECT_EQ(error_of([&] { (void)connect(another); }).code(), errc::bad_key);
    }
    const auto e = error_of([&] { (void)connect(stranger); });
    EXPECT_EQ(e.code(), errc::bad_key);
    EXPECT_TRUE(has(e, address())) << e.what();
    another.owner = "guest";
    EXPECT_TRUE(connect(another).is_up());
}

TEST_F(connected, is_refused_with_options_that_make_no_sense_naming_them) {
    const auto refused = [&](const connect_options& options, const std::string& text) {
        const auto e = error_of([&] { (void)connect(options); });
        EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
        EXPECT_TRUE(has(e, text)) << e.what();
    };
    refused({}, "one of key_file and key");
    auto both = own_key();
    both.key_file = "node.key";
    refused(both, "one of key_file and key");
    auto owner = guest_key("guest");
    owner.owner = "guest";
    refused(owner, "owner beside a key_file");
    auto odd = own_key();
    odd.key.pop_back();
    refused(odd, "a key of 31 bytes");
    auto name = own_key();
    name.name = "two\nlines";
    refused(name, "no name for a node");
    auto never = own_key();
    never.deadline = 0ms;
    refused(never, "a deadline of 0 ms");
    const auto e = error_of([&] { (void)test_runtime().connect_node("host:x", own_key()); });
    EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
    connect_options open;
    open.key_file = scratch_.put("open.key", std::string(64, 'a'), 0640);
    EXPECT_EQ(error_of([&] { (void)connect(open); }).code(), errc::bad_key_file);
    EXPECT_EQ(error_of([&] { (void)connect(own_key(true)); }).code(), errc::protocol);
}

TEST_F(connected, is_one_of_the_nodes_of_the_root_by_the_name_it_is_given) {
    auto options = own_key();
    options.name = "joined";
    auto there = connect(options);
    auto found = places::connect_to_named_place("joined", "echo");
    EXPECT_EQ(echoed(found, "from the root"), "from the root");
    auto other = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = "other"});
    auto there_too = other.supervise_place(echo_entry, {.named = "echo"});
    auto from_other = other.supervise_place<traveller_server>();
    EXPECT_EQ(from_other.ask("joined", "echo", "to it"), "to it");
    auto from_it = there.supervise_place<traveller_server>();
    EXPECT_EQ(from_it.ask("other", "echo", "and back"), "and back");
}

TEST_F(connected, is_none_of_the_nodes_of_the_root_with_a_guest_s_key) {
    auto options = guest_key("guest");
    options.name = "joined";
    auto there = connect(options);
    auto found = places::connect_to_named_place("joined", "echo");
    EXPECT_EQ(echoed(found, "from the root"), "from the root");
    auto other = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = "other"});
    auto traveller = other.supervise_place<traveller_server>();
    const auto e = error_of([&] { (void)traveller.ask("joined", "echo", "to it"); });
    EXPECT_EQ(e.code(), errc::remote_error);
    EXPECT_TRUE(has(e, "no node is called \"joined\"; those there are: ")) << e.what();
    EXPECT_FALSE(has(e, ", \"joined\"")) << e.what();
}

TEST_F(connected, lets_in_as_many_guests_as_have_one_key_and_takes_none_for_a_node) {
    const auto key = guest_key("worker");
    auto one = connect(key);
    auto found = one.connect_to_named_place("echo");
    auto two = connect(key);
    auto again = two.connect_to_named_place("echo");
    EXPECT_EQ(echoed(found, "still"), "still");
    EXPECT_EQ(echoed(again, "still"), "still");
    // The node asks its root for a node of that name, and not the guest.
    auto traveller = node_.supervise_place<traveller_server>();
    const auto e = error_of([&] { (void)traveller.ask("worker", "echo", ""); });
    EXPECT_TRUE(has(e, "no node is called \"worker\"")) << e.what();
}

}  // namespace
}  // namespace places
