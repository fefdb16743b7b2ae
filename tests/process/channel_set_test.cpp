// SPDX-License-Identifier: Apache-2.0
// Many channels waited for together: in a set, by select beyond what one sleep can watch, and by
// the descriptor of a set in an event loop of one's own.
#include "core/process.hpp"
#include "core/ready_list.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <places/core/channel_set.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <poll.h>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using places::channel;
using places::channel_set;
using places::errc;
using places::spawn;
using places::status;

namespace {

constexpr std::size_t small_ring = 4096;

void echo_all(places::inbox& in) {
    while (auto next = in.get()) {
        if (next->from.send(next->content) == status::corrupt) return;
    }
}

/// Channels to one place that answers on each what came on it.
struct concurrent_clients {
    explicit concurrent_clients(std::size_t count)
        : server(spawn({.named = "echo", .ring_bytes = small_ring}, echo_all)) {
        for (std::size_t i = 0; i < count; ++i) {
            clients.push_back(places::connect_to_named_place("echo", small_ring));
        }
    }
    ~concurrent_clients() { server.kill(); }
    places::place server;
    std::vector<channel> clients;
};

/// More than a sleep can watch words.
constexpr std::size_t many = 300;

void log_when_told(channel& c) {
    while (c.get<int>()) {
        places::log_to_parent(places::severity::info, "told");
        (void)c.put(1);
    }
}

bool is_readable(int fd, int timeout_ms) {
    pollfd one{fd, POLLIN, 0};
    return ::poll(&one, 1, timeout_ms) == 1;
}

}  // namespace

TEST(channel_set, names_the_channel_that_has_a_message_among_hundreds) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    EXPECT_EQ(all.size(), many);
    EXPECT_EQ(all.try_wait(), std::nullopt);
    for (const std::size_t i : {std::size_t{299}, std::size_t{0}, std::size_t{150}}) {
        ASSERT_EQ(c.clients[i].put(7), status::ok);
        ASSERT_EQ(all.wait(), i);
        EXPECT_EQ(all.wait(), i) << "named until the message is taken";
        EXPECT_EQ(c.clients[i].get<int>().value(), 7);
    }
    EXPECT_EQ(all.wait(20ms), std::nullopt);
}

namespace {

void hear_who_calls_while_another_is_busy() {
    constexpr int plenty = 100'000;
    auto busy = spawn({.ring_bytes = 16 << 20}, [](channel& c) {
        (void)c.get<int>();
        for (int i = 0; i < plenty; ++i) (void)c.put(i);
        (void)c.get<int>();
    });
    auto caller = spawn([](channel& c) {
        (void)c.get<int>();
        (void)c.put(1);
        (void)c.get<int>();
    });
    // Says when the others have put what they were told to.
    const auto await_records = [](const channel& c, std::uint64_t count) {
        while (c.received().undelivered < count) {
        }
    };
    channel_set both;
    both.add(busy, 0);
    both.add(caller, 1);
    EXPECT_EQ(both.wait(1ms), std::nullopt);  // both have to call from now on
    ASSERT_EQ(busy.put(0), status::ok);
    await_records(busy, plenty);
    ASSERT_EQ(both.wait(), 0U);
    ASSERT_EQ(caller.put(0), status::ok);
    await_records(caller, 1);
    int before = 0;
    for (; both.wait() == 0U; ++before) ASSERT_TRUE(busy.get<int>());
    std::printf("%d messages of the busy one before it was heard\n", before);
    EXPECT_LT(before, plenty);
}

/// Runs `f` in a body of a router.
void in_a_body(const std::function<void()>& f) {
    test_runtime().route(places::after(0s, [&] {
        f();
        test_runtime().stop();
    }));
}

}  // namespace

TEST(channel_set, hears_who_calls_while_another_is_busy_without_end) {
    hear_who_calls_while_another_is_busy();
}

TEST(channel_set, hears_who_calls_while_another_is_busy_without_end_in_a_router_body_too) {
    in_a_body(hear_who_calls_while_another_is_busy);
}

namespace {

/// As a set has them, and counts how often one is looked at.
struct counted {
    places::detail::channel_state* state;
    std::uint64_t* looks;
    bool is_hot = false;

    bool is_ready() {
        ++*looks;
        return state->has_message();
    }
    void park() { state->end().in().park(places::shm::park_mode::doorbell); }
    void unpark() { state->end().in().unpark(); }
};

/// Looks at members for `messages` of the first of `size` channels, the others being silent.
std::uint64_t looks_among(std::size_t size, int messages) {
    concurrent_clients c{size};
    places::detail::ready_list<counted> all{places::detail::process::current()};
    std::uint64_t looks = 0;
    for (auto& each : c.clients) {
        auto* state = places::detail::state_of::get(each);
        state->await_peer();  // whose memory is looked for once it has come
        all.add(std::make_shared<counted>(counted{state, &looks}));
    }
    const auto wait = [&] {
        while (true) {
            all.pump();
            if (all.next()) return;
            (void)all.wait(places::shm::no_deadline, [] { return false; });
        }
    };
    const auto park_all = [&] {
        do {
            all.pump();
        } while (all.wait(places::shm::deadline::min(), [] { return false; }));
    };
    park_all();
    looks = 0;
    for (int n = 0; n < messages; ++n) {
        park_all();
        EXPECT_EQ(c.clients[0].put(n), status::ok);
        while (c.clients[0].received().undelivered == 0) {
        }
        wait();
        EXPECT_EQ(c.clients[0].get<int>().value(), n);
    }
    return looks;
}

}  // namespace

TEST(channel_set, looks_at_those_that_are_active_however_many_there_are) {
    constexpr int messages = 200;
    const auto few = looks_among(2, messages);
    const auto more = looks_among(1000, messages);
    std::printf("%llu looks among 2, %llu among 1000\n", static_cast<unsigned long long>(few),
                static_cast<unsigned long long>(more));
    EXPECT_LT(more, 2 * few);
}

TEST(channel_set, is_what_select_takes_for_any_number_of_channels) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    EXPECT_EQ(places::select(all, 0ns), std::nullopt);
    ASSERT_EQ(c.clients[250].put(1), status::ok);
    EXPECT_EQ(places::select(all), 250U);
}

TEST(channel_set, serves_all_that_are_ready_in_turns) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    for (auto& each : c.clients) {
        ASSERT_TRUE(each.put(1) == status::ok && each.put(2) == status::ok);
    }
    std::vector<int> expected(many, 1);
    for (std::size_t taken = 0; taken < 2 * many; ++taken) {
        const auto i = all.wait().value();
        ASSERT_EQ(c.clients[i].get<int>().value(), expected[i]++);
    }
    EXPECT_EQ(all.try_wait(), std::nullopt);
}

namespace {

/// Places without a word, in a set, of which one is going to be killed.
struct doomed_pair {
    doomed_pair() {
        all.add(lives, 1);
        all.add(dies, 2);
    }
    ~doomed_pair() { lives.kill(); }
    places::place lives = spawn(never_ends);
    places::place dies = spawn(never_ends);
    channel_set all;
};

}  // namespace

TEST(channel_set, names_a_channel_whose_other_end_has_died) {
    doomed_pair two;
    EXPECT_EQ(two.all.try_wait(), std::nullopt);
    ASSERT_EQ(::kill(two.dies.pid(), SIGKILL), 0);
    EXPECT_EQ(two.all.wait(), 2U);
    EXPECT_EQ(two.dies.get<int>().error(), errc::peer_dead);
    two.all.remove(two.dies);
    EXPECT_EQ(two.all.try_wait(), std::nullopt);
}

TEST(channel_set, in_a_router_body_names_a_channel_whose_other_end_has_died) {
    doomed_pair two;
    test_runtime().route(places::after(0s,
                                       [&] {
                                           EXPECT_EQ(two.all.wait(), 2U);
                                           test_runtime().stop();
                                       }),
                         places::after(1ms, [&] { ::kill(two.dies.pid(), SIGKILL); }));
}

TEST(channel_set, knows_a_channel_that_was_moved_or_waited_on_besides) {
    concurrent_clients c{2};
    channel_set all;
    all.add(c.clients[0], 0);
    all.add(c.clients[1], 1);
    EXPECT_EQ(all.try_wait(), std::nullopt);
    // A call of one's own parks and unparks the same end.
    ASSERT_EQ(c.clients[1].put(1), status::ok);
    ASSERT_EQ(c.clients[1].get<int>().value(), 1);
    auto moved = std::move(c.clients[1]);
    ASSERT_EQ(moved.put(2), status::ok);
    EXPECT_EQ(all.wait(), 1U);
    EXPECT_EQ(moved.get<int>().value(), 2);
}

TEST(channel_set, forgets_a_channel_that_ends) {
    concurrent_clients c{2};
    channel_set all;
    all.add(c.clients[0], 0);
    all.add(c.clients[1], 1);
    EXPECT_EQ(all.try_wait(), std::nullopt);
    c.clients.pop_back();
    EXPECT_EQ(all.size(), 1U);
    ASSERT_EQ(c.clients[0].put(1), status::ok);
    EXPECT_EQ(all.wait(), 0U);
}

TEST(channel_set, refuses_what_it_cannot_wait_for) {
    channel_set all;
    EXPECT_EQ(error_of([&] { (void)all.wait(); }).code(), errc::bad_argument);
    const channel none;
    EXPECT_EQ(error_of([&] { all.add(none, 0); }).code(), errc::bad_argument);
    auto p = spawn(never_ends);
    all.add(p, 0);
    EXPECT_EQ(error_of([&] { all.add(p, 1); }).code(), errc::bad_argument);
    channel_set other;
    EXPECT_EQ(error_of([&] { other.add(p, 1); }).code(), errc::bad_argument);
    p.kill();
}

TEST(channel_set, has_a_descriptor_that_any_event_loop_can_poll) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    const int fd = all.native_handle();
    while (all.try_wait()) {
    }
    for (std::size_t i = 0; i < many; i += 7) {
        ASSERT_EQ(c.clients[i].put(static_cast<int>(i)), status::ok);
        std::optional<std::uint64_t> key;
        // It may be readable for nothing.
        while (!key && is_readable(fd, -1)) key = all.try_wait();
        ASSERT_EQ(key, i);
        EXPECT_EQ(c.clients[i].get<int>().value(), static_cast<int>(i));
        while (all.try_wait()) {
        }
    }
    // A death is told the same way.
    c.server.kill();
    ASSERT_TRUE(is_readable(fd, -1));
    EXPECT_TRUE(all.try_wait());
}

TEST(channel_set, with_a_descriptor_is_the_only_one_that_waits) {
    auto p = spawn(never_ends);
    channel_set all;
    all.add(p, 0);
    (void)all.native_handle();
    places::router r;
    r.post([&] { r.stop(); });
    EXPECT_EQ(error_of([&] { r.run(); }).code(), errc::bad_argument);
    p.kill();
}

TEST(channel_set, suspends_only_the_body_of_a_router_that_waits) {
    concurrent_clients c{many};
    places::router r;
    bool other_ran = false;
    std::optional<std::uint64_t> key;
    r.post([&] {
        channel_set all;
        for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
        key = all.wait();
        r.stop();
    });
    r.post([&] {
        other_ran = true;
        (void)c.clients[9].put(1);
    });
    r.run();
    EXPECT_TRUE(other_ran);
    EXPECT_EQ(key, 9U);
}

TEST(select, takes_more_channels_than_a_sleep_can_watch_words) {
    concurrent_clients c{many};
    std::vector<channel*> all;
    for (auto& each : c.clients) all.push_back(&each);
    EXPECT_EQ(places::select(all, 10ms), std::nullopt);
    ASSERT_EQ(c.clients[250].put(1), status::ok);
    EXPECT_EQ(places::select(all), 250U);
    EXPECT_EQ(c.clients[250].get<int>().value(), 1);
    c.server.kill();
    EXPECT_TRUE(places::select(all));
}

TEST(channel_set, works_in_a_router_body_and_outside_and_in_the_next_router) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    const auto ask_some = [&] {
        for (const std::size_t i : {std::size_t{7}, std::size_t{299}, std::size_t{0}}) {
            EXPECT_EQ(all.wait(1ms), std::nullopt);  // all of them have to call
            ASSERT_EQ(c.clients[i].put(1), status::ok);
            ASSERT_EQ(all.wait(), i);
            EXPECT_EQ(c.clients[i].get<int>().value(), 1);
        }
    };
    for (int round = 0; round < 3; ++round) {
        ask_some();
        in_a_body(ask_some);
        in_a_body(ask_some);
    }
}

TEST(channel_set, in_a_router_body_knows_a_channel_that_another_body_has_waited_on) {
    concurrent_clients c{2};
    channel_set both;
    both.add(c.clients[0], 0);
    both.add(c.clients[1], 1);
    std::vector<std::size_t> named;
    test_runtime().route(places::after(0s,
                                       [&] {
                                           for (int i = 0; i < 2; ++i) {
                                               const auto which = both.wait().value();
                                               named.push_back(which);
                                               (void)c.clients[which].get<int>();
                                           }
                                           test_runtime().stop();
                                       }),
                         places::after(1ms, [&] {
                             // Takes it out of its sleep, and leaves it.
                             EXPECT_EQ(c.clients[1].get_for<int>(1ms).error(), errc::timeout);
                             EXPECT_EQ(c.clients[1].put(1), status::ok);
                             while (named.empty()) (void)c.clients[0].get_for<int>(1ms);
                             EXPECT_EQ(c.clients[0].put(1), status::ok);
                         }));
    EXPECT_EQ(named, (std::vector<std::size_t>{1, 0}));
}

TEST(channel_set, in_two_bodies_gives_each_message_to_one_of_them) {
    constexpr int count = 2000;
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    int taken = 0;
    const auto take = [&] {
        while (taken < count) {
            const auto which = all.wait(1s);
            ASSERT_TRUE(which);
            if (!c.clients[*which].try_get<int>()) continue;  // the other body was faster
            ++taken;
        }
        test_runtime().stop();
    };
    test_runtime().route(places::after(0s, take), places::after(0s, take), places::after(0s, [&] {
                             for (int i = 0; i < count; ++i) {
                                 ASSERT_EQ(c.clients[static_cast<std::size_t>(i) % many].put(i),
                                           status::ok);
                             }
                         }));
    EXPECT_EQ(taken, count);
}

TEST(channel_set, that_comes_and_goes_leaves_another_body_its_sleep) {
    concurrent_clients c{2};
    int told = 0;
    test_runtime().route(places::after(0s,
                                       [&] {
                                           told = c.clients[0].get<int>().value();
                                           test_runtime().stop();
                                       }),
                         places::after(1ms, [&] {
                             ASSERT_EQ(c.clients[1].put(1), status::ok);
                             {
                                 channel_set both;
                                 both.add(c.clients[0], 0);
                                 both.add(c.clients[1], 1);
                                 ASSERT_EQ(both.wait(), 1U);
                                 (void)c.clients[1].get<int>();
                                 EXPECT_EQ(both.wait(1ms), std::nullopt);  // it parks both
                             }
                             ASSERT_EQ(c.clients[0].put(7), status::ok);
                         }));
    EXPECT_EQ(told, 7);
}

TEST(channel_set, leaves_a_body_its_sleep_when_another_gives_up_its_own) {
    concurrent_clients c{2};
    int told = 0;
    bool is_over = false;
    const auto waits = places::after(0s, [&] {
        told = c.clients[0].get<int>().value();
        is_over = true;
    });
    const auto gives_up = places::after(0s, [&] {
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(c.clients[0].get_for<int>(1ms).error(), errc::timeout);
        }
        ASSERT_EQ(c.clients[0].put(7), status::ok);
        while (!is_over) (void)c.clients[1].get_for<int>(1ms);
        test_runtime().stop();
    });
    const auto has_it_in_a_set = places::after(0s, [&] {
        channel_set both;
        both.add(c.clients[0], 0);
        both.add(c.clients[1], 1);
        EXPECT_EQ(both.wait(), 0U);
    });
    test_runtime().route(waits, gives_up, has_it_in_a_set);
    EXPECT_EQ(told, 7);
}

TEST(channel_set, asked_in_a_body_without_waiting_sees_what_has_come) {
    concurrent_clients c{4};
    auto& other = c.clients[3];
    channel_set all;
    for (std::size_t i = 0; i < 3; ++i) all.add(c.clients[i], i);
    in_a_body([&] {
        EXPECT_EQ(all.wait(1ms), std::nullopt);
        for (int round = 0; round < 200; ++round) {
            const auto which = static_cast<std::size_t>(round) % 3;
            EXPECT_EQ(all.try_wait(), std::nullopt);
            ASSERT_EQ(c.clients[which].put(round), status::ok);
            while (c.clients[which].received().undelivered == 0) {
            }
            // Whoever has answered this has called for the other.
            ASSERT_EQ(other.put(0), status::ok);
            ASSERT_TRUE(other.get<int>());
            ASSERT_EQ(all.try_wait(), which);
            EXPECT_EQ(c.clients[which].get<int>().value(), round);
        }
    });
}

TEST(channel_set, that_another_body_empties_is_waited_for_no_more) {
    auto silent = spawn(never_ends);
    channel_set all;
    all.add(silent, 1);
    boost::system::error_code told;
    test_runtime().route(places::after(0s,
                                       [&] {
                                           told = error_of([&] { (void)all.wait(); }).code();
                                           test_runtime().stop();
                                       }),
                         places::after(1ms, [&] { all.remove(silent); }));
    EXPECT_EQ(told, errc::bad_argument);
    silent.kill();
}

TEST(channel_set, that_a_body_waits_on_ends_with_its_router) {
    concurrent_clients c{many};
    channel_set all;
    for (std::size_t i = 0; i < many; ++i) all.add(c.clients[i], i);
    bool was_destroyed = false;
    struct sets_at_end {
        bool& flag;
        channel_set& in;
        ~sets_at_end() {
            EXPECT_EQ(in.wait(1ms), std::nullopt);  // holds the thread
            flag = true;
        }
    };
    test_runtime().route(places::after(0s,
                                       [&] {
                                           const sets_at_end on_the_way_out{was_destroyed, all};
                                           (void)all.wait();
                                           ADD_FAILURE() << "nobody has called";
                                       }),
                         places::after(1ms, [] { test_runtime().stop(); }));
    EXPECT_TRUE(was_destroyed);
    EXPECT_EQ(all.wait(1ms), std::nullopt);
}

TEST(inbox, that_two_bodies_ask_tells_both_that_its_channel_has_ended) {
    auto p = spawn([](places::inbox& in) {
        int told = 0;
        places::router r;
        const auto ask = [&] {
            if (in.get().error() == errc::closed && ++told == 2) r.stop();
        };
        r.post(ask);
        r.post(ask);
        r.post([&] { (void)in.creator().put(1); });
        r.run();
        return told;
    });
    ASSERT_EQ(p.get<int>().value(), 1);
    p.close();
    EXPECT_EQ(p.wait(), (places::exit_status{false, 2}));
}

TEST(inbox, that_is_asked_without_waiting_sees_what_comes) {
    auto p = spawn([](places::inbox& in) {
        const auto now = [&] { return in.get(channel::clock::now()); };
        // Until its channel is parked, which takes a turn or two.
        for (int i = 0; i < 10; ++i) {
            if (const auto next = now(); next || next.error() != errc::timeout) return 1;
        }
        if (in.creator().put(1) != status::ok) return 2;
        while (true) {
            const auto next = now();
            if (next) return next->content.as<int>().value() == 2 ? 0 : 3;
            if (next.error() != errc::timeout) return 4;
        }
    });
    ASSERT_EQ(p.get<int>().value(), 1);
    ASSERT_EQ(p.put(2), status::ok);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

namespace {

/// Waits by a set on the channel that the entry was given, and on one more.
int answer_by_set(channel& creator) {
    auto echo = spawn([](channel& c) { (void)c.put(c.get<int>().value() + 1); });
    channel_set all;
    all.add(creator, 0);
    all.add(echo, 1);
    for (int taken = 0; taken < 2; ++taken) {
        const auto key = all.wait();
        if (key == 0U && echo.put(creator.get<int>().value()) != status::ok) return 1;
        if (key == 1U && creator.put(echo.get<int>().value()) != status::ok) return 2;
    }
    // Gone from the set, it is anybody's again.
    all.remove(creator);
    return creator.get<int>().value() == 9 && creator.put(10) == status::ok ? 0 : 3;
}

}  // namespace

TEST(channel_set, takes_the_channel_to_the_creator_of_a_place) {
    auto p = spawn(answer_by_set);
    ASSERT_EQ(p.put(7), status::ok);
    EXPECT_EQ(p.get<int>().value(), 8);
    ASSERT_EQ(p.put(9), status::ok);
    EXPECT_EQ(p.get<int>().value(), 10);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

TEST(channel_set, takes_the_channel_to_the_creator_in_a_router_body_too) {
    auto p = spawn([](channel& creator) {
        places::router r;
        int code = 5;
        r.post([&] {
            code = answer_by_set(creator);
            r.stop();
        });
        r.run();
        return code;
    });
    ASSERT_EQ(p.put(7), status::ok);
    EXPECT_EQ(p.get<int>().value(), 8);
    ASSERT_EQ(p.put(9), status::ok);
    EXPECT_EQ(p.get<int>().value(), 10);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

TEST(inbox, and_a_set_read_the_channel_to_the_creator_one_at_a_time) {
    auto p = spawn([](places::inbox& in) {
        channel_set all;
        all.add(in.creator(), 0);
        if (all.wait() != 0U) return 1;
        const auto refused = error_of([&] { (void)in.get(); });
        if (refused.code() != errc::bad_argument) return 2;
        (void)in.creator().put(std::string(refused.what()));
        all.remove(in.creator());
        if (in.get()->content.as<int>().value() != 7) return 3;
        const auto also_refused = error_of([&] { all.add(in.creator(), 0); });
        (void)in.creator().put(std::string(also_refused.what()));
        return also_refused.code() == errc::bad_argument ? 0 : 4;
    });
    ASSERT_EQ(p.put(7), status::ok);
    const auto of_inbox = p.get<std::string>().value();
    EXPECT_NE(of_inbox.find("creator"), std::string::npos) << of_inbox;
    const auto of_set = p.get<std::string>().value();
    EXPECT_NE(of_set.find("inbox"), std::string::npos) << of_set;
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

TEST(channel_set, bears_a_log_handler_that_takes_members_out) {
    // A server that is stopped never shares its memory: each look at such a member asks for it.
    auto server = spawn({.named = "stopped", .ring_bytes = small_ring}, echo_all);
    ASSERT_EQ(::kill(server.pid(), SIGSTOP), 0);
    std::vector<channel> ends;
    for (int i = 0; i < 16; ++i) {
        ends.push_back(places::connect_to_named_place("stopped", small_ring));
    }
    channel_set set;
    auto logger = spawn(log_when_told);
    set.add(logger, 100);
    int logged = 0;
    test_runtime().on_log([&](const places::log_record&) {
        ++logged;
        for (auto& each : ends) set.remove(each);
        for (auto& each : ends) set.add(each, 1);
    });
    for (int i = 1; i <= 300; ++i) {
        ASSERT_EQ(logger.put(1), status::ok);
        // The answer may come before the line of the log, which comes by another way.
        while (logged < i) (void)set.wait(1us);
        ASSERT_EQ(set.wait(), 100U);
        ASSERT_TRUE(logger.get<int>());
    }
    test_runtime().on_log({});
    server.kill();
}
