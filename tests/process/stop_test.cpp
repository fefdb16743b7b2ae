// SPDX-License-Identifier: Apache-2.0
// place::request_stop and end_all: places that end in order when they are asked to.
#include "core/process.hpp"
#include "tests/support/node_main.hpp"
#include "adder.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using places::channel;
using places::errc;
using places::exit_status;
using places::spawn;
using places::status;
using clock_type = std::chrono::steady_clock;

namespace {

const exit_status killed{.signalled = true, .value = SIGKILL};
exit_status exited(int value) { return {.value = value}; }

/// Returns 7 when the channel is closed, having counted what came before as its last words.
int count_until_closed(channel& c) {
    int count = 0;
    while (true) {
        const auto next = c.receive();
        if (next) {
            ++count;
            continue;
        }
        const bool is_said = c.put(count) == status::ok;
        return is_said && next.error() == errc::closed ? 7 : 8;
    }
}

void serve(places::inbox& in) {
    while (auto next = in.get()) (void)next->from.send(next->content);
}

/// Sends to the place of that name until it does not take any more.
int flood(channel& creator, std::string name) {
    auto to = places::connect_to_named_place(name);
    (void)creator.put(0);  // it is connected
    while (to.put(std::string(100, 'x')) == status::ok) {
    }
    return 3;
}

}  // namespace

TEST(stop, lets_a_place_take_what_had_come_and_say_its_last_words) {
    auto p = spawn(count_until_closed);
    for (int i = 0; i < 5; ++i) ASSERT_EQ(p.put(i), status::ok);
    EXPECT_EQ(p.request_stop(), exited(7));
    EXPECT_EQ(p.get<int>(), 5);
    EXPECT_EQ(p.get<int>().error(), errc::closed);
    EXPECT_EQ(p.wait(), exited(7));
}

TEST(stop, ends_a_peek_and_a_wait_of_a_set_too) {
    auto peeks = spawn([](channel& c) { return c.peek().error() == errc::closed ? 7 : 8; });
    EXPECT_EQ(peeks.request_stop(), exited(7));
    auto waits = spawn([](channel& c) {
        auto other = spawn(never_ends);
        std::array<channel*, 2> both{&c, &other};
        (void)places::select(both);
        const bool is_closed = c.get<int>().error() == errc::closed;
        other.kill();
        return is_closed ? 7 : 8;
    });
    EXPECT_EQ(waits.request_stop(), exited(7));
    auto routes = spawn([](channel& c) {
        places::router loop;
        loop.post([&] {
            while (c.get<int>()) {
            }
            loop.stop();
        });
        loop.run();
        return 7;
    });
    EXPECT_EQ(routes.request_stop(), exited(7));
}

TEST(stop, ends_a_named_place_that_others_hold) {
    auto p = spawn({.named = "held"}, serve);
    auto connection = places::connect_to_named_place("held");
    ASSERT_EQ(connection.put(1), status::ok);
    ASSERT_EQ(connection.get<int>(), 1);
    p.close();
    EXPECT_EQ(p.wait_for(20ms), std::nullopt);
    EXPECT_EQ(p.request_stop(), exited(0));
    EXPECT_EQ(connection.get<int>().error(), errc::closed);
    EXPECT_EQ(connection.peer_status(), exited(0));
    // The name is free.
    EXPECT_EQ(spawn({.named = "held"}, serve).request_stop(), exited(0));
}

TEST(stop, lets_an_inbox_take_what_others_had_sent) {
    auto p = spawn({.named = "slow"}, [](places::inbox& in) {
        (void)in.creator().get<int>();
        // Both are there by now: the order to stop, and what was sent before.
        while (!places::detail::process::current().is_stop_asked()) {
            places::detail::process::current().pump();
        }
        int count = 0;
        while (auto next = in.get()) {
            ++count;
            (void)next->from.put(count);
        }
        return count;
    });
    auto one = places::connect_to_named_place("slow");
    auto two = places::connect_to_named_place("slow");
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(one.put(i), status::ok);
        ASSERT_EQ(two.put(i), status::ok);
    }
    ASSERT_EQ(p.put(0), status::ok);
    EXPECT_EQ(p.request_stop(), exited(6));
    for (auto* each : {&one, &two}) {
        for (int i = 0; i < 3; ++i) EXPECT_TRUE(each->get<int>());
        EXPECT_EQ(each->get<int>().error(), errc::closed);
    }
}

TEST(stop, lets_an_inbox_take_what_comes_after_a_message_over_the_limit) {
    auto p = spawn({.named = "limited"}, [](places::inbox& in) {
        auto& self = places::detail::process::current();
        while (in.creator().received().undelivered < 2) self.pump();
        in.creator().set_message_bytes_max(100);
        while (!self.is_stop_asked()) self.pump();
        const auto next = in.get();
        if (!next || next->content.as<int>() != 5) return 8;
        return in.get().error() == errc::closed ? 7 : 9;
    });
    ASSERT_EQ(p.put(std::string(1000, 'x')), status::ok);
    ASSERT_EQ(p.put(5), status::ok);
    EXPECT_EQ(p.request_stop(60s), exited(7));
}

TEST(stop, lets_an_inbox_send_the_answers_that_have_no_room_yet) {
    auto p = spawn({.named = "slow"}, [](places::inbox& in) {
        int count = 0;
        while (auto next = in.get()) {
            ++count;
            const auto answer = places::message::of(std::string(1000, 'x'));
            (void)places::detail::send_or_keep(next->from, answer);
        }
        return count;
    });
    auto c = places::connect_to_named_place("slow", 4096);
    for (int i = 0; i < 6; ++i) ASSERT_EQ(c.put(i), status::ok);
    // A ring holds three answers: the fourth waits for room, and two calls wait behind it.
    while (c.sent().delivered < 4) std::this_thread::yield();
    const auto id = p.id();
    std::thread asker([id] {
        (void)places::detail::process::current().request(
            places::control::request_stop{id, std::chrono::nanoseconds(60s).count()});
    });
    asker.join();
    EXPECT_EQ(p.wait_for(100ms), std::nullopt);
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(c.get<std::string>()) << i;
    EXPECT_EQ(c.get<int>().error(), errc::closed);
    EXPECT_EQ(p.wait(), exited(6));
}

TEST(stop, is_put_off_for_answers_that_nobody_reads_for_half_the_grace_only) {
    auto p = spawn({.named = "slow"}, [](places::inbox& in) {
        while (auto next = in.get()) {
            const auto answer = places::message::of(std::string(1000, 'x'));
            (void)places::detail::send_or_keep(next->from, answer);
        }
        return 7;
    });
    auto c = places::connect_to_named_place("slow", 4096);
    for (int i = 0; i < 6; ++i) ASSERT_EQ(c.put(i), status::ok);
    while (c.sent().delivered < 4) std::this_thread::yield();
    EXPECT_EQ(p.request_stop(1s), exited(7));
}

TEST(stop, of_all_is_refused_before_any_is_asked_where_a_handle_has_no_place) {
    std::vector<places::place> all;
    all.push_back(spawn(count_until_closed));
    all.emplace_back();
    EXPECT_EQ(error_of([&] { (void)places::end_all(all, 60s); }).code(), errc::bad_argument);
    // A place that had been asked would not take this.
    all.pop_back();
    EXPECT_EQ(all[0].put(1), status::ok);
    EXPECT_EQ(all[0].request_stop(60s), exited(7));
    EXPECT_EQ(all[0].get<int>(), 1);
}

TEST(stop, is_not_put_off_by_those_who_keep_sending) {
    auto p = spawn({.named = "flooded"}, [](places::inbox& in) {
        while (in.get()) {
        }
        return 7;
    });
    std::vector<places::place> all;
    for (int i = 0; i < 3; ++i) all.push_back(spawn(flood, std::string("flooded")));
    for (auto& each : all) ASSERT_EQ(each.get<int>(), 0);
    for (int i = 0; i < 100; ++i) ASSERT_EQ(p.put(i), status::ok);
    EXPECT_EQ(p.request_stop(60s), exited(7));
    for (auto& each : all) EXPECT_EQ(each.wait(), exited(3));
}

TEST(stop, ends_a_server_and_tells_its_callers) {
    auto server = places::spawn_server<adder>({.named = "adder"});
    auto client = places::connect_to_named_place<adder>("adder");
    EXPECT_EQ(client.add(3), 3);
    EXPECT_EQ(server.link().request_stop(), exited(0));
    EXPECT_EQ(error_of([&] { (void)client.add(1); }).code(), errc::peer_dead);
}

TEST(stop, kills_a_place_that_does_not_listen_after_the_grace) {
    auto p = spawn(never_ends);
    const auto begun = clock_type::now();
    EXPECT_EQ(p.request_stop(50ms), killed);
    EXPECT_GE(clock_type::now() - begun, 50ms);
    EXPECT_EQ(spawn(never_ends).request_stop(0ns), killed);
    // Nor one that is stopped.
    auto stopped = spawn(count_until_closed);
    ::kill(stopped.pid(), SIGSTOP);
    EXPECT_EQ(stopped.request_stop(10ms), killed);
}

TEST(stop, of_a_place_that_has_ended_says_how_it_did) {
    auto p = spawn([] { return 5; });
    (void)p.wait();
    EXPECT_EQ(p.request_stop(), exited(5));
    EXPECT_EQ(p.request_stop(), exited(5));
    auto dead = spawn(never_ends);
    ::kill(dead.pid(), SIGKILL);
    EXPECT_EQ(dead.request_stop(), killed);
}

TEST(stop, suspends_a_body_of_a_router_only) {
    int ticks = 0;
    exit_status how;
    test_runtime().route(places::every(1ms, [&] { ++ticks; }), places::after(0s, [&] {
                             auto p = spawn(never_ends);
                             how = p.request_stop(50ms);
                             test_runtime().stop();
                         }));
    EXPECT_EQ(how, killed);
    EXPECT_GT(ticks, 1);
}

TEST(stop, is_for_creator_root_and_the_place_itself_alone) {
    const auto ask = [](std::uint64_t id) {
        try {
            (void)places::detail::process::current().request(places::control::request_stop{id});
        } catch (const places::error& e) {
            return e.code() == errc::bad_argument ? 3 : 4;
        }
        return 5;
    };
    auto victim = spawn(count_until_closed);
    EXPECT_EQ(spawn(ask, victim.id()).wait().value, 3);
    EXPECT_EQ(spawn(ask, places::control::root_place_id).wait().value, 3);
    auto itself = spawn([](channel& c) {
        auto& self = places::detail::process::current();
        (void)self.request(places::control::request_stop{self.place_id()});
        return count_until_closed(c);
    });
    EXPECT_EQ(itself.wait(), exited(7));
    auto parent = spawn([](channel& c) {
        auto child = spawn(count_until_closed);
        (void)c.put(child.id());
        (void)c.put(child.wait().value);
    });
    const auto grandchild = parent.get<std::uint64_t>().value();
    (void)places::detail::process::current().request(places::control::request_stop{grandchild});
    EXPECT_EQ(parent.get<int>(), 7);
    EXPECT_EQ(victim.request_stop(), exited(7));
}

TEST(stop, of_all_takes_one_grace_and_says_how_each_has_ended) {
    std::vector<places::place> all;
    for (int i = 0; i < 20; ++i) {
        all.push_back(i % 2 == 0 ? spawn(never_ends) : spawn(count_until_closed));
    }
    const auto begun = clock_type::now();
    const auto ends = places::end_all(all, 1s);
    // Each alone would take ten of them.
    EXPECT_LT(clock_type::now() - begun, 8s);
    ASSERT_EQ(ends.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(ends[i], i % 2 == 0 ? killed : exited(7)) << i;
    }
    std::vector<places::client<adder, places::place>> servers;
    for (int i = 0; i < 3; ++i) servers.push_back(places::spawn_server<adder>());
    EXPECT_EQ(places::end_all(servers), std::vector<exit_status>(3, exited(0)));
    EXPECT_TRUE(places::end_all(std::vector<places::place>{}).empty());
}
