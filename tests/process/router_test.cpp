// SPDX-License-Identifier: Apache-2.0
// The message router: its timers, its bodies, and what a body may do.
#include "tests/support/halt.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using places::after;
using places::channel;
using places::every;
using places::on_message;
using places::spawn;
using places::status;

struct slow_counter {
    int next() { return ++count_; }
    int echo(int v) const { return v; }
    std::string octets(std::size_t size) const { return std::string(size, 'x'); }

  private:
    int count_ = 0;
};
PLACES_NAMED_SERVER(slow_counter, (rpc, next), (rpc, echo), (rpc, octets))

namespace {

using clock_type = std::chrono::steady_clock;

void echo(channel& c) {
    while (auto m = c.receive()) {
        if (c.send(*m) != status::ok) return;
    }
}

void stop() { test_runtime().stop(); }

template <class... Events>
void route(Events&&... events) {
    test_runtime().route(std::forward<Events>(events)...);
}

}  // namespace

TEST(router, handles_what_comes_after_a_message_over_the_limit) {
    auto p = spawn([](channel& c) {
        (void)c.put(std::string(1000, 'x'));
        (void)c.put(5);
        (void)c.get<int>();
    });
    while (p.received().undelivered < 2) std::this_thread::yield();
    p.set_message_bytes_max(100);
    int got = 0;
    std::string warning;
    test_runtime().on_log([&](const places::log_record& r) { warning = r.text; });
    route(on_message(p,
                     [&](const places::message& m) {
                         got = m.as<int>().value();
                         (void)p.put(0);
                     }),
          every(1ms, [&] {
              if (p.peer_status() && !warning.empty()) stop();
          }));
    test_runtime().on_log({});
    EXPECT_EQ(got, 5);
    EXPECT_NE(warning.find("over 100 bytes"), warning.npos) << warning;
}

TEST(router, runs_bodies_in_the_order_of_their_times_not_of_their_text) {
    std::vector<int> ran;
    const auto start = clock_type::now();
    route(after(30ms,
                [&] {
                    ran.push_back(3);
                    EXPECT_GE(clock_type::now() - start, 30ms);
                    stop();
                }),
          after(10ms, [&] { ran.push_back(1); }), after(20ms, [&] {
              ran.push_back(2);
              EXPECT_GE(clock_type::now() - start, 20ms);
          }));
    EXPECT_EQ(ran, (std::vector<int>{1, 2, 3}));
}

TEST(router, begins_every_at_once_and_repeats_it_at_multiples_of_its_period) {
    std::vector<clock_type::duration> ran;
    const auto start = clock_type::now();
    route(every(10ms,
                [&] {
                    ran.push_back(clock_type::now() - start);
                    if (ran.size() == 5) stop();
                }),
          after(5s, [&] { ADD_FAILURE() << "every() did not run five times before this"; }));
    ASSERT_EQ(ran.size(), 5U);
    for (std::size_t i = 0; i < ran.size(); ++i) EXPECT_GE(ran[i], i * 10ms);
}

TEST(router, catches_up_with_every_after_a_body_that_held_the_thread) {
    // The 51st is due after a second, and was a second late had the one that held moved the rest.
    int ran = 0;
    const auto start = clock_type::now();
    route(every(20ms,
                [&] {
                    if (++ran == 1) {
                        while (clock_type::now() - start < 1s) {
                        }
                    }
                    if (ran == 51) {
                        EXPECT_GE(clock_type::now() - start, 1s);
                        stop();
                    }
                }),
          after(1900ms, [&] {
              ADD_FAILURE() << "every() has run " << ran << " times by now";
              stop();
          }));
    EXPECT_EQ(ran, 51);
}

TEST(router, counts_every_delay_from_the_start_of_the_loop) {
    clock_type::time_point begun;
    auto made_early = after(50ms, [&] {
        EXPECT_GE(clock_type::now() - begun, 50ms);
        stop();
    });
    const auto made = clock_type::now();
    while (clock_type::now() - made < 100ms) {
    }
    begun = clock_type::now();
    route(std::move(made_early));
}

TEST(router, refuses_a_period_of_nothing) {
    EXPECT_THROW((void)every(0s, [] {}), places::error);
    EXPECT_THROW((void)every(-1s, [] {}), places::error);
}

TEST(router, suspends_a_body_that_waits_and_that_body_only) {
    auto silent = spawn(never_ends);
    bool other_ran = false;
    bool woke = false;
    route(after(0s,
                [&] {
                    EXPECT_EQ(silent.get<int>().error(), places::errc::peer_dead);
                    woke = true;
                    EXPECT_TRUE(other_ran);
                    stop();
                }),
          after(10ms, [&] {
              other_ran = true;
              EXPECT_FALSE(woke);
              silent.kill();
          }));
    EXPECT_TRUE(woke);
}

TEST(router, lets_a_body_wait_with_a_limit) {
    auto silent = spawn(never_ends);
    const auto start = clock_type::now();
    route(after(0s, [&] {
        EXPECT_EQ(silent.get_for<int>(10ms).error(), places::errc::timeout);
        EXPECT_EQ(silent.wait_for(10ms), std::nullopt);
        EXPECT_EQ(places::select({&silent}, 10ms), std::nullopt);
        EXPECT_GE(clock_type::now() - start, 30ms);
        stop();
    }));
    silent.kill();
}

TEST(router, lets_bodies_spawn_wait_and_kill_side_by_side) {
    int ended = 0;
    for (int i = 0; i < 20; ++i) {
        test_runtime().add(after(0s, [&ended, i] {
            EXPECT_EQ(spawn([](int v) { return v; }, i).wait().value, i);
            auto p = spawn(never_ends);
            p.kill();
            EXPECT_EQ(p.wait().value, SIGKILL);
            if (++ended == 20) stop();
        }));
    }
    route();
    EXPECT_EQ(ended, 20);
}

TEST(router, wakes_a_body_whose_answer_another_body_has_taken) {
    // Each put looks for packets too, and so takes those the spawning bodies wait for.
    auto p = spawn(echo);
    int spawned = 0;
    for (int b = 0; b < 4; ++b) {
        test_runtime().add(after(0s, [&] {
            for (int i = 0; i < 25; ++i) {
                EXPECT_EQ(spawn([] { return 3; }).wait().value, 3);
                ++spawned;
            }
            if (spawned == 100) stop();
        }));
    }
    route(after(0s, [&] {
        while (spawned < 100) {
            if (p.put(1) != status::ok || !p.get<int>()) return;
        }
    }));
    EXPECT_EQ(spawned, 100);
}

TEST(router, wakes_a_body_whose_answer_another_thread_has_taken) {
    std::thread other;
    int spawned = 0;
    route(after(0s, [&] {
        other = std::thread([] {
            for (int i = 0; i < 100; ++i) (void)spawn([] { return 3; }).wait();
        });
        for (; spawned < 100; ++spawned) EXPECT_EQ(spawn([] { return 3; }).wait().value, 3);
        stop();
    }));
    other.join();
    EXPECT_EQ(spawned, 100);
}

TEST(router, wakes_its_bodies_although_another_router_has_come_and_gone) {
    places::router here;
    { places::router other; }
    auto p = spawn(echo);
    int spawned = 0;
    here.add(after(0s, [&] {
        for (; spawned < 25; ++spawned) EXPECT_EQ(spawn([] { return 3; }).wait().value, 3);
        here.stop();
    }));
    here.add(after(0s, [&] {
        while (spawned < 25) {
            if (p.put(1) != status::ok || !p.get<int>()) return;
        }
    }));
    here.run();
    EXPECT_EQ(spawned, 25);
}

TEST(router, refuses_to_run_while_another_runs) {
    places::router other;
    int ran = 0;
    route(after(0s, [&] {
        const auto text = text_of_error(places::errc::bad_argument, [&] { other.run(); });
        EXPECT_NE(text.find("one at a time"), std::string::npos) << text;
        stop();
    }));
    other.add(after(0s, [&] {
        ++ran;
        other.stop();
    }));
    other.run();
    EXPECT_EQ(ran, 1);
}

TEST(router, hands_every_message_of_a_channel_to_its_body_in_order) {
    auto p = spawn({.ring_bytes = 4096}, [](channel& c) {
        for (int i = 0; i < 1000; ++i) (void)c.put(i);
    });
    int expected = 0;
    route(on_message(p, [&](const places::message& m) {
        EXPECT_EQ(m.as<int>().value(), expected);
        if (++expected == 1000) stop();
    }));
    EXPECT_EQ(expected, 1000);
}

TEST(router, reads_a_channel_that_another_body_writes_to) {
    auto p = spawn({.ring_bytes = 4096}, echo);
    int received = 0;
    route(on_message(p,
                     [&](const places::message&) {
                         if (++received == 1000) stop();
                     }),
          after(0s, [&] {
              for (int i = 0; i < 1000; ++i) EXPECT_EQ(p.put(i), status::ok);
          }));
    EXPECT_EQ(received, 1000);
}

TEST(router, lets_two_bodies_write_to_one_full_channel) {
    auto p = spawn({.ring_bytes = 4096}, [](channel& c) {
        int count = 0;
        while (c.receive()) ++count;
        return count == 1000 ? 0 : 1;
    });
    int written = 0;
    const auto write = [&](std::size_t bytes) {
        for (int i = 0; i < 500; ++i) {
            EXPECT_EQ(p.put(std::vector<std::byte>(bytes)), status::ok);
            if (++written == 1000) stop();
        }
    };
    route(after(0s, [&] { write(10); }), after(0s, [&] { write(1000); }));
    p.close();
    EXPECT_EQ(p.wait().value, 0);
}

TEST(router, lets_bodies_send_large_messages_over_one_channel_unmixed) {
    auto p = spawn({.ring_bytes = 4096}, [](channel& c) {
        for (int i = 0; i < 40; ++i) {
            const auto text = c.get<std::string>().value();
            if (text != std::string(text.size(), text[0])) return 1;
        }
        return 0;
    });
    int done = 0;
    for (const char letter : {'a', 'b', 'c', 'd'}) {
        test_runtime().add(after(0s, [&, letter] {
            for (std::size_t i = 0; i < 10; ++i) {
                EXPECT_EQ(p.put(std::string(i % 2 ? 10 : 30'000, letter)), status::ok);
            }
            if (++done == 4) stop();
        }));
    }
    route();
    EXPECT_EQ(p.wait().value, 0);
}

TEST(router, keeps_a_batch_of_one_body_out_of_another_bodys_large_message) {
    auto p = spawn({.ring_bytes = 4096}, [](channel& c) {
        std::size_t large = 0;
        std::size_t small = 0;
        while (large < 10 || small < 400) {
            const auto m = c.receive();
            if (!m) return 1;
            ++(m->as<int>() ? small : large);
        }
        return 0;
    });
    int done = 0;
    const auto end = [&] {
        if (++done == 2) stop();
    };
    const std::vector<int> numbers(40, 7);
    route(after(0s,
                [&] {
                    for (int i = 0; i < 10; ++i) {
                        EXPECT_EQ(p.put(std::string(50'000, 'x')), status::ok);
                    }
                    end();
                }),
          after(0s, [&] {
              for (int i = 0; i < 10; ++i) {
                  EXPECT_EQ(p.put_batch(std::span<const int>{numbers}).count, 40U);
              }
              end();
          }));
    EXPECT_EQ(p.wait().value, 0);
}

TEST(router, takes_events_from_a_body) {
    auto p = spawn(echo);
    std::vector<std::string> ran;
    const auto begin = [&] {
        test_runtime().add(after(1ms, [&] {
            ran.push_back("after");
            EXPECT_EQ(p.put(1), status::ok);
        }));
        test_runtime().add(on_message(p, [&](const places::message&) {
            ran.push_back("message");
            if (ran.size() == 3) stop();
        }));
        // Still a body of its own, which can wait.
        EXPECT_EQ(spawn([] { return 3; }).wait().value, 3);
        ran.push_back("body");
        if (ran.size() == 3) stop();
    };
    route(after(0s, begin));
    EXPECT_EQ(ran.size(), 3U);
}

TEST(router, runs_timers_during_a_flood_of_messages) {
    auto p = spawn([](channel& c) {
        while (c.put(1) == status::ok) {
        }
    });
    ASSERT_TRUE(p.peek());  // the flood has begun
    int received = 0;
    route(on_message(p, [&](const places::message&) { ++received; }), after(5ms, [] { stop(); }));
    EXPECT_GT(received, 0);
}

TEST(router, throws_what_a_body_throws) {
    EXPECT_THROW(route(after(0s, [] { throw std::logic_error("on purpose"); })), std::logic_error);
    EXPECT_THROW(route(after(0s, [] { throw 5; })), int);
}

TEST(router, lets_bodies_wait_in_their_catch_blocks_side_by_side) {
    auto client = places::spawn_server<slow_counter>();
    int ended = 0;
    const auto catches = [&](const std::string& text) {
        for (int i = 0; i < 50; ++i) {
            try {
                throw std::runtime_error(text);
            } catch (const std::runtime_error& e) {
                EXPECT_EQ(client.echo(i), i);
                EXPECT_EQ(e.what(), text);
            }
        }
        EXPECT_EQ(std::current_exception(), nullptr);
        if (++ended == 3) stop();
    };
    route(after(0s, [&] { catches("a text of the first body"); }),
          after(0s, [&] { catches("another of the second"); }),
          after(0s, [&] { catches("and one of the third"); }));
    EXPECT_EQ(ended, 3);
}

TEST(router, can_run_again_after_stop) {
    int ran = 0;
    for (int i = 0; i < 3; ++i) {
        route(after(0s, [&] {
            ++ran;
            stop();
        }));
    }
    EXPECT_EQ(ran, 3);
}

TEST(router, unwinds_suspended_bodies_before_it_returns) {
    auto silent = spawn(never_ends);
    auto held = std::make_shared<int>(1);
    route(after(0s,
                [&] {
                    const auto mine = held;
                    const auto waits_when_destroyed = spawn(echo);
                    (void)silent.get<int>();
                    ADD_FAILURE() << "nothing was sent";
                }),
          after(5ms, [] { stop(); }));
    EXPECT_EQ(held.use_count(), 1);
    silent.kill();
}

TEST(router, gives_each_of_two_bodies_its_own_reply_over_one_client) {
    auto client = places::spawn_server<slow_counter>();
    int ended = 0;
    const auto call = [&](int from) {
        for (int i = 0; i < 300; ++i) EXPECT_EQ(client.echo(from + i), from + i);
        if (++ended == 3) stop();
    };
    route(after(0s, [&] { call(0); }), after(0s, [&] { call(1000); }),
          after(0s, [&] { call(2000); }));
    EXPECT_EQ(ended, 3);
}

TEST(router, gives_no_later_call_the_reply_to_one_that_was_given_up) {
    auto client = places::spawn_server<slow_counter>();
    (void)client.next();
    const int pid = client.link().pid();
    halt(pid);
    route(after(0s,
                [&] {
                    (void)client.echo(1);
                    ADD_FAILURE() << "a stopped server has answered";
                }),
          after(5ms, [] { stop(); }));
    ::kill(pid, SIGCONT);
    for (int i = 2; i < 10; ++i) EXPECT_EQ(client.echo(i), i);
}

TEST(router, tells_each_of_two_bodies_that_the_server_they_call_has_died) {
    auto client = places::spawn_server<slow_counter>();
    (void)client.next();
    const int pid = client.link().pid();
    halt(pid);
    int told = 0;
    const auto call = [&] {
        try {
            (void)client.next();
            ADD_FAILURE() << "a stopped server has answered";
        } catch (const places::error& e) {
            EXPECT_EQ(e.code(), places::errc::peer_dead);
        }
        if (++told == 2) stop();
    };
    route(after(0s, call), after(0s, call), after(5ms, [&] { (void)::kill(pid, SIGKILL); }));
    EXPECT_EQ(told, 2);
}

TEST(router, selects_in_two_bodies_over_the_same_channels) {
    auto p = spawn(echo);
    auto q = spawn(echo);
    int received = 0;
    const auto take = [&] {
        while (received < 200) {
            const auto at = places::select({&p, &q}, 1s);
            if (!at) continue;
            auto& from = *at == 0 ? p : q;
            if (!from.try_get<int>()) continue;  // the other body was faster
            if (++received == 200) stop();
        }
    };
    route(after(0s, take), after(0s, take), after(0s, [&] {
              for (int i = 0; i < 100; ++i) {
                  EXPECT_EQ(p.put(i), status::ok);
                  EXPECT_EQ(q.put(i), status::ok);
              }
          }));
    EXPECT_EQ(received, 200);
}

TEST(router, works_in_a_place_beside_its_inbox) {
    // One body serves the inbox while another waits on a channel of its own.
    const auto serve = [](places::inbox& in) {
        auto helper = spawn(echo);
        places::router router;
        int helped = 0;
        router.add(after(0s, [&] {
            while (auto item = in.get()) {
                if (item->content.as<int>().value() == 0) return router.stop();
                (void)item->from.put(helped);
            }
        }));
        router.add(after(0s, [&] {
            for (int i = 0; i < 100; ++i) {
                if (helper.put(i) == status::ok && helper.get<int>()) ++helped;
            }
        }));
        router.run();
    };
    auto server = spawn({.named = "routed"}, serve);
    auto c = places::connect_to_named_place("routed");
    int helped = 0;
    while (helped < 100) {
        ASSERT_EQ(c.put(1), status::ok);
        helped = c.get<int>().value();
        ASSERT_EQ(server.put(1), status::ok);
        ASSERT_TRUE(server.get<int>());
    }
    ASSERT_EQ(server.put(0), status::ok);
    EXPECT_EQ(server.wait().value, 0);
}

namespace {

/// Ends the loop after `events`, which are for `count` bodies that each run `body`.
template <class Body>
void unwind_inside(int count, Body body) {
    std::vector<places::event> bodies;
    places::router loop;
    for (int n = 0; n < count; ++n) loop.post(body);
    // After all of them have asked, and before any has its answer.
    loop.post([&] { loop.stop(); });
    loop.run();
}

}  // namespace

TEST(router, leaves_no_place_of_bodies_that_it_unwinds_inside_spawn) {
    const int nursery = nursery_pid();
    const auto count = [nursery] {
        const auto task = std::to_string(nursery);
        std::ifstream list("/proc/" + task + "/task/" + task + "/children");
        return std::distance(std::istream_iterator<int>{list}, std::istream_iterator<int>{});
    };
    const auto before = count();
    // One that a body has been given ends with its channel; one that nobody knows of never would.
    unwind_inside(100, [] { (void)spawn([](channel& c) { (void)c.receive(); }); });
    while (count() != before) (void)spawn([] {}).wait();
    EXPECT_EQ(spawn([] { return 3; }).wait().value, 3);
}

TEST(router, leaves_no_connection_of_bodies_that_it_unwinds_inside_connect) {
    auto server = spawn({.named = "unwound-server"}, [](places::inbox& in) {
        int open = 0;
        while (auto each = in.get()) {
            if (each->content.bytes().empty()) continue;
            open += each->content.as<int>().value();
            (void)each->from.put(open);
        }
    });
    const int pid = server.pid();
    const auto maps = [pid] {
        std::ifstream in("/proc/" + std::to_string(pid) + "/maps");
        int rings = 0;
        for (std::string line; std::getline(in, line);)
            rings += line.find("places-ring") != line.npos;
        return rings;
    };
    ASSERT_EQ(server.put(0), status::ok);
    ASSERT_EQ(server.get<int>(), 0);
    const auto before = maps();
    unwind_inside(100, [] { (void)places::connect_to_named_place("unwound-server"); });
    // The server drops what its clients have given up as it reads on.
    while (maps() != before) {
        ASSERT_EQ(server.put(0), status::ok);
        ASSERT_EQ(server.get<int>(), 0);
    }
    server.kill();
}

TEST(log, reaches_the_root_with_place_severity_and_time) {
    std::vector<places::log_record> records;
    test_runtime().on_log([&](const places::log_record& r) { records.push_back(r); });
    const auto before = std::chrono::system_clock::now();
    auto server = spawn({.named = "talker"}, [](places::inbox&) {
        places::log_to_parent(places::severity::debug, "one");
        places::log_to_parent(places::severity::error, "two");
    });
    (void)server.wait();
    const auto after_it = std::chrono::system_clock::now();
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].text, "one");
    EXPECT_EQ(records[0].severity, places::severity::debug);
    EXPECT_EQ(records[1].text, "two");
    EXPECT_EQ(records[1].severity, places::severity::error);
    for (const auto& r : records) {
        EXPECT_EQ(r.place, "talker");
        EXPECT_EQ(r.node, "");
        EXPECT_GE(r.time, before);
        EXPECT_LE(r.time, after_it);
    }
}

TEST(log, reaches_the_root_from_an_anonymous_place_killed_right_after) {
    std::vector<places::log_record> records;
    test_runtime().on_log([&](const places::log_record& r) { records.push_back(r); });
    auto p = spawn([] {
        places::log_to_parent(places::severity::warning, "last words");
        (void)::raise(SIGKILL);
    });
    (void)p.wait();
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].place, "place-" + std::to_string(p.id()));
}

TEST(log, goes_on_after_a_handler_that_threw) {
    int handled = 0;
    test_runtime().on_log([&](const places::log_record&) {
        if (++handled == 1) throw std::runtime_error("on purpose");
    });
    auto p = spawn([] {
        for (int i = 0; i < 3; ++i) places::log_to_parent(places::severity::info, "line");
    });
    EXPECT_EQ(p.wait().value, 0);
    EXPECT_EQ(handled, 3);
}

TEST(log, cuts_a_line_that_fits_no_packet) {
    std::vector<places::log_record> records;
    test_runtime().on_log([&](const places::log_record& r) { records.push_back(r); });
    auto p =
        spawn([] { places::log_to_parent(places::severity::info, std::string(200'000, 'x')); });
    (void)p.wait();
    ASSERT_EQ(records.size(), 1U);
    EXPECT_GT(records[0].text.size(), 10'000U);
}

TEST(router, that_stops_while_a_body_destroys_a_place_still_ends_the_place) {
    int pid = 0;
    places::router r;
    r.add(places::after(0ms, [&] {
        auto stuck = spawn([] {
            while (true) ::pause();
        });
        pid = stuck.pid();
        r.post([&] { r.stop(); });
        // Destroyed here: it waits for a place that does not end, and is unwound meanwhile.
    }));
    r.run();
    EXPECT_NE(::kill(pid, 0), 0);
}
