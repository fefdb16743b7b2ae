// SPDX-License-Identifier: Apache-2.0
// What whoever has started a place on another node hears of its end, and when.
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/support/error_of.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>
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

/// Serves, but takes up no connection: it has no descriptor for one.
void take_nothing(places::inbox& in) {
    const rlimit none{0, 0};
    (void)::setrlimit(RLIMIT_NOFILE, &none);
    while (in.get()) {
    }
}
const auto take_nothing_entry = places::register_entry<take_nothing>("take-nothing");

TEST(remote_place, without_room_for_a_connection_refuses_it_at_once) {
    auto node = start_node();
    auto place = node.supervise_place(take_nothing_entry, {.named = "full"});
    for (int round = 0; round < 20; ++round) {
        auto c = node.connect_to_named_place("full");
        EXPECT_EQ(c.get<int>().error(), errc::refused);
        EXPECT_EQ(c.put(1), status::refused);
    }
    EXPECT_FALSE(place.is_dead());
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
