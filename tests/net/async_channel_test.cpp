// SPDX-License-Identifier: Apache-2.0
// Channels in an event loop of Boost.Asio, by every kind of completion token.
#include "core/process.hpp"
#include "tests/process/processes.hpp"
#include "tests/support/node_main.hpp"

#include <places/net/async_channel.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/version.hpp>
#include <gtest/gtest.h>

#if BOOST_VERSION >= 108100  // before, they were experimental or not there
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#endif

#include <csignal>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace asio = boost::asio;
using places::async_channel;
using places::channel;
using places::errc;
using places::spawn;
using places::status;

namespace {

using error_code = boost::system::error_code;

constexpr std::size_t small_ring = 4096;

void echo(channel& c) {
    while (auto m = c.receive()) {
        if (c.send(*m) != status::ok) return;
    }
}

asio::awaitable<long> sum_of_echoes(async_channel& c, int count) {
    long sum = 0;
    for (int i = 0; i < count; ++i) {
        co_await c.async_put(i, asio::use_awaitable);
        sum += co_await c.async_get<int>(asio::use_awaitable);
    }
    co_return sum;
}

}  // namespace

TEST(async_channel, completes_a_get_that_began_before_its_message_came) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    int got = 0;
    c.async_get<int>([&](error_code ec, int v) {
        EXPECT_FALSE(ec);
        got = v;
    });
    io.poll();
    EXPECT_EQ(got, 0);
    c.async_put(7, [](error_code ec) { EXPECT_FALSE(ec); });
    io.restart();
    io.run();
    EXPECT_EQ(got, 7);
}

TEST(async_channel, leaves_the_wait_to_others_when_its_loop_cannot_watch) {
    auto p = spawn(echo);
    asio::io_context busy;
    // A loop watches a descriptor once: the kernel refuses the second time.
    asio::posix::stream_descriptor taken{busy, places::detail::process::current().control_handle()};
    EXPECT_THROW((async_channel{busy, p}), boost::system::system_error);
    (void)taken.release();
    asio::io_context io;
    async_channel c{io, p};
    auto sum = asio::co_spawn(io, sum_of_echoes(c, 10), asio::use_future);
    io.run();
    EXPECT_EQ(sum.get(), 45);
}

TEST(async_channel, works_in_coroutines_side_by_side) {
    auto p = spawn(echo);
    auto q = spawn(echo);
    asio::io_context io;
    async_channel a{io, p};
    async_channel b{io, q};
    std::vector<long> sums;
    const auto done = [&](std::exception_ptr failed, long sum) {
        EXPECT_FALSE(failed);
        sums.push_back(sum);
    };
    asio::co_spawn(io, sum_of_echoes(a, 3000), done);
    asio::co_spawn(io, sum_of_echoes(b, 3000), done);
    io.run();
    EXPECT_EQ(sums, (std::vector<long>{4498500, 4498500}));
}

TEST(async_channel, takes_futures_and_yield_contexts) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    auto sent = c.async_put(std::string("future"), asio::use_future);
    auto got = c.async_get<std::string>(asio::use_future);
    io.run();
    sent.get();
    EXPECT_EQ(got.get(), "future");
    io.restart();
    asio::spawn(
        io,
        [&](asio::yield_context yield) {
            c.async_put(std::string("yield"), yield);
            EXPECT_EQ(c.async_get<std::string>(yield), "yield");
            error_code ec;
            c.async_put(std::string("text"), yield[ec]);
            (void)c.async_get<int>(yield[ec]);
            EXPECT_EQ(ec, errc::wrong_type);
            EXPECT_EQ(c.async_get<std::string>(yield), "text");
        },
        asio::detached);
    io.run();
}

TEST(async_channel, takes_awaitables_that_tell_errors_without_throwing) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    const auto talk = [&]() -> asio::awaitable<void> {
        co_await c.async_put(std::string("text"), asio::use_awaitable);
        error_code ec;
        EXPECT_EQ(co_await c.async_get<int>(asio::redirect_error(asio::use_awaitable, ec)), 0);
        EXPECT_EQ(ec, errc::wrong_type);
        const auto text =
            co_await c.async_get<std::string>(asio::redirect_error(asio::use_awaitable, ec));
        EXPECT_FALSE(ec);
        EXPECT_EQ(text, "text");
    };
    auto done = asio::co_spawn(io, talk(), asio::use_future);
    io.run();
    done.get();
}

TEST(async_channel, calls_a_handler_on_the_executor_it_is_bound_to) {
    auto p = spawn(echo);
    asio::io_context io;
    asio::io_context other;
    async_channel c{io, p};
    int called = 0;
    const auto there = [&](auto handler) {
        return asio::bind_executor(other.get_executor(), std::move(handler));
    };
    c.async_get<int>(there([&](error_code ec, int v) {
        EXPECT_FALSE(ec);
        EXPECT_EQ(v, 4);
        EXPECT_TRUE(other.get_executor().running_in_this_thread());
        ++called;
    }));
    c.async_put(4, there([&](error_code ec) {
                    EXPECT_FALSE(ec);
                    EXPECT_TRUE(other.get_executor().running_in_this_thread());
                    ++called;
                }));
    io.run();
    EXPECT_EQ(called, 0);
    // It has stayed for the handlers.
    EXPECT_EQ(other.run(), 2U);
    EXPECT_EQ(called, 2);
}

TEST(async_channel, loses_nothing_of_an_awaitable_that_came_too_late) {
    using namespace asio::experimental::awaitable_operators;
    auto p = spawn(echo);
    auto q = spawn(echo);
    asio::io_context io;
    async_channel a{io, p};
    async_channel b{io, q};
    const auto first_of_both = [&]() -> asio::awaitable<void> {
        co_await b.async_put(2, asio::use_awaitable);
        const auto first = co_await (a.async_get<int>(asio::use_awaitable) ||
                                     b.async_get<int>(asio::use_awaitable));
        EXPECT_EQ(first.index(), 1U);
        EXPECT_EQ(std::get<1>(first), 2);
        co_await a.async_put(1, asio::use_awaitable);
        EXPECT_EQ(co_await a.async_get<int>(asio::use_awaitable), 1);
    };
    auto done = asio::co_spawn(io, first_of_both(), asio::use_future);
    io.run();
    done.get();
}

TEST(async_channel, begins_what_a_coroutine_awaits_after_the_channel_has_moved) {
    auto p = spawn(echo);
    asio::io_context io;
    auto c = std::make_unique<async_channel>(io, p);
    auto sent = c->async_put(6, asio::use_awaitable);
    auto got = c->async_get<int>(asio::use_awaitable);
    async_channel moved{std::move(*c)};
    c.reset();
    const auto talk = [&]() -> asio::awaitable<int> {
        co_await std::move(sent);
        co_return co_await std::move(got);
    };
    auto done = asio::co_spawn(io, talk(), asio::use_future);
    io.run();
    EXPECT_EQ(done.get(), 6);
}

#if BOOST_VERSION >= 108100

TEST(async_channel, takes_awaitables_that_complete_with_all_there_is) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    const auto talk = [&]() -> asio::awaitable<void> {
        const auto token = asio::as_tuple(asio::use_awaitable);
        const auto [not_sent] = co_await c.async_put(std::string("text"), token);
        EXPECT_FALSE(not_sent);
        const auto [wrong, nothing] = co_await c.async_get<int>(token);
        EXPECT_EQ(wrong, errc::wrong_type);
        EXPECT_EQ(nothing, 0);
        const auto [not_received, text] = co_await c.async_get<std::string>(token);
        EXPECT_FALSE(not_received);
        EXPECT_EQ(text, "text");
    };
    auto done = asio::co_spawn(io, talk(), asio::use_future);
    io.run();
    done.get();
}

TEST(async_channel, begins_a_deferred_operation_when_it_is_called) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    auto put = c.async_put(5, asio::deferred);
    auto get = c.async_get<int>(asio::deferred);
    io.run();
    EXPECT_EQ(p.sent().accepted, 0U);
    auto sent = std::move(put)(asio::use_future);
    auto got = std::move(get)(asio::use_future);
    io.restart();
    io.run();
    sent.get();
    EXPECT_EQ(got.get(), 5);
}

TEST(async_channel, begins_a_deferred_operation_after_it_has_moved) {
    auto p = spawn(echo);
    asio::io_context io;
    auto c = std::make_unique<async_channel>(io, p);
    auto put = c->async_put(5, asio::deferred);
    auto get = c->async_get<int>(asio::deferred);
    async_channel moved{std::move(*c)};
    c.reset();
    auto sent = std::move(put)(asio::use_future);
    auto got = std::move(get)(asio::use_future);
    io.run();
    sent.get();
    EXPECT_EQ(got.get(), 5);
}

TEST(async_channel, aborts_a_deferred_operation_that_is_called_after_its_end) {
    auto p = spawn(echo);
    asio::io_context io;
    auto c = std::make_unique<async_channel>(io, p);
    auto put = c->async_put(5, asio::deferred);
    auto get = c->async_get<int>(asio::deferred);
    c.reset();
    std::vector<error_code> ended;
    std::move(put)([&](error_code ec) { ended.push_back(ec); });
    std::move(get)([&](error_code ec, int) { ended.push_back(ec); });
    io.run();
    EXPECT_EQ(ended, std::vector<error_code>(2, asio::error::operation_aborted));
    EXPECT_EQ(p.sent().accepted, 0U);
}

#endif

TEST(async_channel, completes_what_was_begun_first_first) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    asio::io_context io;
    async_channel c{io, p};
    constexpr int count = 1000;
    std::vector<int> got;
    for (int i = 0; i < count; ++i) {
        c.async_get<int>([&](error_code ec, int v) {
            EXPECT_FALSE(ec);
            got.push_back(v);
        });
    }
    int sent = 0;
    for (int i = 0; i < count; ++i) {
        c.async_put(i, [&, i](error_code ec) {
            EXPECT_FALSE(ec);
            EXPECT_EQ(sent++, i);
        });
    }
    io.run();
    std::vector<int> expected(count);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(got, expected);
}

TEST(async_channel, sends_what_is_larger_than_its_ring) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    asio::io_context io;
    async_channel c{io, p};
    const std::vector<std::byte> large(1 << 20, std::byte{5});
    auto sent = c.async_put(large, asio::use_future);
    auto got = c.async_receive(asio::use_future);
    io.run();
    sent.get();
    EXPECT_EQ(got.get().as<std::vector<std::byte>>().value(), large);
}

TEST(async_channel, leaves_its_loop_time_beside_a_sender_of_parts_without_end) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        auto& raw = places::detail::state_of::get(c)->end().out();
        std::vector<std::byte> part(48);
        const std::uint64_t whole = 128 << 20;
        std::memcpy(part.data(), &whole, sizeof whole);
        // Each begins a message and drops the one before.
        while (true) (void)raw.try_put(places::shm::continues, 0, part);
    });
    asio::io_context io;
    async_channel c{io, p};
    error_code of_get;
    c.async_get<int>([&](error_code ec, int) { of_get = ec; });
    int turns = 0;
    asio::steady_timer timer{io};
    std::function<void(error_code)> tick = [&](error_code) {
        if (++turns == 10) return c.cancel();
        timer.expires_after(std::chrono::milliseconds{1});
        timer.async_wait(tick);
    };
    tick({});
    io.run();
    EXPECT_EQ(turns, 10);
    EXPECT_EQ(of_get, asio::error::operation_aborted);
    p.kill();
}

TEST(async_channel, ends_its_operations_when_the_other_side_dies) {
    auto p = spawn({.ring_bytes = small_ring}, never_ends);
    asio::io_context io;
    async_channel c{io, p};
    // No futures: the thread that completes one frees its exception, by a count in the C++ library
    // that a sanitizer of threads does not see.
    std::vector<error_code> ended;
    c.async_get<int>([&](error_code ec, int) { ended.push_back(ec); });
    const std::vector<std::byte> large(1 << 16);
    c.async_put(large, [&](error_code ec) { ended.push_back(ec); });
    io.poll();
    ASSERT_EQ(::kill(p.pid(), SIGKILL), 0);
    io.restart();
    io.run();
    EXPECT_EQ(ended, (std::vector<error_code>{errc::peer_dead, errc::peer_dead}));
}

TEST(async_channel, loses_nothing_when_an_operation_is_cancelled) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    asio::cancellation_signal cancel;
    std::vector<error_code> ended;
    c.async_get<int>(asio::bind_cancellation_slot(
        cancel.slot(), [&](error_code ec, int) { ended.push_back(ec); }));
    int got = 0;
    c.async_get<int>([&](error_code ec, int v) {
        EXPECT_FALSE(ec);
        got = v;
    });
    cancel.emit(asio::cancellation_type::total);
    c.async_put(3, [](error_code ec) { EXPECT_FALSE(ec); });
    io.run();
    EXPECT_EQ(ended, (std::vector<error_code>{asio::error::operation_aborted}));
    EXPECT_EQ(got, 3) << "the second takes the message that the first gave up";
}

TEST(async_channel, cancels_what_is_under_way_when_it_goes) {
    auto p = spawn(never_ends);
    asio::io_context io;
    error_code ended;
    {
        async_channel c{io, p};
        c.async_get<int>([&](error_code ec, int) { ended = ec; });
        io.poll();
    }
    io.restart();
    io.run();
    EXPECT_EQ(ended, asio::error::operation_aborted);
    p.kill();
}

TEST(async_channel, lets_its_event_loop_end_and_drops_what_is_under_way_with_it) {
    auto p = spawn(never_ends);
    auto destroyed = std::make_shared<int>(0);
    {
        asio::io_context io;
        // The handler owns the channel, as a coroutine does.
        auto c = std::make_shared<async_channel>(io, p);
        c->async_get<int>([c, destroyed](error_code, int) { FAIL() << "called"; });
        io.poll();
        c.reset();
        EXPECT_EQ(destroyed.use_count(), 2);
    }
    EXPECT_EQ(destroyed.use_count(), 1);
    p.kill();
}

TEST(async_channel, takes_an_end_over_and_closes_it) {
    auto p = spawn({.named = "closing"}, [](places::inbox& in) {
        while (auto next = in.get()) (void)next->from.send(next->content);
    });
    asio::io_context io;
    channel end = places::connect_to_named_place("closing");
    {
        async_channel c{io, std::move(end)};
        async_channel moved{std::move(c)};
        auto sent = moved.async_put(1, asio::use_future);
        auto got = moved.async_get<int>(asio::use_future);
        io.run();
        sent.get();
        EXPECT_EQ(got.get(), 1);
    }
    // The calls are free again.
    places::router r;
    r.post([&] { r.stop(); });
    r.run();
    p.kill();
}

TEST(async_channel, does_not_mind_waits_of_another_kind_on_its_end) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    ASSERT_EQ(p.put(1), status::ok);
    EXPECT_EQ(p.get<int>().value(), 1);
    auto got = c.async_get<int>(asio::use_future);
    io.poll();
    // Waits on the parked end, and takes the message that the operation waited for.
    ASSERT_EQ(p.put(2), status::ok);
    EXPECT_EQ(p.get<int>().value(), 2);
    ASSERT_EQ(p.put(3), status::ok);
    io.restart();
    io.run();
    EXPECT_EQ(got.get(), 3);
}

TEST(async_channel, takes_the_channel_to_the_creator_of_a_place) {
    auto p = spawn([](channel& creator) {
        asio::io_context io;
        long sum = 0;
        {
            async_channel c{io, creator};
            asio::co_spawn(io, sum_of_echoes(c, 3), [&](std::exception_ptr, long s) { sum = s; });
            io.run();
        }
        return static_cast<int>(sum);
    });
    for (int i = 0; i < 3; ++i) ASSERT_EQ(p.put(p.get<int>().value()), status::ok);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0 + 1 + 2}));
}

TEST(async_channel, of_nothing_is_refused) {
    asio::io_context io;
    channel none;
    EXPECT_EQ(error_of([&] { (void)async_channel(io, none); }).code(), errc::bad_argument);
    auto p = spawn(never_ends);
    {
        async_channel c{io, p};
        EXPECT_EQ(error_of([&] { (void)async_channel(io, p); }).code(), errc::bad_argument);
    }
    p.kill();
}

TEST(async_channel, says_misuse_to_another_thread_while_its_loop_waits) {
    auto p = spawn(echo);
    asio::io_context io;
    async_channel c{io, p};
    std::promise<void> waits;
    std::string second;
    c.async_put(std::string("first"), asio::detached);
    c.async_get<std::string>([&](error_code, const std::string&) {
        c.async_get<std::string>([&](error_code, std::string v) { second = std::move(v); });
        asio::post(io, [&] { waits.set_value(); });
    });
    std::thread loop([&] { io.run(); });
    waits.get_future().wait();
    const auto expect_misuse = [](const std::function<void()>& call) {
        try {
            call();
            ADD_FAILURE() << "no misuse";
        } catch (const places::error& e) {
            EXPECT_EQ(e.code(), errc::misuse);
            EXPECT_NE(std::string_view(e.what()).find("waits in the loop of its async_channel"),
                      std::string_view::npos)
                << e.what();
        }
    };
    expect_misuse([&] { (void)p.put(std::string("of another thread")); });
    expect_misuse([&] { (void)p.get<std::string>(); });
    expect_misuse([&] { c.async_put(std::string("of another thread"), asio::detached); });
    asio::post(io, [&] { c.async_put(std::string("second"), asio::detached); });
    loop.join();
    EXPECT_EQ(second, "second");
    // No operation waits: the end may be handed over.
    EXPECT_EQ(p.put(std::string("third")), status::ok);
    EXPECT_EQ(p.get<std::string>().value(), "third");
}
