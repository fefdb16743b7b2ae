// SPDX-License-Identifier: Apache-2.0
// Ends that two threads use at once, and ends in processes that the program has forked itself.
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"
#include "processes.hpp"

#include "core/process.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using places::channel;
using places::errc;
using places::place;
using places::spawn;
using places::status;

/// Answers no call.
struct sleeper {
    int sleep(int) {
        never_ends();
        return 0;
    }
};
PLACES_SERVER(sleeper, (rpc, sleep))

namespace {

constexpr std::size_t small_ring = 4096;

void echo(channel& c) {
    while (auto m = c.receive()) {
        if (c.send(*m) != status::ok) return;
    }
}

constexpr const char* provokes_races =
    "two threads use one channel here until one is told so: ThreadSanitizer reports these races";

/// Calls `f` until it is a misuse, as it is once another thread waits.
/// Returns: the text of the error.
std::string text_of_misuse(const std::function<void()>& f) {
    while (true) {
        try {
            f();
        } catch (const places::error& e) {
            EXPECT_EQ(e.code(), errc::misuse) << e.what();
            return e.what();
        }
        ::sched_yield();
    }
}

/// Runs `f` in a process that this one forks.
/// Returns: its exit code.
int in_fork(const std::function<int()>& f) {
    std::fflush(nullptr);
    const auto pid = ::fork();
    if (pid == 0) {
        int code = 99;
        try {
            code = f();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "in the forked process: %s\n", e.what());
        }
        ::_exit(code);
    }
    int how = 0;
    while (::waitpid(pid, &how, 0) < 0) {
    }
    return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

/// Whether `f` throws a misuse, which is in words to a programmer that forks.
bool is_misuse(const std::function<void()>& f) {
    try {
        f();
    } catch (const places::error& e) {
        const std::string text = e.what();
        return e.code() == errc::misuse && text.find("forked") != text.npos &&
               text.find("places::spawn") != text.npos;
    }
    return false;
}

}  // namespace

TEST(channel, says_misuse_to_a_writer_while_another_thread_reads) {
    if (is_thread_sanitized) GTEST_SKIP() << provokes_races;
    auto p = spawn(echo);
    std::optional<errc> of_reader;
    int read = 0;
    std::thread reader([&] {
        try {
            while (p.get<int>()) ++read;
        } catch (const places::error& e) {
            of_reader = static_cast<errc>(e.code().value());
        }
    });
    // Each that is taken is answered, which ends the reader's wait for a moment.
    const auto text = text_of_misuse([&] { (void)p.try_put(1); });
    EXPECT_NE(text.find("two threads at once"), std::string::npos) << text;
    EXPECT_NE(text.find("waits in a call that receives"), std::string::npos) << text;
    EXPECT_NE(text.find("channel of its own"), std::string::npos) << text;
    p.kill();
    reader.join();
    // It goes on as before, unless it called while the writer waited itself.
    EXPECT_EQ(of_reader, std::nullopt);
}

TEST(channel, says_misuse_of_every_call_while_another_thread_waits) {
    if (is_thread_sanitized) GTEST_SKIP() << provokes_races;
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        (void)c.get<int>();
        (void)c.put(1);
    });
    std::thread reader([&] { EXPECT_EQ(p.get<int>().value(), 1); });
    (void)text_of_misuse([&] { (void)p.try_peek(); });
    std::array<std::span<const std::byte>, 1> shown;
    std::array<int, 1> numbers{};
    const std::vector<std::function<void()>> calls{
        [&] { (void)p.put(1); },
        [&] { (void)p.try_put(std::string("text")); },
        [&] { (void)p.put_for(1, 1ms); },
        [&] { (void)p.put(std::vector<std::byte>(100'000)); },
        [&] { (void)p.get<int>(); },
        [&] { (void)p.receive(); },
        [&] { (void)p.put_batch({1}); },
        [&] { (void)p.put_batch({std::string("a")}); },
        [&] { (void)p.get_batch(numbers); },
        [&] { (void)p.add_loan(8); },
        [&] { (void)p.publish_batch(); },
        [&] { (void)p.peek_batch(shown); },
        [&] { (void)p.loan(8); },
        [&] { p.publish(8); },
        [&] { (void)p.peek(); },
        [&] { p.release(); },
        [&] { (void)p.skip(); },
        [&] { (void)p.sent(); },
        [&] { (void)p.received(); },
        [&] { (void)p.set_busy_poll(true); },
        [&] { (void)places::select({&p}); },
        [&] { places::channel_set{}.add(p, 1); },
    };
    for (std::size_t i = 0; i < calls.size(); ++i) {
        EXPECT_EQ(error_of(calls[i]).code(), errc::misuse) << "call " << i;
    }
    // The place is asked by other means than this end, which its reader still has.
    EXPECT_EQ(places::detail::state_of::get(p)->end().out().try_put(
                  static_cast<std::uint16_t>(places::message_kind::raw),
                  places::detail::fingerprint<int>(), std::as_bytes(std::span{numbers})),
              status::ok);
    reader.join();
    EXPECT_EQ(p.wait().value, 0);
}

TEST(channel, says_misuse_while_another_thread_waits_for_room_or_by_select_or_in_a_set) {
    if (is_thread_sanitized) GTEST_SKIP() << provokes_races;
    const auto waits_otherwise = [](const std::function<void(place&)>& wait, const char* in_words) {
        auto p = spawn({.ring_bytes = small_ring}, never_ends);
        std::thread other([&] { wait(p); });
        const auto text = text_of_misuse([&] { (void)p.try_peek(); });
        EXPECT_NE(text.find(in_words), std::string::npos) << text;
        p.kill();
        other.join();
    };
    waits_otherwise(
        [](place& p) {
            while (p.put(1) == status::ok) {
            }
        },
        "a call that sends");
    waits_otherwise([](place& p) { EXPECT_EQ(places::select({&p}), 0U); }, "select()");
    waits_otherwise(
        [](place& p) {
            places::channel_set set;
            set.add(p, 4);
            EXPECT_EQ(set.wait(), 4U);
        },
        "set or inbox");
}

TEST(client, says_misuse_while_another_thread_waits_for_an_answer) {
    if (is_thread_sanitized) GTEST_SKIP() << provokes_races;
    auto server = places::spawn_server<sleeper>();
    std::thread other(
        [&] { EXPECT_EQ(error_of([&] { (void)server.sleep(1); }).code(), errc::peer_dead); });
    const auto text = text_of_misuse([&] { (void)server.link().try_peek(); });
    EXPECT_NE(text.find("waits in a call of a server"), std::string::npos) << text;
    EXPECT_EQ(error_of([&] { (void)server.sleep(1); }).code(), errc::misuse);
    server.link().kill();
    other.join();
}

TEST(channel, may_be_handed_from_thread_to_thread) {
    auto p = spawn(echo);
    for (int i = 0; i < 100; ++i) {
        std::thread([&] {
            ASSERT_EQ(p.put(i), status::ok);
            ASSERT_EQ(p.get<int>().value(), i);
        }).join();
        ASSERT_EQ(p.put(i), status::ok);
        ASSERT_EQ(p.get<int>().value(), i);
    }
}

TEST(fork, gives_no_end_to_the_process_that_it_makes) {
    auto p = spawn(echo);
    auto q = spawn(echo);
    std::optional<place> r{spawn(echo)};
    places::channel_set set;
    set.add(q, 1);
    ASSERT_EQ(p.put(1), status::ok);
    ASSERT_TRUE(p.peek());
    EXPECT_EQ(set.wait(1ms), std::nullopt);  // its end is parked
    const auto code = in_fork([&] {
        std::array<std::span<const std::byte>, 1> shown;
        const std::vector<std::function<void()>> calls{
            [&] { (void)p.put(2); },
            [&] { (void)p.try_put(std::string("text")); },
            [&] { (void)p.put(std::vector<std::byte>(100'000)); },
            [&] { (void)p.put_batch({1}); },
            [&] { (void)p.loan(8); },
            [&] { p.publish(8); },
            [&] { (void)p.get<int>(); },
            [&] { (void)p.try_get<int>(); },
            [&] { (void)p.receive_for(1ms); },
            [&] { (void)p.peek(); },
            [&] { (void)p.peek_batch(shown); },
            [&] { p.release(); },
            [&] { (void)p.set_busy_poll(true); },
            [&] { (void)p.peer_status(); },
            [&] { (void)p.sent(); },
            [&] { (void)p.received(); },
            [&] { (void)p.wait(); },
            [&] { p.kill(); },
            [&] {
                (void)places::select({&p, &q});
            },
            [&] { (void)set.wait(); },
            [&] { (void)set.try_wait(); },
            [&] { (void)places::channel_set{}; },
            [&] { (void)spawn(echo); },
            [&] { (void)places::connect_to_named_place("nobody"); },
            [&] { places::router{}.run(); },
            [&] { test_runtime().route(places::after(0s, [] {})); },
            [&] { test_runtime().on_log([](const places::log_record&) {}); },
        };
        for (std::size_t i = 0; i < calls.size(); ++i) {
            if (!is_misuse(calls[i])) return static_cast<int>(i) + 1;
        }
        places::log_to_parent(places::severity::error, "of nobody");
        p.close();
        q = place{};
        r.reset();
        { const auto gone = std::move(set); }
        test_runtime().~runtime();
        return 0;
    });
    EXPECT_EQ(code, 0) << "the call of that number, from 1";
    // All of it goes on here.
    EXPECT_EQ(p.get<int>().value(), 1);
    for (auto* each : {&p, &q, &*r}) {
        ASSERT_EQ(each->put(5), status::ok);
        ASSERT_EQ(each->get<int>().value(), 5);
    }
    ASSERT_EQ(q.put(6), status::ok);
    EXPECT_EQ(set.wait(), 1U);
    EXPECT_EQ(spawn([](channel& c) { (void)c.put(1); }).get<int>().value(), 1);
}

TEST(fork, in_a_place_gives_its_channel_to_nobody) {
    auto p = spawn([](channel& c) {
        const auto code = in_fork([&] {
            if (!is_misuse([&] { (void)c.put(2); })) return 1;
            if (!is_misuse([&] { (void)spawn(echo); })) return 2;
            std::exit(7);  // as a program that forks may end
        });
        return c.put(code) == status::ok && c.get<int>() ? 0 : 1;
    });
    EXPECT_EQ(p.get<int>().value(), 7);
    ASSERT_EQ(p.put(1), status::ok);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

TEST(fork, a_thousand_times_beside_threads_that_send_loses_nothing) {
    constexpr std::size_t thread_count = 8;
    constexpr int forks = is_sanitized ? 100 : 1000;
    std::array<place, thread_count> all;
    for (auto& p : all) {
        p = spawn({.ring_bytes = small_ring}, [](channel& c) {
            int next = 0;
            while (const auto n = c.get<int>()) {
                if (*n == -1) return c.put(next) == status::ok ? 0 : 1;
                if (*n != next++) return 2;
            }
            return 3;
        });
    }
    std::atomic<bool> is_over = false;
    std::array<int, thread_count> sent{};
    std::vector<std::thread> senders;
    for (std::size_t i = 0; i < thread_count; ++i) {
        senders.emplace_back([&, i] {
            while (!is_over.load() && all[i].put(sent[i]) == status::ok) ++sent[i];
            EXPECT_EQ(all[i].put(-1), status::ok);
        });
    }
    int failed = 0;
    for (int i = 0; i < forks; ++i) {
        const auto code = in_fork([&] {
            for (auto& p : all) {
                if (!is_misuse([&] { (void)p.put(-2); })) return 1;
                if (!is_misuse([&] { (void)p.get<int>(); })) return 2;
            }
            if (i % 2 == 0) {
                for (auto& p : all) p = place{};
            }
            return 0;
        });
        if (code != 0) ++failed;
    }
    EXPECT_EQ(failed, 0);
    is_over.store(true);
    for (auto& each : senders) each.join();
    for (std::size_t i = 0; i < thread_count; ++i) {
        EXPECT_GT(sent[i], 0);
        EXPECT_EQ(all[i].get<int>().value(), sent[i]);
        EXPECT_EQ(all[i].wait(), (places::exit_status{false, 0}));
    }
}
