// SPDX-License-Identifier: Apache-2.0
// What whoever has started a place on another node hears of its end, and when.
#include "core/channel_state.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/error_of.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <optional>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <sys/resource.h>

using namespace std::chrono_literals;
using places::errc;
using places::exit_status;
using places::status;

namespace {

constexpr int letter_count = 100;  // more than fits the ring here, less than both rings
const std::string letter(1000, 'x');

int send_letters(places::channel& to_creator) {
    for (int i = 0; i < letter_count; ++i) {
        if (to_creator.put(letter) != status::ok) return 1;
    }
    return 7;
}
const auto send_letters_entry = places::register_entry<send_letters>("send-letters");

/// Lives until it is killed, without a channel.
int hang_up(places::channel& to_creator) {
    (void)to_creator.put(std::int64_t{::getpid()});
    (void)to_creator.get<std::int64_t>();
    to_creator.close();
    while (true) ::pause();
}
const auto hang_up_entry = places::register_entry<hang_up>("hang-up");

/// Serves, but takes up no connection beside its creator's: it has no descriptor for one.
void take_nothing(places::inbox& in) {
    auto first = in.get();
    const rlimit none{0, 0};
    (void)::setrlimit(RLIMIT_NOFILE, &none);
    (void)first->from.put(true);
    while (in.get()) {
    }
}
const auto take_nothing_entry = places::register_entry<take_nothing>("take-nothing");

TEST(remote_place, without_room_for_a_connection_refuses_it_at_once) {
    auto node = start_node();
    auto place = node.supervise_place(take_nothing_entry, {.named = "full"});
    ASSERT_EQ(place.put(true), status::ok);
    ASSERT_TRUE(place.get<bool>());  // it has its own channel, and no descriptor for another
    for (int round = 0; round < 20; ++round) {
        auto c = node.connect_to_named_place("full");
        EXPECT_EQ(c.get<int>().error(), errc::refused);
        EXPECT_EQ(c.put(1), status::refused);
    }
    EXPECT_FALSE(place.is_dead());
}

TEST(remote_place, that_the_bridge_has_no_room_for_is_refused_naming_bridge_and_cause) {
    auto node = start_node();
    const auto named = node.supervise_place(echo_entry, {.named = "echo"});
    const auto bridge = bridge_of(::getpid());
    rlimit before{};
    ASSERT_EQ(::prlimit(bridge, RLIMIT_NOFILE, nullptr, &before), 0);
    const rlimit none{0, before.rlim_max};
    ASSERT_EQ(::prlimit(bridge, RLIMIT_NOFILE, &none, nullptr), 0);
    const auto expect_cause = [](const std::function<void()>& open) {
        const auto e = error_of(open);
        EXPECT_EQ(e.code(), errc::start_failed);
        EXPECT_TRUE(has(e, "one of the two processes had no descriptor or memory") &&
                    has(e, "places-bridge: ") && has(e, "RLIMIT_NOFILE") && has(e, "(node "))
            << e.what();
        EXPECT_FALSE(has(e, "ended")) << e.what();
    };
    expect_cause([&] { (void)node.supervise_place(echo_entry); });
    expect_cause([&] { (void)node.connect_to_named_place("echo"); });
    expect_cause([&] { (void)places::connect_to_named_place(node.name(), "echo"); });
    ASSERT_EQ(::prlimit(bridge, RLIMIT_NOFILE, &before, nullptr), 0);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "again"), "again");
}

TEST(remote_place, wait_tells_how_it_ended_and_again) {
    auto node = start_node();
    for (const int value : {0, 7, 255}) {
        auto place = node.supervise_place(end_with_entry);
        EXPECT_EQ(place.wait_for(0s), std::nullopt);
        EXPECT_FALSE(place.is_dead());
        ASSERT_EQ(place.put(std::int64_t{value}), status::ok);
        EXPECT_EQ(place.wait(), (exit_status{false, value}));
        EXPECT_TRUE(place.is_dead());
        EXPECT_EQ(place.wait(), (exit_status{false, value}));
        EXPECT_TRUE(place.get<std::int64_t>());  // its first word is still there
        EXPECT_FALSE(place.get<std::int64_t>());
        EXPECT_EQ(place.wait(), (exit_status{false, value}));
    }
}

int sum(int a, int b) { return a + b; }
const auto sum_entry = places::register_entry<sum>("sum");

/// Ends by an exception at the first message of whoever sends one.
void throw_at_a_word(places::inbox& in) {
    if (in.get()) throw std::runtime_error("as it was told");
}
const auto throw_at_a_word_entry = places::register_entry<throw_at_a_word>("throw-at-a-word");

TEST(remote_place, tells_the_text_of_the_exception_that_ended_it) {
    auto node = start_node();
    for (int round = 0; round < 100; ++round) {
        auto place = node.supervise_place(throw_text_entry);
        const auto text = "no such file: " + std::to_string(round);
        ASSERT_EQ(place.put(text), status::ok);
        if (round % 2 == 0) {
            const auto how = place.wait();
            ASSERT_EQ(how, (exit_status{false, 1}));
            ASSERT_EQ(how.text, text);
        } else {
            // The end of the channel comes after the text.
            const auto ended = place.get<int>().error();
            ASSERT_TRUE(ended == errc::closed || ended == errc::peer_dead) << ended.message();
        }
        ASSERT_TRUE(place.peer_status());
        ASSERT_EQ(place.peer_status()->text, text);
        ASSERT_EQ(place.wait().text, text);
    }
}

TEST(remote_place, tells_the_text_of_its_exception_also_to_who_is_connected) {
    auto node = start_node();
    auto place = node.supervise_place(throw_at_a_word_entry, {.named = "throws"});
    auto c = node.connect_to_named_place("throws");
    ASSERT_EQ(c.put(1), status::ok);
    EXPECT_FALSE(c.get<int>());
    ASSERT_TRUE(c.peer_status());
    EXPECT_EQ(c.peer_status()->text, "as it was told");
    EXPECT_EQ(place.wait().text, "as it was told");
}

TEST(remote_place, tells_why_its_entry_did_not_get_its_arguments) {
    auto node = start_node();
    auto place = node.supervise_place(sum_entry);
    ASSERT_EQ(place.put(std::string("no two numbers")), status::ok);
    const auto how = place.wait();
    EXPECT_EQ(how, (exit_status{false, 1}));
    EXPECT_EQ(how.text.find("the arguments of the place's entry: "), 0U) << how;
}

TEST(remote_place, tells_a_text_that_can_be_printed_and_the_beginning_of_a_long_one) {
    auto node = start_node();
    auto place = node.supervise_place(throw_text_entry);
    ASSERT_EQ(place.put(std::string("\x1B[2Jone\ntwo\x9B")), status::ok);
    EXPECT_EQ(place.wait().text, "?[2Jone\\ntwo?");
    for (const std::size_t size : {4096, 4097, 1 << 20}) {
        auto one = node.supervise_place(throw_text_entry);
        ASSERT_EQ(one.put(std::string(size, 'x')), status::ok);
        const auto text = one.wait().text;
        EXPECT_EQ(text, size == 4096 ? std::string(4096, 'x') : std::string(4093, 'x') + "...");
    }
}

TEST(remote_place, tells_the_text_of_its_exception_to_a_body_of_a_router) {
    auto node = start_node();
    auto place = node.supervise_place(throw_text_entry);
    std::optional<exit_status> how;
    test_runtime().route(node, places::after(0s, [&] {
                             ASSERT_EQ(place.put(std::string("in a body")), status::ok);
                             how = place.wait();
                             test_runtime().stop();
                         }));
    ASSERT_TRUE(how);
    EXPECT_EQ(how->text, "in a body");
}

// As where the packet with the text is late, since the process has taken none of those before it.
TEST(remote_place, has_no_status_until_the_text_has_come_that_the_ring_promises) {
    auto node = start_node();
    auto place = node.supervise_place(throw_text_entry);
    ASSERT_EQ(place.put(std::string("late")), status::ok);
    auto* state = places::detail::state_of::get(place);
    while (state->end().received_word() == 0) ::sched_yield();
    EXPECT_TRUE(state->awaits_text());
    EXPECT_FALSE(state->peer_status());
    EXPECT_EQ(place.wait().text, "late");
    EXPECT_FALSE(state->awaits_text());
}

TEST(remote_place, wait_needs_nobody_to_read_what_it_sent) {
    auto node = start_node();
    auto place = node.supervise_place(send_letters_entry);
    EXPECT_EQ(place.wait(), (exit_status{false, 7}));
    for (int i = 0; i < letter_count; ++i) ASSERT_EQ(place.get<std::string>(), letter) << i;
    EXPECT_EQ(place.get<std::string>().error(), errc::closed);
    EXPECT_EQ(place.received().accepted, static_cast<std::uint64_t>(letter_count));
    EXPECT_EQ(place.received().delivered, static_cast<std::uint64_t>(letter_count));
}

TEST(remote_place, wait_tells_the_signal_that_killed_it) {
    auto node = start_node();
    auto place = node.supervise_place(end_with_entry);
    const auto pid = static_cast<pid_t>(place.get<std::int64_t>().value());
    ::kill(pid, SIGKILL);
    EXPECT_EQ(place.wait(), (exit_status{true, SIGKILL}));
    auto server = node.supervise_place<table_server>();
    ::kill(server.pid(), SIGTERM);
    EXPECT_EQ(server.link().wait(), (exit_status{true, SIGTERM}));
}

TEST(remote_place, wait_in_a_body_lets_the_other_bodies_run) {
    auto node = start_node();
    auto place = node.supervise_place(end_with_entry);
    std::optional<exit_status> how;
    test_runtime().route(node,
                         places::after(0s,
                                       [&] {
                                           how = place.wait();
                                           test_runtime().stop();
                                       }),
                         places::after(1ms, [&] {
                             EXPECT_EQ(how, std::nullopt);
                             ASSERT_EQ(place.put(std::int64_t{3}), status::ok);
                         }));
    EXPECT_EQ(how, (exit_status{false, 3}));
}

TEST(remote_place, that_ends_because_its_channel_was_closed_is_waited_for_too) {
    auto node = start_node();
    for (int round = 0; round < 20; ++round) {
        auto place = node.supervise_place(echo_entry);
        ASSERT_EQ(echoed(place, "here"), "here");
        place.close();
        EXPECT_EQ(place.wait(), (exit_status{false, 0}));
    }
}

TEST(remote_place, wait_says_that_the_node_ended_first) {
    auto node = start_node();
    auto place = node.supervise_place(end_with_entry);
    ::kill(node.pid(), SIGKILL);
    EXPECT_EQ(error_of([&] { (void)place.wait(); }).code(), errc::node_down);
    EXPECT_FALSE(place.is_dead());
}

TEST(remote_place, wait_says_that_a_place_went_on_without_its_channel) {
    auto node = start_node();
    auto place = node.supervise_place(hang_up_entry);
    ASSERT_EQ(place.put(std::int64_t{1}), status::ok);
    EXPECT_EQ(error_of([&] { (void)place.wait(); }).code(), errc::closed);
}

TEST(remote_place, that_was_never_started_is_refused_a_wait) {
    places::remote_place none;
    EXPECT_EQ(text_of_error(errc::bad_argument, [&] { (void)none.wait(); }),
              "this handle has no place: it was made without one, or moved from");
    EXPECT_FALSE(none.is_dead());
}

TEST(remote_place, counts_its_messages_and_no_word_of_the_bridges) {
    places::node_options options{.listen_port = 0};
    options.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("localhost", options);
    auto place = node.supervise_place(places::library{NODE_MODULE, "module_greet"});
    EXPECT_EQ(place.received().accepted, 0U);
    ASSERT_EQ(place.put(std::string("you")), status::ok);
    EXPECT_EQ(place.get<std::string>().value(), "module says you");
    EXPECT_EQ(place.sent().accepted, 1U);
    EXPECT_EQ(place.received().accepted, 1U);
    EXPECT_EQ(place.received().delivered, 1U);
}

}  // namespace
