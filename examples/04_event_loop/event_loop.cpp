// SPDX-License-Identifier: Apache-2.0
// Coroutines of Boost.Asio that wait for channels: in main, and inside two places.
#include <places/net/async_channel.hpp>
#include <places/places.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;  // && waits for both, || for the first
using places::async_channel;

// -- inside a place --

// Answers a word half a second after it has come. The place takes other words meanwhile.
asio::awaitable<void> answer_later(async_channel& to_creator, std::string word) {
    asio::steady_timer timer{to_creator.get_executor(), 500ms};
    co_await timer.async_wait(asio::use_awaitable);
    co_await to_creator.async_put(word + "!", asio::use_awaitable);
}

asio::awaitable<void> answer_all(async_channel& to_creator) {
    for (;;) {
        boost::system::error_code ec;
        auto word = co_await to_creator.async_get<std::string>(
            asio::redirect_error(asio::use_awaitable, ec));
        if (ec) co_return;  // the creator has closed its end
        asio::co_spawn(to_creator.get_executor(), answer_later(to_creator, std::move(word)),
                       asio::detached);
    }
}

void echo(places::channel& to_creator) {
    asio::io_context io;
    async_channel end{io, to_creator};
    asio::co_spawn(io, answer_all(end), asio::detached);
    io.run();  // until no coroutine is left
}

// -- in main --

asio::awaitable<std::string> talk(async_channel& to, std::vector<std::string> words) {
    for (const auto& each : words) co_await to.async_put(each, asio::use_awaitable);
    std::string answers;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) answers += ' ';
        answers += co_await to.async_get<std::string>(asio::use_awaitable);
    }
    co_return answers;
}

asio::awaitable<void> talk_to_both(async_channel& first, async_channel& second) {
    const auto begun = std::chrono::steady_clock::now();
    const std::vector<std::string> three{"one", "two", "three"};
    const std::vector<std::string> two{"a", "b"};
    const auto [numbers, letters] = co_await (talk(first, three) && talk(second, two));
    // Five waits of half a second, all at the same time.
    const auto took = std::chrono::steady_clock::now() - begun;
    std::cout << numbers << '\n' << letters << '\n';
    std::clog << "took " << took / 1ms << " ms\n";

    // Nothing more was asked, so the timer is first. The loser of || is cancelled, and loses
    // nothing.
    asio::steady_timer deadline{co_await asio::this_coro::executor, 100ms};
    const auto first_of_both = co_await (first.async_get<std::string>(asio::use_awaitable) ||
                                         deadline.async_wait(asio::use_awaitable));
    std::cout << (first_of_both.index() == 1 ? "no answer" : "an answer") << std::endl;
}

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    auto first_place = places::spawn(echo);
    auto second_place = places::spawn(echo);
    asio::io_context io;
    async_channel first{io, first_place};
    async_channel second{io, second_place};
    asio::co_spawn(io, talk_to_both(first, second), [](std::exception_ptr failure) {
        if (failure) std::rethrow_exception(failure);  // leaves run()
    });
    io.run();
}
